"""What is known of a tensor that replication has reached: the tags of its rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Wide:
    """The copies of a tensor lie along `axis`, as [outer, beta, inner] where outer * inner is the source's size.

    Attributes:
        axis: the channel axis, from the left.
        size: the source's number of channels there.
        outer: 1 where copies are blocks; H * W behind a Flatten of (H, W, C).
        equal: whether all copies are known to be equal.
    """

    axis: int
    size: int
    outer: int = 1
    equal: bool = True

    def order(self, beta: int) -> NDArray[np.int64]:
        """For each copy (row) the places of its channels in the wide tensor: [beta, size]."""
        places = np.arange(self.size * beta).reshape(self.outer, beta, self.size // self.outer)
        return np.ascontiguousarray(places.transpose(1, 0, 2).reshape(beta, self.size))

    def cut(self, wide: Array, beta: int) -> list[Array]:
        """The copies of a wide array."""
        return [np.take(wide, places, axis=self.axis) for places in self.order(beta)]

    def join(self, copies: Sequence[Array]) -> Array:
        """The wide array of some copies."""
        together = np.concatenate(list(copies), axis=self.axis)
        back = np.argsort(self.order(len(copies)).reshape(-1))
        joined: Array = np.take(together, back, axis=self.axis)
        return joined


@dataclass(frozen=True)
class Distinct:
    """A RepConv's own output y': size / beta channels along `axis`, not yet repeated.

    Attributes:
        axis: the channel axis.
        size: the source's number of channels there.
    """

    axis: int
    size: int
