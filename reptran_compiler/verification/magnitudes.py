"""How large the numbers are that a tensor is computed from: the measure of honest rounding.

A sum of terms rounds relative to its terms, not to what is left of them. So beside a graph runs another one, in
which every operator adds up absolute values: `Conv(|x|; |W|) + |b|` for a convolution, `|a| + |b|` for a
difference. Its value at an element is the *magnitude* there; two evaluation orders of one formula differ by a few unit
roundoffs of it, in a channel of tiny numbers as in any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from reptran_compiler.model.referred import byte_count
from reptran_compiler.runtime import Magnitude, RuntimeFailure, Session, is_float
from reptran_compiler.verification.cutting import prune
from reptran_compiler.verification.protograph import NodeView, ProtoGraph, captured

Array = NDArray[np.float32]

_SIZE = "@size"
#: The first opset with Expand.
_EXPANDS = 8

#: Parameters of so many bytes in all are taken absolute; behind the others of a larger model nothing is known.
MOST_BYTES = 1 << 29


def magnitudes(
    model: ModelProto,
    feeds: Mapping[str, NDArray[np.generic]],
    wanted: Sequence[str],
    *,
    threads: int = 1,
    weights: Mapping[str, NDArray[Any]] = MappingProxyType({}),
) -> dict[str, Magnitude]:
    """The magnitudes of some tensors.

    Args:
        model: the graph; it is not changed.
        feeds: its inputs.
        wanted: tensors of it.
        threads: threads of onnxruntime.
        weights: the values of tensors that the graph reads and does not hold.

    Returns:
        By name, the largest over the first axis. Tensors are left out behind operators whose rounding has no such
        measure (`Softmax`, `Exp`), and all of them where onnxruntime does not run the graph of magnitudes.
    """
    inside = {name for node in model.graph.node for name in node.output}
    graph = ProtoGraph(model, {name: array for name, array in weights.items() if name not in inside})
    made = _Builder(graph)
    varying = [node for node in graph.nodes if any(name not in graph.constants for name in node.outputs)]
    try:
        graph.preload(node.inputs[1] for node in varying if node.op == "Conv")
        for node in varying:
            made.visit(node)
        sized = {name: made.sizes[name] for name in wanted if name in made.sizes}
        if not sized:
            return {}
        part = made.model(list(sized.values()))
        found = Session(part, threads=threads, weights=graph.weights).run(feeds, list(sized.values()))
    except RuntimeFailure:
        return {}
    return {name: Magnitude(_over_first_axis(found[size]), made.operators[name]) for name, size in sized.items()}


def _over_first_axis(values: Array) -> Array:
    return values.max(axis=0, keepdims=True, initial=0.0) if values.ndim else values


class _Builder:
    """The graph of magnitudes under construction.

    Attributes:
        sizes: by tensor, the tensor of its magnitude.
        operators: by tensor, how many operators there are in a row between the inputs and it.
    """

    def __init__(self, graph: ProtoGraph) -> None:
        self.graph = graph
        self.sizes: dict[str, str] = {}
        self.operators: dict[str, int] = {}
        self._nodes: list[NodeProto] = []
        self._stored: dict[str, TensorProto] = {}
        self._bytes = 0
        self._plain = set(graph.constants)
        for value in graph.graph.input:
            if value.name not in graph.inputs:
                continue
            if is_float(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)):
                self._absolute(value.name)
            else:
                self._plain.add(value.name)

    def visit(self, node: NodeView) -> None:
        """Add what gives the magnitudes of a node's outputs; nothing where they have no measure."""
        if node.captured:
            return
        if node.op in ("Shape", "Size") and node.inputs[0] in self.sizes:
            self._copy(node, [self.sizes[node.inputs[0]]], node.outputs)
        elif all(not name or name in self._plain for name in node.inputs):
            self._copy(node, node.inputs, node.outputs)
            if node.op == "Cast" and is_float(helper.tensor_dtype_to_np_dtype(node.attribute("to"))):
                self._absolute(node.outputs[0])  # an image of integers
                self.operators[node.outputs[0]] = 1
                return
        elif (rule := _RULES.get(node.op)) is not None:
            rule(self, node)
            row = 1 + max((self.operators.get(name, 0) for name in node.inputs), default=0)
            self.operators.update({name: row for name in node.outputs if name in self.sizes})
            return
        else:
            return
        self._plain.update(node.outputs)

    def model(self, outputs: Sequence[str]) -> ModelProto:
        """The model that computes some magnitudes."""
        model = self.graph.shell("magnitudes")
        model.graph.node.extend(view.proto for view in self.graph.nodes if view.outputs[0] in self.graph.constants)
        model.graph.node.extend(self._nodes)
        model.graph.input.extend(value for value in self.graph.graph.input if value.name in self.graph.inputs)
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        prune(model, outputs)
        read = {name for node in model.graph.node for name in (*node.input, *captured(node))}
        every = (*self.graph.initializers.values(), *self._stored.values())
        model.graph.initializer.extend(tensor for tensor in every if tensor.name in read)
        return model

    # What rules are made of.

    def size(self, name: str) -> str | None:
        """The magnitude of an operand; None where it has no measure. "" stays ""."""
        if name in self.graph.constants and name not in self.sizes:
            stored = self.graph.initializers.get(name)
            given = self.graph.given.get(name)
            self._bytes += byte_count(stored) if stored is not None else 0 if given is None else given.nbytes
            if self._bytes > MOST_BYTES:
                return None
            self._absolute(name)
        return self.sizes.get(name, None if name else "")

    def operands(self, node: NodeView, places: Sequence[int] | None) -> list[str] | None:
        """A node's operands, with magnitudes for values at the given places (None: all)."""
        found = []
        for place, name in enumerate(node.inputs):
            size = self.size(name) if places is None or place in places else name
            plain = places is not None and place not in places
            if size is None or (plain and name and name not in self._plain):
                return None
            found.append(size)
        return found

    def alike(self, node: NodeView) -> NDArray[Any] | None:
        """The absolute weights of a convolution without groups, where all filters have the same; else None."""
        name = node.inputs[1]
        if name not in self.graph.constants or node.attribute("group", 1) != 1:
            return None
        values = self.graph.value(name)
        if values.ndim < 3 or not is_float(values.dtype) or not len(values):
            return None
        first: NDArray[Any] = np.abs(values[:1]).astype(np.float32)
        same = all(np.array_equal(np.abs(some), first[0]) for some in values)
        return np.broadcast_to(first, values.shape) if same else None

    def put(self, node: NodeView, op: str, inputs: Sequence[str], **changed: float) -> NodeProto:
        """Add an operator with a node's attributes, its outputs the magnitudes of the node's."""
        outputs = [name + _SIZE if name else "" for name in node.outputs]
        made = self._copy(node, inputs, outputs)
        made.op_type = op
        for attribute in made.attribute:
            if attribute.name in changed:
                attribute.f = changed[attribute.name]
        self.sizes.update({name: name + _SIZE for name in node.outputs if name})
        return made

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add an operator of no node's; its output."""
        self._nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def number(self, value: float) -> str:
        """A constant; its name."""
        return self.constant(np.asarray(value, np.float32))

    def constant(self, values: NDArray[Any]) -> str:
        """A constant tensor; its name."""
        name = f"@{len(self._stored)}"
        self._stored[name] = numpy_helper.from_array(values, name)
        return name

    def _absolute(self, name: str) -> None:
        stored, given, real = self.graph.initializers.get(name), self.graph.given.get(name), name
        if (stored is None or stored.data_type != TensorProto.FLOAT) and (given is None or given.dtype != np.float32):
            real = self.add("Cast", [name], f"{name}@real", to=TensorProto.FLOAT)
        self.operators[name] = 0
        self.sizes[name] = self.add("Abs", [real], name + _SIZE)

    def _copy(self, node: NodeView, inputs: Sequence[str], outputs: Sequence[str]) -> NodeProto:
        made = NodeProto()
        made.CopyFrom(node.proto)
        del made.input[:], made.output[:]
        made.input.extend(inputs)
        made.output.extend(outputs)
        self._nodes.append(made)
        return made


