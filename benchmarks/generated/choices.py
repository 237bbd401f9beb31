"""Where every decision of the generator comes from: a seed, or a search that shrinks what fails."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Choices(Protocol):
    """A source of decisions. What it gives for 0 or the lower bound is the plainest choice."""

    def integer(self, low: int, high: int) -> int:
        """An integer, low <= it <= high."""


class Seeded:
    """Decisions drawn at random, the same for a seed on every machine."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        """An integer, each as likely as another."""
        return int(self._random.integers(low, high + 1))
