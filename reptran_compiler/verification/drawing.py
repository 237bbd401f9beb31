"""Values for tensors that are fed because a graph was cut in front of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.runtime import TensorFact, is_float, random_array, random_signs
from reptran_compiler.verification.cutpoints import OBSERVED, CutKind

Array = NDArray[Any]

_WIDEST = 1024.0


def draw(fact: TensorFact, kind: CutKind | None, random: np.random.Generator, observed: Array | None = None) -> Array:
    """An array that is possible where the tensor stands.

    Args:
        fact: its shape and dtype.
        kind: the cut in front of it; None where any values are possible, as behind a tile.
        random: where the numbers come from.
        observed: values that it took in a run, where a root, a logarithm or an index might follow: numbers of the same
            range are drawn, or the same ones in another order. Real numbers that are all equal tell nothing.

    Returns:
        +1 and -1 behind a binarisation, fair booleans, integers behind a rounding; elsewhere what `observed` asks for,
        or standard normals, but none below 0 behind a bend.
    """
    if kind in (CutKind.SIGN, CutKind.SIGN_UP):
        return random_signs(fact.shape, fact.dtype, random)
    if observed is not None and observed.size and is_float(fact.dtype):
        low, high = _range(observed)
        if kind is CutKind.ROUND:
            bounds = int(max(low, -_WIDEST)) - 1, int(min(high, _WIDEST)) + 2
            return random.integers(*bounds, fact.shape).astype(fact.dtype)
        if kind is CutKind.BEND and low < high:
            return random.uniform(low, high, fact.shape).astype(fact.dtype)
        if kind in OBSERVED or low < high:
            return random.choice(observed.reshape(-1), fact.shape).astype(fact.dtype)
    elif observed is not None and observed.size and fact.dtype != np.bool_:
        return random.choice(observed.reshape(-1), fact.shape).astype(fact.dtype)
    normal = random_array(fact.shape, fact.dtype, random)
    return np.abs(normal) if kind is CutKind.BEND else normal


def _range(values: Array) -> tuple[float, float]:
    """The smallest and the largest finite number; zeros where there is none."""
    finite = values[np.isfinite(values)].astype(np.float64)
    return (float(np.min(finite)), float(np.max(finite))) if finite.size else (0.0, 0.0)
