"""Rules build beside the graph. One that edits what it matched is found out, and its edits are undone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from reptran_compiler.model import Node, Tensor


class EditedInPlace(Exception):
    """A rule edited an operator of its match. The edit is undone; the message names the operator."""


@contextmanager
def unedited(nodes: Sequence[Node], root: Node) -> Iterator[None]:
    """See that the operators of a match, those that it reads from and those that read its root are the same behind a
    block as in front of it, with the names of their tensors.

    Raises:
        EditedInPlace: they are not.
    """
    makers = (maker for node in nodes for tensor in node.inputs for maker in tensor.inputs)
    readers = (reader for tensor in root.outputs for reader in tensor.outputs)
    kept = [_Kept.of(node) for node in {id(node): node for node in (*nodes, *makers, *readers)}.values()]
    try:
        yield
    finally:
        edited = [each for each in kept if each.undo()]
        if edited:
            raise EditedInPlace(
                f"it edits the operator {edited[0].name!r} in place: "
                "build a new one with g.node(..., like=...) and return its output"
            )


@dataclass(frozen=True)
class _Kept:
    """An operator as it was."""

    node: Node
    name: str
    op: str
    domain: str | None
    attrs: dict[str, Any]
    inputs: list[Tensor]
    outputs: list[Tensor]
    names: list[tuple[Tensor, str]]

    @classmethod
    def of(cls, node: Node) -> _Kept:
        attrs = {name: _copy(value) for name, value in node.attrs.items()}
        inputs, outputs = list(node.inputs), list(node.outputs)
        names = [(tensor, tensor.name) for tensor in (*inputs, *outputs)]
        return cls(node, node.name, node.op, node.domain, attrs, inputs, outputs, names)

    def undo(self) -> bool:
        """Make the operator what it was. Returns whether it was anything else."""
        node, edited = self.node, False
        for field in ("name", "op", "domain"):
            if getattr(node, field) != getattr(self, field):
                setattr(node, field, getattr(self, field))
                edited = True
        for field in ("inputs", "outputs"):
            if [id(tensor) for tensor in getattr(node, field)] != [id(tensor) for tensor in getattr(self, field)]:
                setattr(node, field, getattr(self, field))
                edited = True
        if not _same(dict(node.attrs), self.attrs):
            node.attrs = {name: _copy(value) for name, value in self.attrs.items()}
            edited = True
        for tensor, name in self.names:
            if tensor.name != name:
                tensor.name = name
                edited = True
        return edited


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
