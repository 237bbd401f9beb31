"""What the rules of the judge's operators see of the walk through the source, and what most of them ask first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from reptran_compiler.runtime import TensorFact
from reptran_compiler.verification.copies import Boundary, Copies, Emitter
from reptran_compiler.verification.protograph import NodeView, ProtoGraph

Array = NDArray[Any]
Layout = tuple[int, int]


class Walk(Protocol):
    """What a rule sees of the walk through the source."""

    graph: ProtoGraph
    facts: Mapping[str, TensorFact]
    emit: Emitter
    beta: int

    def read(self, name: str) -> Copies:
        """The copies of a tensor that readers of it read."""

    def each_copy(self, node: NodeView, layouts: Sequence[Layout | None]) -> None:
        """Emit the node once for each copy; the outputs are wide with the (axis, blocks) given, or narrow."""

    def once(self, node: NodeView, inputs: Sequence[str]) -> tuple[str, ...]:
        """Emit the node once, with other inputs, under fresh output names; these names."""

    def set(self, name: str, copies: Copies) -> None:
        """Say what a tensor of the source is."""


Rule = Callable[[Walk, NodeView], None]


def fact_of(walk: Walk, name: str) -> TensorFact:
    """A tensor's shape and type in the source. Raises `Boundary` where they are unknown."""
    if name not in walk.facts:
        raise Boundary(f"the shape of {name!r} is unknown")
    return walk.facts[name]


def only_wide(walk: Walk, node: NodeView) -> tuple[Copies, TensorFact]:
    """The first input with its shape. Raises `Boundary` where it is not the only wide one."""
    copies = walk.read(node.inputs[0])
    if not copies.wide or any(name and walk.read(name).wide for name in node.inputs[1:]):
        raise Boundary(f"{node.op} reads a wide map where parameters belong")
    return copies, fact_of(walk, node.inputs[0])


def unmoved(copies: Copies, node: NodeView) -> list[Layout | None]:
    """The layout of a node's outputs where the channels stay where they are."""
    assert copies.axis is not None
    return [(copies.axis, copies.blocks)] * len(node.outputs)


def stored(walk: Walk, name: str, what: str) -> Array:
    """The value of a stored tensor. Raises `Boundary`, with what it is, where it is computed from data."""
    if name not in walk.graph.constants:
        raise Boundary(f"{what} of a channel operator is computed at run time")
    return walk.graph.value(name)
