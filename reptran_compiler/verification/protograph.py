"""A light walk over an ONNX graph: who makes a tensor, who reads it, what is constant, what runs when.

The judge reads models through this and nothing else, so that it shares no view of a graph with the compiler
it judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from reptran_compiler.model.referred import LARGE_TENSOR, array_of, byte_count, can_refer, is_vast
from reptran_compiler.runtime import RuntimeFailure, Session

Array = NDArray[Any]

#: The first IR version in which initializers need not be graph inputs as well.
_FREE_INITIALIZERS = 4

_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "Multinomial", "RandomNormalLike", "RandomUniformLike", "Bernoulli"}
)


class MalformedGraph(Exception):
    """The graph is not one: a tensor nobody makes, made twice, or a circle."""


@dataclass(frozen=True, eq=False)
class NodeView:
    """A node with its inputs resolved.

    Attributes:
        proto: the node itself.
        index: its position in the file.
        op: the operator type, with its domain in front where that is not ONNX' own.
        name: its name; unnamed nodes get `op#index`, which no other node has.
        inputs: the input names, "" where an optional one is absent.
        outputs: the output names, "" where an optional one is not asked for.
        captured: tensors of the outer graph that its subgraphs (If, Loop, Scan) read.
    """

    proto: NodeProto
    index: int
    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    captured: tuple[str, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """Every tensor it reads, subgraphs included, a tensor as often as it is named."""
        return tuple(name for name in (*self.inputs, *self.captured) if name)

    def input(self, position: int) -> str:
        """The name of an input, "" where it is absent."""
        return self.inputs[position] if position < len(self.inputs) else ""

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute (strings as str), or the default."""
        for attribute in self.proto.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return default


