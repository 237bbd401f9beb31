"""Random numbers that depend on what they are for, and on nothing that was drawn before.

A resumed run, one with other workers and one with more processes therefore draw the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_WORD = 2**64
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Draw:
    """The random numbers of one epoch.

    Attributes:
        seed: of the run.
        epoch: counted over the whole run.
    """

    seed: int
    epoch: int

    def order(self, size: int) -> NDArray[np.int64]:
        """A permutation of `size` examples, int64 [size]."""
        return np.random.default_rng([self.seed % _WORD, self.epoch]).permutation(size).astype(np.int64)

    def word(self, rank: int) -> int:
        """A seed for what else a process draws, such as dropout."""
        return int(np.random.SeedSequence([self.seed % _WORD, self.epoch, rank]).generate_state(1, np.uint64)[0] >> 1)

    def uniform(self, indices: NDArray[np.int64], count: int) -> NDArray[np.float64]:
        """`count` numbers in [0, 1) for each of n examples, float64 [n, count].

        They depend on seed, epoch and index alone: a counter, mixed by SplitMix64 (Steele, Lea and Flood, "Fast
        Splittable Pseudorandom Number Generators", OOPSLA 2014).
        """
        seed = _mixed(np.array([self.seed % _WORD], np.uint64))
        epoch = _mixed(seed + np.uint64(self.epoch))
        example = _mixed(epoch + indices.astype(np.uint64))
        words = _mixed(example[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN)
        numbers: NDArray[np.float64] = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return numbers


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output for each state; products wrap, as they do in arrays without a word."""
    words = words + _GOLDEN
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = words ^ (words >> np.uint64(31))
    return mixed
