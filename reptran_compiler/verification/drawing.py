"""Values for tensors that are fed because a graph was cut in front of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.runtime import TensorFact, is_float, random_array, random_signs
from reptran_compiler.verification.cutpoints import CutKind

Array = NDArray[Any]

_WIDEST = 1024.0


def draw(fact: TensorFact, kind: CutKind | None, random: np.random.Generator, observed: Array | None = None) -> Array:
    """An array that is possible where the tensor stands.

    Args:
        fact: its shape and dtype.
        kind: the cut in front of it; None where any values are possible, as behind a tile.
        random: where the numbers come from.
        observed: values that it took in a run, for roundings, casts and choices: integers of the same range are drawn,
            or the same values in another order where an index might be made of them.

    Returns:
        +1 and -1 behind a binarisation, fair booleans, integers behind a rounding, standard normals elsewhere, but
        none below 0 behind a bend, where a root might follow.
    """
    if kind in (CutKind.SIGN, CutKind.SIGN_UP):
        return random_signs(fact.shape, fact.dtype, random)
    if kind is CutKind.BEND:
        return np.abs(random_array(fact.shape, fact.dtype, random))
    if observed is not None and observed.size:
        if kind is CutKind.ROUND and is_float(fact.dtype):
            finite = observed[np.isfinite(observed)].astype(np.float64)
            low, high = (np.min(finite), np.max(finite)) if finite.size else (0.0, 0.0)
            bounds = int(max(low, -_WIDEST)) - 1, int(min(high, _WIDEST)) + 2
            return random.integers(*bounds, fact.shape).astype(fact.dtype)
        if fact.dtype != np.bool_:
            return random.choice(observed.reshape(-1), fact.shape).astype(fact.dtype)
    return random_array(fact.shape, fact.dtype, random)
