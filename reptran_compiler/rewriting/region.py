"""Regions: parts of a graph as models of their own, so that onnxruntime can run what a rule read and wrote."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto, helper

from reptran_compiler.model import Constant, Graph, Node, Tensor, captured, node_proto, tensor_proto
from reptran_compiler.model.referred import array_of
from reptran_compiler.runtime import Session, TensorFact, element_type, is_float, tensor_facts

Array = NDArray[Any]

#: What a region's scalars are taken for special points up to, in size and in number.
_LARGEST_POINT, _LARGEST_LARGE = 16.0, 1e6
_MOST_SCALARS = 16
#: With fewer numbers to read, an operator does not take as long as the start of threads.
_WORTH_THREADS = 1 << 18
#: Inputs of which an operator reads the shape or the type alone.
_UNREAD_VALUES: Mapping[str, int] = {"Shape": 0, "Size": 0, "CastLike": 1}


@dataclass
class Region:
    """A part of a graph, its tensors renamed in the order in which they are met: equal parts are equal models.

    Attributes:
        model: the part; its graph inputs have types once it was run.
        inputs: the graph's tensors that it reads, by their names in the model.
        outputs: the names of its outputs in the model.
    """

    model: ModelProto
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    _session: Session | None = field(default=None, repr=False)

    @cached_property
    def key(self) -> bytes:
        """A digest that is equal for equal models."""
        del self.model.graph.input[:]
        return hashlib.sha256(self.model.SerializeToString(deterministic=True)).digest()

    def shapes(self, facts: Sequence[TensorFact]) -> dict[str, TensorFact]:
        """Shape and type of all tensors of the part, for inputs of some shapes and types, without running it.

        Raises:
            RuntimeFailure: shape inference does not tell them, and onnxruntime refuses the part.
        """
        feeds = {
            name: np.broadcast_to(np.zeros((), fact.dtype), fact.shape)
            for name, fact in zip(self.inputs, facts, strict=True)
        }
        self._declare(feeds)
        return tensor_facts(self.model, feeds)

    def run(self, values: Mapping[int, Array], threads: int = 1) -> list[Array]:
        """Run the part.

        Args:
            values: an array for each of `inputs`, by the tensor's `id`.
            threads: threads of onnxruntime, where it is first run on so much that they are worth their start.

        Raises:
            RuntimeFailure: onnxruntime refuses the part.
        """
        feeds = {name: values[id(tensor)] for name, tensor in self.inputs.items()}
        if self._session is None:
            self._declare(feeds)
            much = sum(array.size for array in feeds.values()) >= _WORTH_THREADS
            self._session = Session(self.model, threads=threads if much else 1)
        found = self._session.run(feeds, self.outputs)
        return [found[name] for name in self.outputs]

    def _declare(self, feeds: Mapping[str, Array]) -> None:
        """Say of the part what its inputs are."""
        _ = self.key
        del self.model.graph.input[:]
        for name, array in feeds.items():
            kind = element_type(array.dtype)
            # The length of a Reshape's target or a Resize's sizes tells the rank of what it makes.
            shape = [None] * array.ndim if is_float(array.dtype) or array.ndim > 1 else list(array.shape)
            self.model.graph.input.append(helper.make_tensor_value_info(name, kind, shape))


def extract(
    graph: Graph,
    outputs: Sequence[Tensor],
    stop: Callable[[Tensor], bool],
    fed: Callable[[Constant], bool] = lambda tensor: False,
) -> Region:
    """The part of a graph that computes some tensors.

    Args:
        graph: the graph.
        outputs: the tensors.
        stop: whether a variable tensor is an input of the part. Graph inputs, and what only a Shape reads,
            always are.
        fed: whether a stored tensor is an input of the part.
    """
    order, cut = _walk(outputs, stop)
    computed = {id(tensor) for node in order for tensor in node.outputs}
    names: dict[int, str] = {}
    inputs: dict[str, Tensor] = {}
    keep = any(_has_body(node) for node in order)
    model = ModelProto(ir_version=max(graph.model.ir_version, 4), opset_import=graph.model.opset_import)
    model.functions.extend(graph.model.functions)
    model.graph.name = "region"

    def name_of(tensor: Tensor) -> str:
        if tensor.name == "":
            return ""
        if id(tensor) not in names:
            names[id(tensor)] = tensor.name if keep else f"t{len(names)}"
            if isinstance(tensor, Constant) and not fed(tensor):
                model.graph.initializer.append(tensor_proto(tensor, names[id(tensor)]))
            elif id(tensor) in cut or id(tensor) not in computed:
                inputs[names[id(tensor)]] = tensor
        return names[id(tensor)]

    for node in order:
        proto = node_proto(node)
        proto.name, proto.doc_string = "", ""
        del proto.metadata_props[:], proto.input[:], proto.output[:]
        proto.input.extend(name_of(tensor) for tensor in node.inputs)
        proto.output.extend("" if id(tensor) in cut else name_of(tensor) for tensor in node.outputs)
        model.graph.node.append(proto)
    for tensor in _captured(graph, order) if keep else ():
        name_of(tensor)
    ends = []
    for place, tensor in enumerate(outputs):
        ends.append(f"end{place}")
        model.graph.node.append(helper.make_node("Identity", [name_of(tensor)], [ends[-1]]))
        model.graph.output.append(ValueInfoProto(name=ends[-1]))
    return Region(model, inputs, tuple(ends))


def makers(tensor: Tensor) -> list[Node]:
    """The nodes that compute a tensor from stored tensors and graph inputs, makers before readers."""
    return _walk([tensor], lambda each: False)[0]


def fingerprint(graph: Graph) -> bytes:
    """A digest that is equal for graphs of equal operators and connections, whatever names they have."""
    region = extract(graph, graph.outputs, lambda tensor: False)
    return hashlib.sha256(region.key + " ".join(tensor.name for tensor in region.inputs.values()).encode()).digest()


def special_points(model: ModelProto, least: float = 0.0) -> list[float]:
    """The scalars that a region holds, stored or as attributes, and numbers on both sides of them.

    Args:
        model: the region.
        least: 0 for scalars of up to 16 (numbers beyond would drown the region's rounding); else for those between
            that and a million.
    """
    stored = (array_of(t) for t in model.graph.initializer if math.prod(t.dims) == 1)
    numbers = [float(value.reshape(-1)[0]) for value in stored if is_float(value.dtype)]
    numbers += [float(a.f) for node in model.graph.node for a in node.attribute if a.type == a.FLOAT]
    most = _LARGEST_LARGE if least else _LARGEST_POINT
    near = [number for number in dict.fromkeys(numbers) if least <= abs(number) <= most]
    return [point for number in near[:_MOST_SCALARS] for point in _around(number)]


def _around(number: float) -> tuple[float, ...]:
    """A number, the next ones in float32, and others on both sides."""
    up, down = (float(np.nextafter(np.float32(number), np.float32(to))) for to in (np.inf, -np.inf))
    return number, 1.25 * number, 0.75 * number, up, down


def _walk(outputs: Sequence[Tensor], stop: Callable[[Tensor], bool]) -> tuple[list[Node], set[int]]:
    """The nodes that compute some tensors, makers first, and the ids of the tensors that stopped the walk."""
    order: list[Node] = []
    done: set[int] = set()
    cut: set[int] = set()

    def makers(tensors: Iterable[Tensor]) -> list[tuple[Node, bool]]:
        found = []
        for tensor in tensors:
            if isinstance(tensor, Constant) or not tensor.inputs:
                continue
            if stop(tensor):
                cut.add(id(tensor))
            else:
                found.append((tensor.inputs[0], False))
        return found

    todo = list(reversed(makers(outputs)))
    while todo:
        node, ready = todo.pop()
        if ready:
            order.append(node)
        elif id(node) not in done:
            done.add(id(node))
            todo.append((node, True))
            unread = _UNREAD_VALUES.get(node.op_type)
            todo += reversed(makers(tensor for place, tensor in enumerate(node.inputs) if place != unread))
    return order, cut


def _captured(graph: Graph, nodes: Sequence[Node]) -> list[Tensor]:
    """The graph's tensors that the bodies of some nodes read."""
    read = {name for node in nodes if node.source is not None for name in captured(node.source)}
    tensors = {tensor.name: tensor for tensor in graph.inputs}
    tensors |= {tensor.name: tensor for node in graph.nodes for tensor in (*node.inputs, *node.outputs)}
    stored = (tensor for tensor in graph.model.graph.initializer if tensor.name in graph.pinned)
    tensors |= {tensor.name: Constant(tensor.name, array_of(tensor)) for tensor in stored}
    return [tensors[name] for name in sorted(read & graph.pinned & tensors.keys())]


def _has_body(node: Node) -> bool:
    return node.source is not None and any(a.HasField("g") or a.graphs for a in node.source.attribute)