class ProtoGraph:
    """The main graph of a model, indexed.

    Args:
        model: the model; it is only read.
        weights: the values of tensors that it reads and does not hold; they count as constants.

    Raises:
        MalformedGraph: a tensor has two makers or none, or the nodes form a circle.

    Attributes:
        model: the model.
        graph: its main graph.
        initializers: the stored tensors by name.
        inputs: names of the graph inputs that have to be fed.
        outputs: names of the graph outputs.
        nodes: all nodes, each behind the makers of what it reads, otherwise in the file's order.
        maker: the node that makes a tensor, by tensor name.
        constants: tensors that do not depend on any graph input: initializers and what is computed from them
            alone.
        given: the values of constants that the model does not hold.
    """

    def __init__(self, model: ModelProto, weights: Mapping[str, Array] = MappingProxyType({})) -> None:
        self.model = model
        self.given = weights
        self.graph: GraphProto = model.graph
        self.initializers: Mapping[str, TensorProto] = {tensor.name: tensor for tensor in self.graph.initializer}
        self.inputs = tuple(v.name for v in self.graph.input if v.name not in self.initializers)
        self.outputs = tuple(value.name for value in self.graph.output)
        views = [_view(node, index) for index, node in enumerate(self.graph.node)]
        self.maker: dict[str, NodeView] = {}
        given = {*self.inputs, *self.initializers, *weights}
        for view in views:
            for name in view.outputs:
                if name and (name in self.maker or name in given):
                    raise MalformedGraph(f"tensor {name!r} is made twice, by node {view.name!r} too")
                if name:
                    self.maker[name] = view
        self.nodes: tuple[NodeView, ...] = tuple(self._ordered(views))
        self.constants = self._find_constants()
        self._values: dict[str, Array] = dict(weights)
        self._vast = is_vast(model)

    @cached_property
    def readers(self) -> Mapping[str, tuple[NodeView, ...]]:
        """The nodes that read a tensor, one entry for each time they name it."""
        found: dict[str, list[NodeView]] = {}
        for node in self.nodes:
            for name in node.reads:
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @cached_property
    def tensors(self) -> frozenset[str]:
        """Every tensor name of the main graph."""
        return frozenset([*self.inputs, *self.initializers, *self.given, *self.maker])

    @cached_property
    def opset(self) -> int:
        """The version of ONNX' own operators that the model uses."""
        for entry in self.model.opset_import:
            if entry.domain in ("", "ai.onnx"):
                return int(entry.version)
        return 1

    def value(self, name: str) -> Array:
        """The value of a constant tensor, evaluated when it is not stored.

        Raises:
            KeyError: the tensor is not constant.
            RuntimeFailure: it cannot be evaluated.
        """
        if name in self._values:
            return self._values[name]
        found = self.values([name])
        if not self._vast:
            self._values.update(found)
        return found[name]

    def preload(self, names: Iterable[str]) -> None:
        """Evaluate several constant tensors at once, for `value` to find.

        Raises:
            RuntimeFailure: one of them cannot be evaluated.
        """
        wanted = [name for name in dict.fromkeys(names) if name in self.constants and name not in self._values]
        if not self._vast:
            self._values.update(self.values(wanted))

    def values(self, names: Sequence[str]) -> dict[str, Array]:
        """The values of several constant tensors, those that are computed by one run of their makers.

        Raises:
            KeyError: one of them is not constant.
            RuntimeFailure: one of them cannot be evaluated.
        """
        found: dict[str, Array] = {}
        computed = []
        for name in names:
            if name not in self.constants:
                raise KeyError(name)
            if name in self.given:
                found[name] = self.given[name]
                continue
            if name in self.initializers:
                found[name] = array_of(self.initializers[name])
                continue
            maker = self.maker[name]
            if maker.op == "Constant" and isinstance(maker.attribute("value"), TensorProto):
                found[name] = numpy_helper.to_array(maker.attribute("value"))
            else:
                computed.append(name)
        if computed:
            found.update(self._computed(computed))
        return found

    def _computed(self, names: Sequence[str]) -> dict[str, Array]:
        """The values of constants that nodes make; onnxruntime takes large stored tensors as they lie in memory."""
        model = self.subgraph(names, light=True)
        here = {tensor.name for tensor in model.graph.initializer}
        read = {name for node in model.graph.node for name in (*node.input, *captured(node))} - here
        large = {name: self._stored(name) for name in sorted(read & self.initializers.keys())}
        return Session(model, outputs=names, weights={**self.given, **large}).run({}, names)

    def _stored(self, name: str) -> Array:
        return self._values[name] if name in self._values else array_of(self.initializers[name])

    @cached_property
    def weights(self) -> Mapping[str, Array]:
        """The large constants that are computed with, by name: evaluated once, for all sessions on parts of the graph.

        Of vast models, and where onnxruntime cannot evaluate them, there are none but
        those given: they stay where they are.
        """
        if self._vast:
            return self.given
        varying = [node for node in self.nodes if any(name not in self.constants for name in node.outputs if name)]
        read = dict.fromkeys(name for node in varying for name in node.reads if name in self.constants)
        stored = (name for name in read if name in self.initializers)
        large = [name for name in stored if byte_count(self.initializers[name]) >= LARGE_TENSOR]
        try:
            self.preload([*large, *(name for name in read if name in self.maker)])
        except RuntimeFailure:
            self.preload(large)
        known = {name: self._values[name] for name in read if name in self._values}
        plain = {
            name: each for name, each in known.items() if each.nbytes >= LARGE_TENSOR and each.dtype.isbuiltin == 1
        }
        return {**plain, **self.given}

    def subgraph(
        self, outputs: Sequence[str], inputs: Mapping[str, onnx.ValueInfoProto] | None = None, *, light: bool = False
    ) -> ModelProto:
        """A model of what is needed to compute `outputs`, with `inputs` fed instead of computed.

        Args:
            outputs: the tensors.
            inputs: what is fed.
            light: whether large stored tensors that are read are left out.

        Raises:
            KeyError: an output depends on a graph input that is not in `inputs`.
        """
        given = dict(inputs or {})
        needed: dict[int, NodeView] = {}
        stored: dict[str, TensorProto] = {}
        pending = [name for name in outputs if name not in given]
        while pending:
            name = pending.pop()
            if name in self.given:
                continue
            if name in self.initializers:
                stored[name] = self.initializers[name]
            elif self.maker[name].index not in needed:
                view = self.maker[name]
                needed[view.index] = view
                pending.extend(read for read in view.reads if read not in given)
        part = self.shell("part")
        part.graph.node.extend(view.proto for view in self.nodes if view.index in needed)
        part.graph.initializer.extend(
            tensor
            for name, tensor in stored.items()
            if not light or name in outputs or not can_refer(tensor, len(tensor.raw_data))
        )
        part.graph.input.extend(given.values())
        part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        return part

    def above(self, name: str) -> frozenset[str]:
        """A tensor and every one that it is computed from."""
        found, pending = set[str](), [name]
        while pending:
            here = pending.pop()
            if here not in found:
                found.add(here)
                pending += self.maker[here].reads if here in self.maker else ()
        return frozenset(found)

    def shell(self, name: str) -> ModelProto:
        """An empty model with this one's opsets and functions; initializers need not be inputs in it."""
        version = max(self.model.ir_version, _FREE_INITIALIZERS)
        shell = ModelProto(ir_version=version, opset_import=self.model.opset_import)
        shell.functions.extend(self.model.functions)
        shell.graph.name = name
        return shell

    def _ordered(self, views: Sequence[NodeView]) -> Iterator[NodeView]:
        known = {*self.inputs, *self.initializers, *self.given}
        waiting: dict[int, int] = {}
        unlocks: dict[int, list[int]] = {}
        for view in views:
            makers = set()
            for name in view.reads:
                if name in known:
                    continue
                if name not in self.maker:
                    raise MalformedGraph(f"node {view.name!r} reads {name!r}, which nothing makes")
                makers.add(self.maker[name].index)
            waiting[view.index] = len(makers)
            for maker in makers:
                unlocks.setdefault(maker, []).append(view.index)
        ready = [index for index, count in waiting.items() if count == 0]
        heapify(ready)
        done = 0
        while ready:
            index = heappop(ready)
            done += 1
            yield views[index]
            for reader in unlocks.get(index, ()):
                waiting[reader] -= 1
                if waiting[reader] == 0:
                    heappush(ready, reader)
        if done != len(views):
            stuck = {index for index, count in waiting.items() if count > 0}
            raise MalformedGraph(f"node {self._in_circle(views, stuck)!r} depends on itself")

    def _in_circle(self, views: Sequence[NodeView], stuck: Set[int]) -> str:
        """The name of a node that depends on itself, among nodes of which each waits for another of them."""
        here, seen = min(stuck), set[int]()
        while here not in seen:
            seen.add(here)
            makers = (self.maker[name].index for name in views[here].reads if name in self.maker)
            here = next(maker for maker in makers if maker in stuck)
        return views[here].name

    def _find_constants(self) -> frozenset[str]:
        known = {*self.initializers, *self.given}
        for node in self.nodes:
            if node.op not in _RANDOM and all(name in known for name in node.reads):
                known.update(name for name in node.outputs if name)
        return frozenset(known)


