"""How closely two tensors must agree, and whether they do.

Two evaluation orders of one formula differ by rounding. Two limits hold at once (docs/tolerances.md derives them):

* of a tensor's largest value: the error model below, which every comparison has;
* of what each number is computed from (`Magnitude`): that limit is a thousand times closer where numbers are small, and
  is known wherever `verification.magnitudes` follows the operators.

With u the unit roundoff and K the terms of a sum:

* float32 and float64: a sum in another order moves by about sqrt(K) to K roundoffs of its largest term, u = 2**-24 and
  2**-53. With K up to 25088 (the first linear layer of a VGG) and the operators between two cuts 1e-4, which is 1678 u,
  is never reached honestly; as many are 1.9e-13 in float64, rounded up to 1e-12.
* float16: onnxruntime adds up in float32 and rounds once an operator, u = 2**-11; sixteen roundings are 2**-7. Such a
  network is compared once more with its numbers in float32, where its constants alone are rounded (`stored`).
* bfloat16: onnxruntime's CPU provider casts from and to it and computes nothing in it; eight roundings, 2**-5.
* integers and booleans: exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.runtime.feeds import is_float

Array = NDArray[Any]

_ROUNDOFFS = {"bfloat16": 2.0**-8}
_TOLERANCES = {"float64": 1e-12, "float32": 1e-4, "float16": 2.0**-7, "bfloat16": 2.0**-5}
_CHUNK = 1 << 20

#: Unit roundoffs of its magnitude that a number may be off by: for constants that were folded and sums in another
#: order, and for each operator that it passed since the graphs were cut, one rounding in each of the two.
ROUNDINGS, ROUNDINGS_AN_OPERATOR = 8.0, 2.0
#: Unit roundoffs of their type that constants may be off by in all, where what is computed with them is not rounded
#: to it: of a sum's magnitude, and of a tensor's largest value.
_STORED, _STORED_OF_LARGEST = 4.0, 8.0


@dataclass(frozen=True)
class Magnitude:
    """What a tensor is computed from (`verification.magnitudes`), the measure of honest rounding.

    Attributes:
        values: at each element the sum of the absolute values of its terms: float32, of the tensor's shape, but for the
            first axis, of size 1.
        operators: how many operators there are at most in a row between what was fed and the tensor.
    """

    values: NDArray[np.float32]
    operators: int

    def allowance(self, dtype: Any, stored: Any = None) -> Array:
        """By how much two evaluation orders may differ, element by element; infinite where that is unknown.

        Args:
            dtype: the type that was computed in.
            stored: the type that constants were rounded to, where that is a smaller one.
        """
        kind = np.dtype(dtype)
        working = np.float64 if kind.name == "float64" else np.float32
        factor = ROUNDINGS + ROUNDINGS_AN_OPERATOR * self.operators
        relative = factor * unit_roundoff(kind) + _STORED * _beyond(stored, kind)
        found: Array = self.values.astype(working) * working(relative) + working(factor * smallest_step(kind))
        found[~np.isfinite(found)] = np.inf
        return found


@dataclass(frozen=True)
class Comparison:
    """How far two tensors are apart.

    Attributes:
        max_abs: the largest absolute difference; infinite where one side is NaN or infinite and the other is
            not.
        relative: `max_abs` over the largest finite absolute value of the expected tensor.
        ok: whether the tensors agree within the tolerances.
        strain: the largest difference over what rounding may do there (`Magnitude`); more than 1 is too much, and 0
            says that they are equal or that nothing is known.
        where: the index of the largest difference; empty when there is none.
        detail: one line for people: what differs, or nothing.
    """

    max_abs: float
    relative: float
    ok: bool
    where: tuple[int, ...] = ()
    detail: str = ""
    strain: float = 0.0

    @staticmethod
    def equal() -> Comparison:
        """Of tensors that are equal to the bit, but for the sign of zeros."""
        return Comparison(0.0, 0.0, True)

    @property
    def size(self) -> str:
        """How large the difference is, to be put behind `detail`; "" where no number tells."""
        if not np.isfinite(self.relative):
            return ""
        size = f", {self.relative:.2g} of the largest value"
        return size + (f", {self.strain:.2g} times what rounding may do there" if self.strain > 1.0 else "")


def tolerance(dtype: Any, stored: Any = None) -> float:
    """The largest relative error that rounding explains for a dtype; 0 for integers and booleans.

    Args:
        dtype: the type that was computed in.
        stored: the type that constants were rounded to, where that is a smaller one.
    """
    kind = np.dtype(dtype)
    if not is_float(kind):
        return 0.0
    return _TOLERANCES.get(kind.name, 2.0**-2) + _STORED_OF_LARGEST * _beyond(stored, kind)


def smallest_step(dtype: Any) -> float:
    """How far denormal numbers of a floating dtype are apart, as onnxruntime computes with them."""
    return 2.0**-24 if np.dtype(dtype).name == "float16" else 2.0**-149


def unit_roundoff(dtype: Any) -> float:
    """By how much of itself a number of a floating dtype may be rounded; 0 for integers and booleans."""
    kind = np.dtype(dtype)
    if not is_float(kind):
        return 0.0
    return float(np.finfo(kind).eps) / 2 if kind.kind == "f" else _ROUNDOFFS.get(kind.name, 2.0**-3)


def compare(
    actual: Array,
    expected: Array,
    dtype: Any = None,
    *,
    exact: bool = False,
    magnitude: Magnitude | None = None,
    stored: Any = None,
) -> Comparison:
    """Compare two arrays.

    NaN equals NaN, and an infinity equals itself.

    Args:
        actual: the array to judge.
        expected: what it should be.
        dtype: the dtype whose tolerance applies; that of `expected` when absent.
        exact: whether every number must be equal (zeros of both signs are).
        magnitude: what `expected` is computed from; no number may be off by more than its own allows.
        stored: the type that constants were rounded to, where that is a smaller one than what was computed in.

    Returns:
        The comparison; arrays of different shape are never equal.
    """
    if actual.shape != expected.shape:
        detail = f"shape {list(actual.shape)} instead of {list(expected.shape)}"
        return Comparison(np.inf, np.inf, False, (), detail)
    kind = np.dtype(expected.dtype if dtype is None else dtype)
    limit = 0.0 if exact else tolerance(kind, stored)
    working = np.float64 if kind.name == "float64" or not is_float(kind) else np.float32
    flat_actual, flat_expected = actual.reshape(-1), expected.reshape(-1)
    worst, position, largest = 0.0, 0, 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, flat_expected.size, _CHUNK):
            a: Array = flat_actual[start : start + _CHUNK].astype(working, copy=False)
            b: Array = flat_expected[start : start + _CHUNK].astype(working, copy=False)
            largest = max(largest, _largest(b))
            difference = np.abs(a - b)
            at = int(np.argmax(difference))
            value = float(difference[at])
            if not np.isfinite(value):
                alike = (a == b) | (np.isnan(a) & np.isnan(b))
                difference[alike] = 0.0
                difference[~alike & ~np.isfinite(difference)] = np.inf
                at = int(np.argmax(difference))
                value = float(difference[at])
            if value > worst:
                worst, position = value, start + at
    if worst == 0.0:
        return Comparison.equal()
    if limit:
        # A tensor of denormal numbers alone is a few steps of them.
        largest = max(largest, ROUNDINGS * smallest_step(kind) / limit)
    relative = worst / largest if largest > 0.0 else np.inf
    where = tuple(int(i) for i in np.unravel_index(position, expected.shape))
    detail = f"{flat_actual[position]!s} instead of {flat_expected[position]!s} at {list(where)}"
    if magnitude is None or relative > limit:
        return Comparison(worst, relative, relative <= limit, where, detail)
    strain, where = _strain(actual, expected, magnitude.allowance(kind, stored))
    detail = f"{actual[where]!s} instead of {expected[where]!s} at {list(where)}"
    return Comparison(worst, relative, strain <= 1.0, where, detail, strain)


def differ(actual: Array, expected: Array) -> bool:
    """Whether two arrays differ in shape or in any number; NaN differs from itself."""
    if actual.shape != expected.shape:
        return True
    if actual.ndim and not (actual.flags.c_contiguous and expected.flags.c_contiguous):
        return any(differ(a, b) for a, b in zip(actual, expected, strict=True))
    a, b = actual.reshape(-1), expected.reshape(-1)
    return any(not np.array_equal(a[at : at + _CHUNK], b[at : at + _CHUNK]) for at in range(0, a.size, _CHUNK))


def allowance(expected: Array, *, exact: bool = False, magnitude: Magnitude | None = None, stored: Any = None) -> Array:
    """By how much each number may be off, as `compare` judges: float64; it broadcasts to the shape of `expected`."""
    limit = 0.0 if exact else tolerance(expected.dtype, stored)
    if not limit:
        return np.zeros(())
    with np.errstate(all="ignore"):
        largest = _largest(expected.astype(np.float64)) if expected.size else 0.0
    allowed: Array = np.asarray(limit * max(largest, ROUNDINGS * smallest_step(expected.dtype) / limit))
    if magnitude is None:
        return allowed
    return np.minimum(allowed, magnitude.allowance(expected.dtype, stored).astype(np.float64))


def _beyond(stored: Any, kind: np.dtype[Any]) -> float:
    """The unit roundoff of a type that constants were rounded to; 0 where what is computed is rounded to it as well."""
    unit = 0.0 if stored is None else unit_roundoff(stored)
    return unit if unit > unit_roundoff(kind) else 0.0


def _strain(actual: Array, expected: Array, allowance: Array) -> tuple[float, tuple[int, ...]]:
    """The largest difference over what is allowed there, and where it is."""
    working = allowance.dtype
    allowed = allowance[0] if expected.ndim else allowance
    worst, place = 0.0, (0,) * expected.ndim
    for row, (a, b) in enumerate(zip(np.atleast_1d(actual), np.atleast_1d(expected), strict=True)):
        with np.errstate(invalid="ignore"):
            found: Array = np.atleast_1d(np.abs(a.astype(working) - b.astype(working)) / allowed)
        found[~np.isfinite(found)] = 0.0
        at = np.unravel_index(int(np.argmax(found)), found.shape)
        if found[at] > worst:
            worst, place = float(found[at]), (row, *(int(i) for i in at))[: expected.ndim]
    return worst, place


def _largest(values: Array) -> float:
    top = float(np.abs(values).max())
    if np.isfinite(top):
        return top
    finite = values[np.isfinite(values)]
    return float(np.abs(finite).max()) if finite.size else 0.0