_Rule = Callable[[_Builder, NodeView], None]


def _like(op: str = "", places: Sequence[int] | None = None) -> _Rule:
    """The operator itself, or another, on magnitudes."""

    def rule(build: _Builder, node: NodeView) -> None:
        inputs = build.operands(node, places)
        if inputs is not None:
            build.put(node, op or node.op, inputs)

    return rule


def _passed(build: _Builder, node: NodeView) -> None:
    """Operators that are no larger than their first operand."""
    size = build.size(node.inputs[0])
    if size:
        build.sizes[node.outputs[0]] = size


def _bounded(build: _Builder, node: NodeView) -> None:
    """Functions that are nowhere steep: what they are off by is what their operand is, and one rounding near 1."""
    size = build.size(node.inputs[0])
    if size:
        build.sizes[node.outputs[0]] = build.add("Add", [size, build.number(1.0)], node.outputs[0] + _SIZE)


def _convolved(build: _Builder, node: NodeView) -> None:
    """Filters of one size each, as those of signs are, have one magnitude: one of them is convolved."""
    inputs = build.operands(node, None)
    if inputs is None:
        return
    weights = build.alike(node) if len(inputs) == 2 and build.graph.opset >= _EXPANDS else None
    if weights is None:
        build.put(node, node.op, inputs)
        return
    output = node.outputs[0] + _SIZE
    made = build.put(node, node.op, [inputs[0], build.constant(weights[:1])])
    made.output[0] = f"{output} of a filter"
    shape = np.array([1, len(weights), *[1] * (weights.ndim - 2)], np.int64)
    build.add("Expand", [made.output[0], build.constant(shape)], output)


