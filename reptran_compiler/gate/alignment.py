"""Walking two graphs in parallel, from their outputs back: are they one graph, whatever its names and parameters?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, numpy_helper

from reptran_compiler.gate.operands import Use, is_trained, use_of
from reptran_compiler.verification.protograph import NodeView, ProtoGraph

Array = NDArray[Any]

#: How many roundings of its largest number a stored parameter may be off by.
_ROUNDINGS = 32
_EPSILONS = {"float64": 2.0**-52, "float16": 2.0**-10, "bfloat16": 2.0**-7}


class Diverges(Exception):
    """Two graphs are not one; the message names the first place, coming from the outputs."""


@dataclass(frozen=True)
class Operand:
    """A stored tensor of one graph at the place of one of the other.

    Attributes:
        node: index of the node that reads it, in the first graph's file; -1 for a graph output.
        position: as which input (or output).
        name, reference: the tensors in the first and in the second graph.
        use: what it is used as.
        trained: whether training may change it.
    """

    node: int
    position: int
    name: str
    reference: str
    use: Use
    trained: bool


@dataclass(frozen=True)
class Alignment:
    """How the nodes and tensors of one graph correspond to those of another.

    Attributes:
        first, second: the graphs.
        nodes: pairs of nodes.
        tensors: the tensors that nodes make, by name in the first graph, with their name in the second.
        operands: stored tensors, place by place.
    """

    first: ProtoGraph
    second: ProtoGraph
    nodes: list[tuple[NodeView, NodeView]] = field(default_factory=list)
    tensors: dict[str, str] = field(default_factory=dict)
    operands: list[Operand] = field(default_factory=list)

    @property
    def named(self) -> bool:
        """Whether all names in the first graph are those of the second."""
        return all(mine == theirs for space in self.names for mine, theirs in space)

    @property
    def names(self) -> tuple[list[tuple[str, str]], ...]:
        """Pairs of names: of nodes, of tensors that nodes make, of stored tensors."""
        stored = dict.fromkeys((each.name, each.reference) for each in self.operands)
        nodes = [(mine.proto.name, theirs.proto.name) for mine, theirs in self.nodes]
        return nodes, list(self.tensors.items()), list(stored)

    def different_values(self) -> Iterator[str]:
        """Which trained parameters have other values than those of the second graph, rounding aside, in words."""
        for name, wanted in dict.fromkeys((each.name, each.reference) for each in self.operands if each.trained):
            mine, theirs = stored_value(self.first, name), stored_value(self.second, wanted)
            if not _equal(mine, theirs) and not _rounded(mine, theirs):
                yield f"stored tensor {name!r} is not that of the compilation: {_first_difference(mine, theirs)}"


def align(first: ProtoGraph, second: ProtoGraph) -> Alignment:
    """Pair the graphs node by node. Their graph inputs and outputs have equal names.

    Operators, attributes and the order of inputs have to be equal, and stored tensors in shape and type. Values have
    to be equal where training does not change them (shapes, axes, bounds, single numbers of formulas). Names of nodes
    and tensors mean nothing, unless most of them are kept: then one in the place of another is a divergence.

    Args:
        first: the graph to judge.
        second: the graph that it should be.

    Raises:
        Diverges: they are not one graph.
    """
    walk = _Walk(first, second)
    walk.run()
    _see_names(walk.made)
    _see_sharing(walk.made)
    return walk.made


def stored_value(graph: ProtoGraph, name: str) -> Array:
    """The value of a stored tensor: an initializer, or what a Constant node holds."""
    return graph.value(name)


def is_stored(graph: ProtoGraph, name: str) -> bool:
    """Whether a tensor is an initializer, or what a Constant node holds."""
    return name in graph.initializers or (name in graph.maker and graph.maker[name].op == "Constant")


class _Walk:
    def __init__(self, first: ProtoGraph, second: ProtoGraph) -> None:
        self.first, self.second = first, second
        self.made = Alignment(first, second)
        self._back: dict[str, str] = {}
        self._pending: list[tuple[NodeView | None, int, str, str, Use]] = []

    def run(self) -> None:
        for position, name in enumerate(self.second.outputs):
            self._pending.append((None, position, name, name, Use.FIXED))
        while self._pending:
            self._pair(*self._pending.pop())

    def _pair(self, reader: NodeView | None, position: int, name: str, wanted: str, use: Use) -> None:
        """Pair two tensors that stand at one place."""
        place = f"graph output {name!r}" if reader is None else f"input {position} of {_called(reader)}"
        if not name or not wanted:
            if name or wanted:
                raise Diverges(f"{place} is {name or 'left out'!r} instead of {wanted or 'left out'!r}")
            return
        if is_stored(self.first, name) and is_stored(self.second, wanted):
            self._store(reader, position, name, wanted, use, place)
            return
        known, back = self.made.tensors.get(name), self._back.get(wanted)
        if known == wanted and back == name:
            return
        found = f"{place} is {_origin(self.first, name)}"
        if known is not None or back is not None:
            raise Diverges(f"{found}; in the compilation, {_origin(self.second, wanted)} stands there")
        node, other = self.first.maker.get(name), self.second.maker.get(wanted)
        if node is None or other is None:
            fed = name == wanted and name in self.first.inputs and wanted in self.second.inputs
            if not fed:
                raise Diverges(f"{found} instead of {_origin(self.second, wanted)}")
            return
        if is_stored(self.first, name) or is_stored(self.second, wanted) or node.op != other.op:
            raise Diverges(f"{found} instead of {_origin(self.second, wanted)}")
        self._nodes(node, other, use)
        if name not in self.made.tensors:
            raise Diverges(f"{place} is another output of {_called(node)}")

    def _nodes(self, node: NodeView, other: NodeView, use: Use) -> None:
        """Pair two nodes of one operator type, and what they read."""
        if difference := _difference(self.first, node, self.second, other):
            raise Diverges(f"{_called(node)}: {difference}")
        self.made.nodes.append((node, other))
        for mine, theirs in zip(_trimmed(node.outputs), _trimmed(other.outputs), strict=True):
            if mine:
                self.made.tensors[mine] = theirs
                self._back[theirs] = mine
        pairs = zip(_trimmed(node.inputs), _trimmed(other.inputs), strict=True)
        for position, (mine, theirs) in enumerate(pairs):
            self._pending.append((node, position, mine, theirs, use_of(self.second, other, position, use)))
        self._pending.extend((node, -1, mine, mine, Use.FIXED) for mine in node.captured)

    def _store(self, reader: NodeView | None, position: int, name: str, wanted: str, use: Use, place: str) -> None:
        mine, theirs = stored_value(self.first, name), stored_value(self.second, wanted)
        if mine.dtype != theirs.dtype or mine.shape != theirs.shape:
            kinds = [f"{value.dtype}{list(value.shape)}" for value in (mine, theirs)]
            raise Diverges(f"{place} is {name!r}, {kinds[0]} instead of {kinds[1]}")
        computed = reader is not None and reader.outputs[0] in self.first.constants
        trained = is_trained(use, theirs, computed=computed)
        if not trained and not _equal(mine, theirs):
            raise Diverges(f"{place} is {name!r}, {_first_difference(mine, theirs)}; training does not change it")
        index = -1 if reader is None else reader.index
        self.made.operands.append(Operand(index, position, name, wanted, use, trained))


def _difference(graph: ProtoGraph, node: NodeView, reference: ProtoGraph, other: NodeView) -> str:
    """How two nodes of one type differ by themselves, "" where they do not."""
    for what, mine, theirs in (("inputs", node.inputs, other.inputs), ("outputs", node.outputs, other.outputs)):
        if len(_trimmed(mine)) != len(_trimmed(theirs)):
            return f"{len(_trimmed(mine))} {what} instead of {len(_trimmed(theirs))}"
    mine_is, theirs_is = [bool(name) for name in node.outputs], [bool(name) for name in other.outputs]
    if _cut(mine_is) != _cut(theirs_is):
        return "other outputs are read"
    if node.captured != other.captured:
        return "its subgraphs read other tensors"
    found, wanted = attributes(node, graph.opset), attributes(other, reference.opset)
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            return f"attribute {name} is {_shown(found.get(name))} instead of {_shown(wanted.get(name))}"
    return ""


def attributes(node: NodeView, opset: int) -> dict[str, Any]:
    """The attributes of a node that are not at their default, in a form that can be compared."""
    defaults: dict[str, Any] = {}
    if node.proto.domain in ("", "ai.onnx") and onnx.defs.has(node.proto.op_type):
        try:
            schema = onnx.defs.get_schema(node.proto.op_type, opset)
        except onnx.defs.SchemaError:
            schema = onnx.defs.get_schema(node.proto.op_type)
        defaults = {name: _plain(each.default_value) for name, each in schema.attributes.items() if _has_default(each)}
    found = {each.name: _plain(each) for each in node.proto.attribute}
    return {name: value for name, value in found.items() if name not in defaults or value != defaults[name]}


def _has_default(attribute: Any) -> bool:
    return bool(attribute.default_value.name)


def _plain(attribute: AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, TensorProto):
        array = numpy_helper.to_array(value)
        return (str(array.dtype), array.shape, array.tobytes())
    if hasattr(value, "SerializeToString"):
        return value.SerializeToString(deterministic=True)
    if isinstance(value, (str, bytes, int, float)):
        return value
    return tuple(each.SerializeToString() if hasattr(each, "SerializeToString") else each for each in value)


def _see_names(made: Alignment) -> None:
    """Raise `Diverges` where names were kept, and one stands in the place of another."""
    agreeing = sum(mine == theirs for space in made.names for mine, theirs in space)
    swapped = []
    for space in made.names:
        mine, theirs = {mine for mine, _ in space}, {theirs for _, theirs in space}
        swapped += [pair for pair in space if pair[0] != pair[1] and pair[0] in theirs and pair[1] in mine]
    if swapped and agreeing > len(swapped):
        found, wanted = swapped[0]
        raise Diverges(f"{found!r} stands where {wanted!r} stands in the compilation")


def _see_sharing(made: Alignment) -> None:
    """Raise `Diverges` where what was stored once is stored twice and trained, or the other way round."""
    mine: dict[str, Operand] = {}
    theirs: dict[str, Operand] = {}
    for operand in made.operands:
        old = mine.setdefault(operand.name, operand)
        if old.reference != operand.reference and (operand.trained or old.trained):
            same = _equal(stored_value(made.second, old.reference), stored_value(made.second, operand.reference))
            if not same or Use.WEIGHT in (operand.use, old.use):
                raise Diverges(
                    f"{operand.name!r} is stored once, where the compilation stores {old.reference!r} and "
                    f"{operand.reference!r}"
                )
        old = theirs.setdefault(operand.reference, operand)
        if old.name != operand.name and Use.WEIGHT in (operand.use, old.use):
            raise Diverges(f"{old.name!r} and {operand.name!r} are two weights, where the compilation stores one")


def _called(node: NodeView) -> str:
    return f"{node.op} {node.name!r}"


def _origin(graph: ProtoGraph, name: str) -> str:
    """What a tensor is, in words."""
    if name in graph.maker and not is_stored(graph, name):
        return f"the result of {_called(graph.maker[name])}"
    return f"{'stored' if is_stored(graph, name) else 'graph input'} {name!r}"


def _trimmed(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names without the ones left out at the end."""
    count = len(names)
    while count and not names[count - 1]:
        count -= 1
    return names[:count]


