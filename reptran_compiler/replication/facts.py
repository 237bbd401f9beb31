"""Shapes of tensors while replication goes through a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Graph, Node, Tensor
from reptran_compiler.replication.state import Distinct, Wide
from reptran_compiler.rewriting import Facts
from reptran_compiler.runtime import TensorFact

Array = NDArray[Any]


class WideFacts(Facts):
    """Facts of a graph's tensors, some of them wide.

    Args:
        graph: the graph.
        cases: shape and type by name in the source, once for each run.
        integers: the values of integer tensors that the shapes of a run determine, once for each run.
        beta: the replication factor.
        threads: as for `Facts`.
    """

    def __init__(
        self,
        graph: Graph,
        cases: Sequence[Mapping[str, TensorFact]],
        integers: Sequence[Mapping[str, Array]],
        beta: int,
        threads: int = 1,
    ) -> None:
        super().__init__(graph, cases, integers, threads)
        self.beta = beta
        self._auxiliary: dict[int, Tensor] = {}

    def of(self, tensor: Tensor, case: int = 0) -> TensorFact:
        """Shape and type as the tensor is now: wide, or a RepConv's own output."""
        fact, tag = self.source(tensor, case), self.tags.get(tensor.name)
        if not isinstance(tag, (Wide, Distinct)):
            return fact
        shape = list(fact.shape)
        size = shape[tag.axis]
        shape[tag.axis] = size * self.beta if isinstance(tag, Wide) else size // self.beta
        return TensorFact(tuple(shape), fact.dtype)

    def derived(self, tensor: Tensor) -> bool:
        """Whether a tensor is a mean or a tile that rules share."""
        return id(tensor) in self._auxiliary

    def share(self, nodes: Iterable[Node]) -> None:
        """Note that operators compute means or tiles."""
        for node in nodes:
            self._auxiliary.update((id(tensor), tensor) for tensor in node.outputs)

    def integers(self, tensor: Tensor, case: int) -> Array | None:
        """As in the source; None of a wide tensor."""
        return None if tensor.name in self.tags else super().integers(tensor, case)

    def tied(self, tensor: Tensor, values: Array) -> Array:
        """Integers and booleans whose copies are known to be equal get equal copies."""
        tag = self.tags.get(tensor.name)
        if not isinstance(tag, Wide) or not tag.equal:
            return values
        return tag.join([tag.cut(values, self.beta)[0]] * self.beta).astype(values.dtype)


def as_ints(values: Array) -> list[int]:
    """The elements of an integer tensor."""
    return [int(value) for value in np.asarray(values).reshape(-1)]
