"""Rules build beside the graph. One that edits what is there is found out, and its edits are undone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.rewriting.patterns import Match


class EditedInPlace(Exception):
    """A rule edited the graph. The message says what of it."""


class Watch:
    """Operators of a graph as they are, the names and readers of their tensors, and the graph's own lists.

    Args:
        graph: the graph.
        nodes: the operators.
        sources: whether to watch the file's nodes, too, that they stem from.
    """

    def __init__(self, graph: Graph, nodes: Iterable[Node], *, sources: bool = True) -> None:
        self._graph = graph
        self._kept = [_Kept.of(node, sources) for node in {id(node): node for node in nodes}.values()]
        self._frame = _Frame.of(graph)

    @classmethod
    def around(cls, found: Match) -> Watch:
        """A watch over a match: its operators, those that it reads from, and those that read its root."""
        makers = (maker for node in found.nodes for tensor in node.inputs for maker in tensor.inputs)
        readers = (reader for tensor in found.root.outputs for reader in tensor.outputs)
        return cls(found.graph, (*found.nodes, *makers, *readers), sources=False)

    def see(self) -> None:
        """See that nothing was edited; operators may have been built beside the graph.

        Raises:
            EditedInPlace: something was. It is undone, and what stood beside the graph is dropped.
        """
        beside = {id(node) for node in self._graph.beside}
        words = self._frame.edited(self._graph)
        words = words or next((said for each in self._kept if (said := each.edited())), "")
        words = words or next((said for each in self._kept if (said := each.read_elsewhere(beside))), "")
        if words:
            self._graph.adopt(())
            for each in self._kept:
                each.undo_operator()
            for each in self._kept:
                each.undo_readers()
            self._frame.undo(self._graph)
            raise EditedInPlace(words)

    def see_but(self, touched: Collection[int]) -> None:
        """See that no operator was edited but those of some ids, and those that nothing reads any more.

        Raises:
            EditedInPlace: one was. It is undone.
        """
        edited = [each for each in self._kept if id(each.node) not in touched and each.edited() and self._needs(each)]
        words = [each.edited() for each in edited]
        for each in edited:
            each.undo_operator()
        if edited:
            place = f"it edits the operator {edited[0].name!r}, which is not of the match"
            raise EditedInPlace(words[0] if "file's" in words[0] else place)

    def _needs(self, kept: _Kept) -> bool:
        return any(tensor.outputs or self._graph.is_output(tensor) for tensor in kept.outputs)


@dataclass(frozen=True)
class _Frame:
    """The lists that a graph holds."""

    nodes: list[Node]
    inputs: list[Tensor]
    outputs: list[Tensor]
    names: list[str]
    opsets: list[tuple[str, int]]

    @classmethod
    def of(cls, graph: Graph) -> _Frame:
        nodes, inputs, outputs = list(graph.nodes), list(graph.inputs), list(graph.outputs)
        return cls(nodes, inputs, outputs, [t.name for t in (*inputs, *outputs)], _opsets(graph))

    def edited(self, graph: Graph) -> str:
        """What is not as it was, in words."""
        names = [tensor.name for tensor in (*self.inputs, *self.outputs)]
        if graph.inputs != self.inputs or graph.outputs != self.outputs:
            return "it edits the graph's inputs or outputs"
        if names != self.names:
            was = next(old for old, now in zip(self.names, names, strict=True) if old != now)
            return f"it renames the graph's input or output {was!r}"
        if graph.nodes != self.nodes:
            return "it adds or drops operators of the graph itself: return what takes the place of the match"
        return "it edits the model's opset imports" if _opsets(graph) != self.opsets else ""

    def undo(self, graph: Graph) -> None:
        """Make the lists what they were."""
        graph.nodes, graph.inputs, graph.outputs = list(self.nodes), list(self.inputs), list(self.outputs)
        for tensor, name in zip((*self.inputs, *self.outputs), self.names, strict=True):
            tensor.name = name
        if _opsets(graph) != self.opsets:
            del graph.model.opset_import[:]
            for domain, version in self.opsets:
                graph.model.opset_import.add(domain=domain, version=version)


@dataclass(frozen=True)
class _Kept:
    """An operator as it was, with the names of its tensors, and who makes and reads those."""

    node: Node
    name: str
    op: str
    domain: str | None
    attrs: dict[str, Any]
    inputs: list[Tensor]
    outputs: list[Tensor]
    names: list[str]
    readers: list[tuple[Tensor, list[Node]]]
    source: bytes | None
    gone: bool

    @classmethod
    def of(cls, node: Node, sources: bool) -> _Kept:
        attrs = {name: _copy(value) for name, value in node.attrs.items()}
        inputs, outputs = list(node.inputs), list(node.outputs)
        tensors = (*inputs, *outputs)
        # What a stored tensor is read by is left out: many share one, and nothing depends on it.
        readers = [(t, list(t.outputs)) for t in tensors if not isinstance(t, Constant) and t.name]
        names = [tensor.name for tensor in tensors]
        source = node.source.SerializeToString() if sources and node.source is not None else None
        return cls(node, node.name, node.op, node.domain, attrs, inputs, outputs, names, readers, source, node.gone)

    def edited(self) -> str:
        """What of the operator is not as it was, in words."""
        node = self.node
        same = (
            (node.name, node.op, node.domain) == (self.name, self.op, self.domain)
            and node.inputs == self.inputs
            and node.outputs == self.outputs
            and [tensor.name for tensor in (*self.inputs, *self.outputs)] == self.names
            and _same(dict(node.attrs), self.attrs)
        )
        build = "build a new one with g.node(..., like=...) and return its output"
        if not same:
            return f"it edits the operator {self.name!r} in place: {build}"
        return f"it edits the file's node {self.name!r}: .source is for reading alone" if self._source_edited() else ""

    def _source_edited(self) -> bool:
        source = self.node.source
        return self.source is not None and source is not None and source.SerializeToString() != self.source

    def read_elsewhere(self, beside: Collection[int]) -> str:
        """Which tensor has other readers than it had, operators beside the graph left out, in words."""
        for tensor, readers in self.readers:
            if [reader for reader in tensor.outputs if id(reader) not in beside] != readers:
                return f"it changes what reads {tensor.name!r}: operators are built with g.node alone"
        return ""

    def undo_operator(self) -> None:
        """Make the operator what it was."""
        node = self.node
        node.gone = self.gone
        if not self.edited():
            return
        node.name, node.op, node.domain = self.name, self.op, self.domain
        node.attrs = {name: _copy(value) for name, value in self.attrs.items()}
        node.inputs, node.outputs = self.inputs, self.outputs
        for tensor, name in zip((*self.inputs, *self.outputs), self.names, strict=True):
            tensor.name = name
        if self.source is not None and node.source is not None and self._source_edited():
            node.source.ParseFromString(self.source)

    def undo_readers(self) -> None:
        """Let the operator's tensors be read by those that read them, once all operators are what they were."""
        for tensor, readers in self.readers:
            list.clear(tensor.outputs)
            list.extend(tensor.outputs, readers)


def _opsets(graph: Graph) -> list[tuple[str, int]]:
    return [(entry.domain, entry.version) for entry in graph.model.opset_import]


def _copy(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value


def _same(now: dict[str, Any], was: dict[str, Any]) -> bool:
    """Whether attributes are equal; numbers and lists by value, everything else (tensors) by identity."""
    if list(now) != list(was):
        return False
    return all(
        now[name] is value or (isinstance(value, (int, float, str, bytes, list)) and bool(now[name] == value))
        for name, value in was.items()
    )
