"""`count`: the costs of one model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import onnx

from .elementwise import kind_of
from .kinds import NOT_TRAINABLE, in_order
from .report import CannotCount, CostReport, LayerCost, LayerKind
from .roles import CONVOLUTIONS, find_layers, guess_layers, weight_operand
from .shapes import Shapes
from .trailing import Trails
from .view import STANDARD_DOMAINS, Operator, Root, View, attribute

_WEIGHTS = {"stem": "stem_weights", "classifier": "classifier_weights", "depthwise": "depthwise_weights"}
_BIASES = {"stem": "stem_affine", "classifier": "classifier_bias"}
_NOT_PARAMETERS = frozenset({"Resize", "Upsample", "Pad", "Clip", "Where"})


def count(
    model: onnx.ModelProto,
    layers: Mapping[str, LayerKind] | None = None,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> CostReport:
    """Count parameters, multiply-accumulates, elementwise work and bytes of a model, for one sample.

    Works on canonical graphs and on what the rules make of them; the model is not changed. Every initializer
    counts once, however many nodes read it; multiply-accumulates count for every reader.

    Args:
        model: the model. Data of large initializers is looked at only to tell +-1 weights where ``layers``
        does not.
        layers: what each layer is, by node name. Layers without an entry are guessed (`roles.guess_layers`).
        input_shapes: whole shapes of graph inputs, by name, for axes that the file leaves open. Axis 0 is the
        batch:
            left open it is 1, and whatever its size, costs are those of one sample.

    Raises:
        CannotCount: an axis other than the batch has no size, or a needed shape is neither inferred nor found
        by a
            run of the model.
    """
    return _Count(model, layers, input_shapes).report()


class _Count:
    def __init__(
        self,
        model: onnx.ModelProto,
        kinds: Mapping[str, LayerKind] | None,
        input_shapes: Mapping[str, Sequence[int]] | None,
    ) -> None:
        self.model = model
        self.view = View(model)
        self.shapes = Shapes(model, input_shapes)
        self.slots = find_layers(self.view)
        self.shapes.require(name for index in self.slots for name in _touched(self.view.nodes[index]))
        self.kinds = guess_layers(self.view, self.slots, self.shapes, kinds)
        self.trails = Trails(self.view, self.slots)
        self.parameters: Counter[str] = Counter()
        self.macs: Counter[str] = Counter()
        self.elementwise: Counter[str] = Counter()
        self.costs: list[LayerCost] = []
        self.notes: list[str] = []
        self._counted: set[tuple[str, str]] = set()
        self._weights: set[str] = set()
        self._shared: set[str] = set()
        self._read_again = 0

    def report(self) -> CostReport:
        work: list[tuple[str, str]] = []
        for index in range(len(self.view.nodes)):
            if index in self.slots:
                self._layer(index)
            else:
                self._operator(index)
                found = kind_of(self.view, self.shapes, self.trails, index)
                if found is not None:
                    work.append(found)
            self.trails.visit(index)
        self.shapes.require(name for _, name in work)
        for kind, name in work:
            self.elementwise[kind] += self.shapes.per_sample(self.shapes.size(name))
        if self._shared:
            self.notes.append(
                f"{len(self._shared)} per-channel initializers have several readers and are counted once"
                " (exporters merge tensors of equal value)"
            )
        total, peak = self._activations()
        return CostReport(
            layers=tuple(self.costs),
            parameters={kind: self.parameters[kind] for kind in in_order("parameters", self.parameters)},
            macs={kind: self.macs[kind] for kind in in_order("macs", self.macs)},
            bops=sum(layer.bops for layer in self.costs),
            elementwise={kind: self.elementwise[kind] for kind in in_order("elementwise", self.elementwise)},
            initializer_bytes=self._stored_bytes(),
            activation_bytes=total,
            peak_activation_bytes=peak,
            read_again=self._read_again,
            notes=tuple(dict.fromkeys(self.notes)),
        )

    # -- layers ----------------------------------------------------------------------------------------------

    def _layer(self, index: int) -> None:
        node, slot, kind = self.view.nodes[index], self.slots[index], self.kinds[index]
        weight, data, output = node.input[slot], node.input[1 - slot], node.output[0]
        shape = self.shapes.shape(weight)
        root = self.view.root(weight)
        if root is None:
            raise CannotCount(f"the weight {weight!r} of layer {self.view.names[index]!r} has no initializer")
        is_convolution = node.op_type in CONVOLUTIONS
        kernel = "x".join(map(str, shape[2:])) if is_convolution else "linear"
        middle = f"_{kernel}" if kind.binary else ""
        plain = "binary" if kind.binary else "real"
        has_bias = node.op_type in {"Conv", "ConvTranspose", "Gemm"} and len(node.input) > 2
        bias = node.input[2] if has_bias else ""
        cost = LayerCost(
            name=self.view.names[index],
            op=node.op_type,
            role=kind.role,
            binary=kind.binary,
            kernel=kernel,
            group=int(attribute(node, "group", 1)) if is_convolution else 1,
            weight_shape=shape,
            input_shape=self.shapes.shape(data),
            output_shape=self.shapes.shape(output),
            weights=math.prod(shape),
            bias=self._size(bias),
            macs=self.shapes.per_sample(self._layer_macs(node, data, weight, output)),
            parameter=root.name,
            stored_bytes=root.bytes,
        )
        self.costs.append(cost)
        self.macs[kind.role if kind.role in _WEIGHTS else plain + middle] += cost.macs
        if root.name not in self._weights:
            self._weights.add(root.name)
            self.parameters[_WEIGHTS.get(kind.role, f"{plain}_weights{middle}")] += max(root.size, cost.weights)
        if bias:
            self._parameter(_BIASES.get(kind.role, "layer_biases"), bias)

    def _layer_macs(self, node: Operator, data: str, weight: str, output: str) -> int:
        shape = self.shapes.shape(weight)
        if node.op_type == "ConvTranspose":
            return self.shapes.size(data) * math.prod(shape[1:])
        if node.op_type in CONVOLUTIONS:
            return self.shapes.size(output) * math.prod(shape[1:])
        return self.shapes.size(output) * self._inner(node)

    def _inner(self, node: Operator) -> int:
        """The length of the sums of a Gemm or MatMul."""
        shape = self.shapes.shape(node.input[0])
        if node.op_type == "Gemm" and attribute(node, "transA", 0):
            return shape[0]
        return shape[-1]

    # -- everything else -------------------------------------------------------------------------------------

    def _operator(self, index: int) -> None:
        """Count the parameters of a node that is no layer, and the products of two maps."""
        node = self.view.nodes[index]
        if node.output and node.output[0] in self.view.static:
            return
        if node.domain not in STANDARD_DOMAINS:
            self.notes.append(f"{node.domain}::{node.op_type} is counted as one operation an output element")
        if node.attribute and any(entry.HasField("g") or entry.graphs for entry in node.attribute):
            self.notes.append(f"the subgraphs of {node.op_type} {self.view.names[index]!r} are not counted")
        if node.op_type == "BatchNormalization":
            self._batch_norm(node)
        elif node.op_type == "PRelu":
            self._parameter("prelu_slopes", node.input[1])
        elif node.op_type in {"Add", "Sub", "Mul", "Div"}:
            self._arithmetic(node)
        elif node.op_type in {"MatMul", "Gemm", "Conv"} and weight_operand(self.view, node) is None:
            self.shapes.require((*node.input[:2], node.output[0]))
            filters = self.shapes.shape(node.input[1])
            length = math.prod(filters[1:]) if node.op_type == "Conv" else self._inner(node)
            self.macs["other"] += self.shapes.per_sample(self.shapes.size(node.output[0]) * length)
        elif index not in self.view.absorbed and node.op_type not in _NOT_PARAMETERS:
            for name in node.input:
                root = self.view.root(name) if name in self.view.static else None
                if root is not None and root.is_float and root.size > 1:
                    self._parameter("other_parameters", name)

    def _batch_norm(self, node: Operator) -> None:
        trail = self.trails.behind(node.input[0])
        behind_stem = trail is not None and self.kinds[trail.layer].role == "stem"
        for name in node.input[1:3]:
            self._parameter("stem_affine" if behind_stem else "bn_affine", name)
        for name in node.input[3:5]:
            self._parameter("stem_statistics" if behind_stem else "bn_statistics", name)

    def _arithmetic(self, node: Operator) -> None:
        operands = self.view.operands(node)
        if operands is None or node.output[0] in self.view.binarised:
            return
        data, constant = operands
        root = self.view.root(constant)
        if root is None:
            return
        trail = self.trails.behind(data)
        if trail is None and root.size == 1:
            return
        if sum(extent > 1 for extent in root.shape) > 1:
            self._parameter("other_parameters", constant)
            return
        additive = node.op_type in {"Add", "Sub"}
        if trail is None:
            self._parameter("learnable_biases" if additive else "other_per_channel", constant)
            return
        kind = self.kinds[trail.layer]
        if additive:
            self._parameter(_BIASES.get(kind.role, "layer_biases"), constant)
        elif kind.scale_is_factored and trail.stage == 0:
            self._parameter("factored_scales", constant)
        else:
            self._parameter("stem_affine" if kind.role == "stem" else "other_per_channel", constant)

    def _size(self, name: str) -> int:
        root: Root | None = self.view.root(name)
        return 0 if root is None else root.size

    def _parameter(self, kind: str, name: str) -> None:
        """Count the initializer behind a constant, once in each kind."""
        root = self.view.root(name)
        if root is None:
            return
        if (kind, root.name) in self._counted:
            self._shared.add(root.name)
            self._read_again += root.size if kind not in NOT_TRAINABLE else 0
            return
        self._counted.add((kind, root.name))
        self.parameters[kind] += root.size

    # -- bytes -----------------------------------------------------------------------------------------------

    def _stored_bytes(self) -> int:
        roots = (self.view.root(name) for name in self.view.constants)
        return sum(root.bytes for root in roots if root is not None)

    def _activations(self) -> tuple[int, int]:
        """(sum, peak) of the bytes of the tensors between, for one sample, in the order of the nodes."""
        view, static, sizes = self.view, self.view.static, self.shapes.bytes
        last = {name: index for index, node in enumerate(view.nodes) for name in node.input}
        last.update(dict.fromkeys(view.outputs, len(view.nodes)))
        freed = [0] * (len(view.nodes) + 1)
        for name, index in last.items():
            if name and name not in static:
                freed[index] += sizes(name)
        alive = sum(sizes(name) for name in view.inputs)
        total, peak = 0, alive
        for index, node in enumerate(view.nodes):
            made = [name for name in node.output if name and name not in static]
            size = sum(map(sizes, made))
            total += size
            alive += size
            peak = max(peak, alive)
            alive -= freed[index] + sum(sizes(name) for name in made if name not in last)
        return total, peak


def _touched(node: Operator) -> tuple[str, ...]:
    return (*node.input[:2], node.output[0])
