"""What is known of a wide tensor."""

from __future__ import annotations

from dataclasses import dataclass


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
