"""Integers that depend on the sizes of a model's dynamic axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal

LONGEST = 2000
"""The longest text of a dimension; what would be longer is `TooLarge`, so that no model takes more than linear time."""

Kind = Literal["axis", "element", "extent", "floordiv", "min", "max", "broadcast"]
Bounds = tuple[float, float]


class TooLarge(ArithmeticError):
    """A dimension with so many terms that it is not worth to know."""


@dataclass(frozen=True, order=True)
class Atom:
    """What a polynomial treats as a variable.

    Attributes:
        text: what identifies the atom.
        kind: `axis`, the size of a dynamic axis of a graph input; `element`, an element of a tensor of which nothing
            is known; `extent`, the size of an axis of an inner tensor of which nothing is known; or the function of
            the arguments: `floordiv` rounds towards minus infinity, `broadcast` is the size of two axes together.
        name: the axis' name, or the tensor's.
        arguments: of a function.
    """

    text: str
    kind: Kind = field(compare=False)
    name: str = field(compare=False, default="")
    arguments: tuple[Dimension, ...] = field(compare=False, default=())

    def bounds(self, least: int) -> Bounds:
        """The smallest and the largest value (or an infinity), where no dynamic axis is smaller than `least`."""
        if self.kind == "axis":
            return least, math.inf
        if self.kind == "extent":
            return 0, math.inf
        if self.kind == "element":
            return -math.inf, math.inf
        (low, high), (other_low, other_high) = (argument.bounds(least) for argument in self.arguments)
        if self.kind == "min":
            return min(low, other_low), min(high, other_high)
        if self.kind == "max":
            return max(low, other_low), max(high, other_high)
        if self.kind == "broadcast":
            return min(low, other_low), max(high, other_high)
        if other_low <= 0:
            return -math.inf, math.inf
        if other_low == other_high:
            return _floor(low, int(other_low)), _floor(high, int(other_low))
        return (0, high) if low >= 0 else (-math.inf, math.inf)

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The value for the sizes of the dynamic axes; ValueError if they do not tell it."""
        if self.kind == "axis" and self.name in sizes:
            return sizes[self.name]
        if not self.arguments:
            raise ValueError(f"the value of {self.text} does not follow from the sizes of {sorted(sizes)}")
        a, b = (argument.evaluate(sizes) for argument in self.arguments)
        if self.kind == "broadcast":
            return b if a == 1 else a
        if self.kind == "floordiv":
            if b == 0:
                raise ValueError(f"{self.text} divides by 0 at the sizes {dict(sizes)}")
            return a // b
        return min(a, b) if self.kind == "min" else max(a, b)


Monomial = tuple[Atom, ...]


