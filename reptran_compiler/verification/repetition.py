"""Tensors that consist of equal copies, by how a graph makes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.runtime import TensorFact
from reptran_compiler.verification.protograph import NodeView, ProtoGraph

Array = NDArray[Any]

#: Operators that do to each channel what they do to any.
_ALIKE = frozenset(
    "Abs AveragePool Celu Clip Elu GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity LeakyRelu MaxPool "
    "Neg Relu Selu Sigmoid Softplus Softsign Tanh".split()
)


@dataclass(frozen=True)
class Repetition:
    """Equal copies beside each other along an axis."""

    copies: int
    axis: int

    def first(self, values: Array) -> Array:
        """One copy."""
        return np.split(values, self.copies, self.axis)[0]

    def whole(self, values: Array) -> Array:
        """All copies of one."""
        return np.concatenate([values] * self.copies, self.axis)


def repetitions(graph: ProtoGraph, facts: Mapping[str, TensorFact], name: str) -> Iterator[Repetition]:
    """The equal copies that a tensor consists of by how it is made, and those that each of them consists of."""
    maker = graph.maker.get(name)
    if maker is None or len(maker.outputs) != 1 or name not in facts:
        return
    inner = repetitions(graph, facts, maker.inputs[0]) if maker.inputs else ()
    outer = _outer(graph, maker, len(facts[name].shape))
    if outer is not None:
        yield outer
        yield from (Repetition(outer.copies * each.copies, each.axis) for each in inner if each.axis == outer.axis)
    elif maker.op in _ALIKE and all(_is_scalar(graph, each) for each in maker.inputs[1:] if each):
        # What pools or bends each channel alone takes axis 1 for channels, and sees no other axis' copies.
        yield from (each for each in inner if each.axis == 1 or "Pool" not in maker.op)
    elif maker.op == "Transpose" and maker.attribute("perm") is not None:
        order = list(maker.attribute("perm"))
        yield from (Repetition(each.copies, order.index(each.axis)) for each in inner)


def _outer(graph: ProtoGraph, maker: NodeView, rank: int) -> Repetition | None:
    """The copies that an operator makes; None where it makes none."""
    if maker.op == "Concat" and len(set(maker.inputs)) == 1 and len(maker.inputs) > 1:
        return Repetition(len(maker.inputs), int(maker.attribute("axis")) % rank)
    if maker.op == "Tile" and len(maker.inputs) == 2 and maker.inputs[1] in graph.constants:
        repeats = graph.value(maker.inputs[1]).reshape(-1)
        axes = np.flatnonzero(repeats != 1)
        return Repetition(int(repeats[axes[0]]), int(axes[0])) if len(axes) == 1 and repeats.all() else None
    return None


def _is_scalar(graph: ProtoGraph, name: str) -> bool:
    return name in graph.constants and graph.value(name).size == 1