def _product(build: _Builder, node: NodeView) -> None:
    inputs = build.operands(node, None)
    if inputs is not None:
        signed = ("alpha", "beta")
        build.put(node, node.op, inputs, **{name: abs(float(node.attribute(name, 1.0))) for name in signed})


def _quotient(build: _Builder, node: NodeView) -> None:
    if node.inputs[1] in build.graph.constants and (inputs := build.operands(node, None)) is not None:
        build.put(node, "Div", inputs)


def _normalised(build: _Builder, node: NodeView) -> None:
    """(|x| + |mean|) |scale| / sqrt(variance + epsilon) + |bias|."""
    inputs = build.operands(node, None)
    if inputs is None or node.attribute("training_mode", 0) or any(node.outputs[1:]):
        return
    inputs[3] = build.add("Neg", [inputs[3]], f"{node.outputs[0]}@mean")
    build.put(node, node.op, inputs)


def _sloped(build: _Builder, node: NodeView) -> None:
    """Slopes below 1 make a number smaller, and rounding with it."""
    inputs = build.operands(node, None)
    if inputs is not None:
        steep = build.add("Max", [inputs[1], build.number(1.0)], f"{node.outputs[0]}@slope")
        build.sizes[node.outputs[0]] = build.add("Mul", [inputs[0], steep], node.outputs[0] + _SIZE)


def _padded(build: _Builder, node: NodeView) -> None:
    inputs = build.operands(node, (0, 2))
    if inputs is not None:
        build.put(node, node.op, inputs, value=abs(float(node.attribute("value", 0.0))))


_MOVES = (
    "Concat Sum Mean Max Add Mul ConvTranspose MatMul AveragePool GlobalAveragePool GlobalMaxPool DepthToSpace "
    "SpaceToDepth Flatten Transpose MaxPool"
)
_FIRST = "Reshape Squeeze Unsqueeze Expand Tile Gather Slice Split ReduceSum ReduceMean ReduceMax Resize Upsample"
_RULES: Mapping[str, _Rule] = MappingProxyType(
    {
        **dict.fromkeys(_MOVES.split(), _like()),
        **dict.fromkeys(_FIRST.split(), _like(places=(0,))),
        **dict.fromkeys("Relu Clip Identity Neg Abs Dropout Cast ThresholdedRelu".split(), _passed),
        **dict.fromkeys("Sigmoid HardSigmoid Tanh Erf Softplus Softsign HardSwish Swish Gelu Elu".split(), _bounded),
        "Sub": _like("Add"),
        "Min": _like("Max"),
        "ReduceMin": _like("ReduceMax", (0,)),
        "Where": _like(places=(1, 2)),
        "Conv": _convolved,
        "Gemm": _product,
        "Div": _quotient,
        "BatchNormalization": _normalised,
        "PRelu": _sloped,
        "Pad": _padded,
    }
)