def _view(node: NodeProto, index: int) -> NodeView:
    op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    name = node.name or f"{op}#{index}"
    return NodeView(node, index, op, name, tuple(node.input), tuple(node.output), captured(node))


def captured(node: NodeProto) -> tuple[str, ...]:
    """The tensors of the outer graph that a node's subgraphs read, each once."""
    return tuple(dict.fromkeys(name for body in subgraphs(node) for name in _free(body)))


def subgraphs(node: NodeProto) -> list[GraphProto]:
    """The graphs that a node carries in its attributes."""
    found = []
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            found.append(attribute.g)
        elif attribute.type == AttributeProto.GRAPHS:
            found.extend(attribute.graphs)
    return found


def _free(body: GraphProto) -> list[str]:
    """The names that a subgraph reads and does not define."""
    known = {v.name for v in body.input} | {t.name for t in body.initializer}
    free: list[str] = []
    for node in body.node:
        inner = [name for part in subgraphs(node) for name in _free(part)]
        free.extend(name for name in (*node.input, *inner) if name and name not in known)
        known.update(node.output)
    free.extend(value.name for value in body.output if value.name not in known)
    return free


def scalar(array: Array) -> float | None:
    """The one number that an array consists of, None when it has none or several different ones."""
    if array.size == 0:
        return None
    first = np.asarray(array).reshape(-1)[0]
    return float(first) if bool((array == first).all()) else None
