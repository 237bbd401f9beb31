"""What shows that a law is broken: two small models that have to make the same of the same numbers, and do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from reptran_compiler.runtime import RuntimeFailure, Session, TensorFact
from reptran_compiler.verification.copies import Copies
from reptran_compiler.verification.cutting import cut_model, cut_names, prune, without_unread
from reptran_compiler.verification.protograph import MalformedGraph, ProtoGraph

Array = NDArray[Any]


@dataclass(frozen=True)
class Side:
    """One of two graphs that are compared.

    Attributes:
        model: the graph, as far as its outputs depend on it.
        feeds: arrays for its inputs, by name.
        outputs: the tensors that are compared, each once.
    """

    model: ModelProto
    feeds: Mapping[str, Array]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, model: ModelProto, feeds: Mapping[str, Array], outputs: Sequence[str]) -> Side:
        """What computes some tensors of a model, which becomes this side's own."""
        names = tuple(dict.fromkeys(outputs))
        part = without_unread(prune(model, names))
        return cls(part, {value.name: feeds[value.name] for value in part.graph.input if value.name in feeds}, names)

    def run(self) -> dict[str, Array]:
        """Its outputs, by name. Raises RuntimeFailure where onnxruntime does not run it."""
        return Session(self.model).run(self.feeds, self.outputs)

    def cut(self, values: Mapping[str, Array]) -> Side:
        """The same where some of its tensors are fed."""
        graph = ProtoGraph(self.model)
        known = {name: array for name, array in values.items() if name in graph.maker and name not in self.outputs}
        facts = {name: TensorFact(array.shape, array.dtype) for name, array in known.items()}
        return Side.of(cut_model(graph, cut_names(graph, known), facts), {**self.feeds, **known}, self.outputs)


@dataclass(frozen=True)
class Agreement:
    """A tensor that both graphs compute alike: its copies as the specification names them, and the result's tensor."""

    expected: Mapping[str, Array]
    found: Mapping[str, Array]


@dataclass(frozen=True)
class Evidence:
    """A tensor of a result that breaks the law, and what computes it.

    Attributes:
        tensor: its name in the source.
        expected: the specification's side, which computes its copies.
        found: the result's side, which computes the tensor itself.
        copies: the copies, in order, and how they make the tensor.
        allowed: by how much each number may be off; it broadcasts to the tensor's shape.
    """

    tensor: str
    expected: Side
    found: Side
    copies: Copies
    allowed: Array

    @property
    def nodes(self) -> int:
        """How many operators the result's side has."""
        return len(self.found.model.graph.node)

    @property
    def storable(self) -> bool:
        """Whether numpy itself has all types of what is fed (bfloat16 it has not)."""
        return all(a.dtype.isbuiltin == 1 for side in (self.expected, self.found) for a in side.feeds.values())

    def shows(self) -> bool:
        """Whether the two sides, run alone, differ."""
        try:
            expected, found = self.expected.run(), self.found.run()
        except RuntimeFailure:
            return False
        wanted = self.copies.assemble([expected[name] for name in self.copies.names])
        return not within(found[self.found.outputs[0]], wanted, self.allowed)

    def nearer(self, agreeing: Sequence[Agreement]) -> Evidence:
        """The same with both sides cut at tensors that agree, where what is left still shows it."""
        expected = {name: array for each in agreeing for name, array in each.expected.items()}
        found = {name: array for each in agreeing for name, array in each.found.items()}
        try:
            cut = replace(self, expected=self.expected.cut(expected), found=self.found.cut(found))
        except MalformedGraph:
            return self
        return cut if cut.shows() else self


def within(found: Array, expected: Array, allowed: Array) -> bool:
    """Whether no number is off by more than is allowed there; NaN equals NaN, and an infinity itself."""
    if found.shape != expected.shape:
        return False
    with np.errstate(all="ignore"):
        a, b = found.astype(np.float64), expected.astype(np.float64)
        return bool(np.all((np.abs(a - b) <= allowed) | (a == b) | (np.isnan(a) & np.isnan(b))))