@dataclass(frozen=True)
class Dimension:
    """An integer: a polynomial with integer coefficients over atoms.

    Two are equal if and only if they are the same after normalisation; `text` is that normal form. Sums, differences
    and products are made by `+`, `-` and `*`, with integers too.

    Attributes:
        text: the normal form; it identifies the dimension.
        terms: the monomials (atoms in order, repeated for a power; none for the constant term), each with its
            coefficient, which is not 0.
    """

    text: str
    terms: tuple[tuple[Monomial, int], ...] = field(compare=False, repr=False)

    @staticmethod
    @lru_cache(maxsize=1 << 16, typed=True)
    def of(value: int) -> Dimension:
        """The constant `value`."""
        plain = int(value)  # not numpy's, which overflows, nor a boolean
        return Dimension(str(plain), (((), plain),) if plain else ())

    @cached_property
    def constant(self) -> int | None:
        """The value, if it is the same whatever the sizes; else None."""
        if not self.terms:
            return 0
        monomial, coefficient = self.terms[0]
        return coefficient if not monomial and len(self.terms) == 1 else None

    def bounds(self, least: int = 0) -> Bounds:
        """Some lower and upper bound (or an infinity), where no dynamic axis is smaller than `least`."""
        low: float = 0
        high: float = 0
        for monomial, coefficient in self.terms:
            ends: Bounds = coefficient, coefficient
            for atom in monomial:
                corners = [0 if 0 in (x, y) else x * y for x in ends for y in atom.bounds(least)]
                ends = min(corners), max(corners)
            low, high = low + ends[0], high + ends[1]
        return low, high

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The value where the dynamic axes have these `sizes`, by name.

        Raises ValueError if it depends on an axis that is not among them, or on something unknown."""
        if self.constant is not None:
            return self.constant
        return sum(c * math.prod(atom.evaluate(sizes) for atom in monomial) for monomial, c in self.terms)

    def __add__(self, other: Operand) -> Dimension:
        a, b = self.constant, _constant(other)
        if a is not None and b is not None:
            return Dimension.of(a + b)
        return _sum((self, other))

    def __sub__(self, other: Operand) -> Dimension:
        return _sum((self, -_dimension(other)))

    def __rsub__(self, other: int) -> Dimension:
        return _sum((other, -self))

    def __neg__(self) -> Dimension:
        return _polynomial({monomial: -c for monomial, c in self.terms})

    def __mul__(self, other: Operand) -> Dimension:
        a, b = self.constant, _constant(other)
        if a is not None and b is not None:
            return Dimension.of(a * b)
        other = _dimension(other)
        if self.text == "1":
            return other
        if other.text == "1":
            return self
        if len(self.terms) * len(other.terms) > LONGEST:
            raise TooLarge(f"({self}) * ({other})")
        product: dict[Monomial, int] = {}
        for left, c in self.terms:
            for right, d in other.terms:
                monomial = tuple(sorted(left + right))
                product[monomial] = product.get(monomial, 0) + c * d
        return _polynomial(product)

    __radd__ = __add__
    __rmul__ = __mul__

    def __str__(self) -> str:
        return self.text


Operand = Dimension | int


def axis(name: str) -> Dimension:
    """The size of the dynamic axis `name` of a graph input: 0 or more."""
    return _atom(Atom(_quoted(name), "axis", name))


def element(tensor: str, index: int) -> Dimension:
    """Element `index`, in row-major order, of an integer tensor of which nothing is known."""
    return _atom(Atom(f"{_quoted(tensor)}[{index}]", "element", tensor))


def extent(tensor: str, index: int) -> Dimension:
    """The size of axis `index` of a tensor, of which nothing is known: 0 or more."""
    return _atom(Atom(f"{_quoted(tensor)}.shape[{index}]", "extent", tensor))


def minimum(a: Dimension, b: Dimension) -> Dimension:
    """The smaller one."""
    low, high = (a - b).bounds()
    return a if high <= 0 else b if low >= 0 else _function("min", *sorted((a, b), key=str))


def maximum(a: Dimension, b: Dimension) -> Dimension:
    """The larger one."""
    low, high = (a - b).bounds()
    return b if high <= 0 else a if low >= 0 else _function("max", *sorted((a, b), key=str))


def broadcast(a: Dimension, b: Dimension) -> Dimension:
    """The size of an axis of size `a` broadcast with one of size `b`, where the two are known to fit."""
    if a is b or a == b or b.constant == 1:
        return a
    if a.constant == 1 or b.constant is not None:
        return b
    return a if a.constant is not None else _function("broadcast", *sorted((a, b), key=str))


def product(factors: Iterable[Dimension]) -> Dimension:
    """The product of the factors; 1 if there is none."""
    return math.prod(factors, start=Dimension.of(1))


def floordiv(a: Dimension, b: Dimension) -> Dimension:
    """a / b rounded towards minus infinity, for a `b` that is not 0; ZeroDivisionError if it is the constant 0."""
    divisor = b.constant
    if divisor == 0:
        raise ZeroDivisionError(f"{a} / 0")
    if a.constant is not None and divisor is not None:
        return Dimension.of(a.constant // divisor)
    quotient = exact_quotient(a, b)
    if quotient is not None:
        return quotient
    if divisor is None:
        return _function("floordiv", a, b)
    if divisor < 0:
        a, divisor = -a, -divisor
    whole = _polynomial({monomial: c // divisor for monomial, c in a.terms})
    rest = _polynomial({monomial: c % divisor for monomial, c in a.terms})
    common = math.gcd(divisor, *(c for monomial, c in rest.terms if monomial))
    rest = _polynomial({monomial: c // common for monomial, c in rest.terms})
    divisor //= common
    low, high = rest.bounds()
    if 0 <= low and high < divisor:
        return whole
    if divisor == 1:
        return whole + rest
    (monomial, coefficient), *others = (term for term in rest.terms if term[0])
    if not others and coefficient == 1 and len(monomial) == 1 and monomial[0].kind == "floordiv":
        inner, by = monomial[0].arguments  # (inner // by + k) // divisor == (inner + k * by) // (by * divisor)
        if (by.constant or 0) > 0:
            return whole + floordiv(inner + (rest - _atom(monomial[0])) * by, by * divisor)
    return whole + _function("floordiv", rest, Dimension.of(divisor))


def ceildiv(a: Dimension, b: Dimension) -> Dimension:
    """a / b rounded towards infinity, for a `b` that is not 0; ZeroDivisionError if it is the constant 0."""
    divisor = b.constant
    if divisor is None or divisor < 0:
        return -floordiv(-a, b)
    return floordiv(a + (divisor - 1), b)


def truncdiv(a: Dimension, b: Dimension) -> Dimension:
    """a / b rounded towards 0, for a `b` that is not 0."""
    return maximum(floordiv(a, b), minimum(ceildiv(a, b), Dimension.of(0)))


def exact_quotient(a: Dimension, b: Dimension) -> Dimension | None:
    """The q with a == q * b for all sizes, if `b` is not 0 and divides `a` as polynomials; else None."""
    if not b.terms:
        return None
    divisor, by = max(b.terms, key=_order)
    quotient, rest = Dimension.of(0), a
    while rest.terms:
        monomial, coefficient = max(rest.terms, key=_order)
        remaining = list(monomial)
        for atom in divisor:
            if atom not in remaining:
                return None
            remaining.remove(atom)
        if coefficient % by:
            return None
        step = _polynomial({tuple(remaining): coefficient // by})
        quotient, rest = quotient + step, rest - step * b
    return quotient


def _order(term: tuple[Monomial, int]) -> tuple[int, Monomial]:
    """An order of terms that multiplication keeps: by degree, then by atoms."""
    return len(term[0]), term[0]


def _dimension(value: Operand) -> Dimension:
    return value if isinstance(value, Dimension) else Dimension.of(value)


def _constant(value: Operand) -> int | None:
    return value.constant if isinstance(value, Dimension) else value


def _quoted(name: str) -> str:
    return name if name.isidentifier() else repr(name)


def _atom(atom: Atom) -> Dimension:
    return Dimension(atom.text, (((atom,), 1),))


def _function(kind: Kind, *arguments: Dimension) -> Dimension:
    text = f"{kind}({', '.join(map(str, arguments))})"
    if len(text) > LONGEST:
        raise TooLarge(text)
    return _atom(Atom(text, kind, "", arguments))


def _floor(value: float, divisor: int) -> float:
    return value if math.isinf(value) else int(value) // divisor


def _sum(summands: Iterable[Operand]) -> Dimension:
    total: dict[Monomial, int] = {}
    for summand in summands:
        for monomial, c in _dimension(summand).terms:
            total[monomial] = total.get(monomial, 0) + c
    return _polynomial(total)


def _written(term: tuple[Monomial, int]) -> str:
    monomial, coefficient = term
    factors = [atom.text for atom in monomial]
    return "*".join(factors if factors and coefficient == 1 else [str(coefficient), *factors])


def _polynomial(coefficients: Mapping[Monomial, int]) -> Dimension:
    """The normal form of a sum of terms."""
    terms = tuple(sorted((item for item in coefficients.items() if item[1]), key=_order))
    text = " + ".join(map(_written, terms)) or "0"
    if len(text) > LONGEST:
        raise TooLarge(text)
    return Dimension(text, terms)