def _cut(flags: list[bool]) -> list[bool]:
    return flags[: len(flags) - flags[::-1].index(True)] if True in flags else []


def _equal(mine: Array, theirs: Array) -> bool:
    if mine.dtype != theirs.dtype or mine.shape != theirs.shape:
        return False
    return mine.tobytes() == theirs.tobytes() or bool(np.array_equal(mine, theirs))


def _rounded(mine: Array, theirs: Array) -> bool:
    """Whether two tensors differ by no more than how other processors round what is computed when constants are."""
    limit = _ROUNDINGS * _EPSILONS.get(theirs.dtype.name, 2.0**-23)
    old, new = theirs.astype(np.float64), mine.astype(np.float64)
    return bool((np.abs(new - old) <= limit * np.abs(old).max(initial=0.0)).all())


def _first_difference(mine: Array, theirs: Array) -> str:
    places = np.argwhere(np.atleast_1d(mine != theirs))
    at = tuple(int(i) for i in places[0]) if len(places) else ()
    found, wanted = np.atleast_1d(mine), np.atleast_1d(theirs)
    where = f" at {list(at)}" if mine.ndim else ""
    return f"{found[at]!s} instead of {wanted[at]!s}{where}"


def _shown(value: Any) -> str:
    if value is None:
        return "its default"
    if isinstance(value, bytes):
        return repr(value[:40])
    return str(list(value) if isinstance(value, tuple) else value)[:80]
