"""Dimensions are integers: whatever is computed with them holds for every size of the axes."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reptran_compiler.model.symbolic.dimension import (
    Dimension,
    TooLarge,
    axis,
    broadcast,
    ceildiv,
    element,
    exact_quotient,
    extent,
    floordiv,
    maximum,
    minimum,
    truncdiv,
)

N, H = axis("N"), axis("H:2 (odd) + name")
SIZES = st.fixed_dictionaries({"N": st.integers(0, 40), "H:2 (odd) + name": st.integers(0, 40)})
NUMBERS = st.integers(-6, 6)
POSITIVE = st.integers(1, 6)


def _deeper(inner: st.SearchStrategy[Dimension]) -> st.SearchStrategy[Dimension]:
    return st.one_of(
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] - p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] * p[1]),
        st.tuples(inner, inner).map(lambda p: minimum(*p)),
        st.tuples(inner, inner).map(lambda p: maximum(*p)),
        st.tuples(inner, POSITIVE).map(lambda p: floordiv(p[0], Dimension.of(p[1]))),
        st.tuples(inner, POSITIVE).map(lambda p: ceildiv(p[0], Dimension.of(-p[1]))),
        st.tuples(inner, POSITIVE).map(lambda p: truncdiv(p[0], Dimension.of(p[1]))),
    )


DIMENSIONS = st.recursive(st.one_of(st.sampled_from([N, H]), NUMBERS.map(Dimension.of)), _deeper, max_leaves=6)


@settings(max_examples=300, deadline=None)
@given(DIMENSIONS, DIMENSIONS, SIZES)
def test_arithmetic_of_dimensions_is_the_arithmetic_of_their_values(
    a: Dimension, b: Dimension, sizes: dict[str, Any]
) -> None:
    x, y = a.evaluate(sizes), b.evaluate(sizes)
    assert (a + b).evaluate(sizes) == x + y
    assert (a - b).evaluate(sizes) == x - y
    assert (-a).evaluate(sizes) == -x
    assert (a * b).evaluate(sizes) == x * y
    assert (3 - a).evaluate(sizes) == 3 - x and (2 * a + 1).evaluate(sizes) == 2 * x + 1
    assert minimum(a, b).evaluate(sizes) == min(x, y)
    assert maximum(a, b).evaluate(sizes) == max(x, y)
    for divide, expected in ((floordiv, math.floor), (ceildiv, math.ceil), (truncdiv, math.trunc)):
        if y:
            assert divide(a, b).evaluate(sizes) == expected(Fraction(x, y))
    if x == y or 1 in (x, y):
        assert broadcast(a, b).evaluate(sizes) == (y if x == 1 else x)


@settings(max_examples=200, deadline=None)
@given(DIMENSIONS, SIZES)
def test_bounds_and_constants_hold_for_every_size(a: Dimension, sizes: dict[str, Any]) -> None:
    value = a.evaluate(sizes)
    low, high = a.bounds()
    assert low <= value <= high
    if min(sizes.values()) >= 1:
        low, high = a.bounds(least=1)
        assert low <= value <= high
    assert a.constant in (None, value)


@settings(max_examples=200, deadline=None)
@given(DIMENSIONS, DIMENSIONS, DIMENSIONS)
def test_normalisation_makes_equal_what_ring_laws_make_equal(a: Dimension, b: Dimension, c: Dimension) -> None:
    assert a + b == b + a and a * b == b * a
    assert (a + b) + c == a + (b + c) and (a * b) * c == a * (b * c)
    assert a * (b + c) == a * b + a * c
    assert a - a == Dimension.of(0) and a + 0 == a and a * 1 == a
    assert hash(a + b) == hash(b + a)
    if b.terms:
        assert exact_quotient(a * b, b) == a


def test_what_is_known_of_quotients() -> None:
    two = Dimension.of(2)
    assert floordiv(N * 2 + 1, two) == N
    assert floordiv(N * H * 4, N * 2) == H * 2
    assert floordiv(floordiv(N, two), two) == floordiv(N, two * 2)
    assert ceildiv(ceildiv(N, two), two) == ceildiv(N, two * 2)
    assert floordiv(N, two).constant is None and floordiv(N, H).constant is None
    with pytest.raises(ZeroDivisionError):
        floordiv(N, Dimension.of(0))


def test_a_dimension_that_is_not_known_says_so() -> None:
    with pytest.raises(ValueError, match="N"):
        N.evaluate({"M": 3})
    for unknown in (element("t", 0), extent("t", 1)):
        assert unknown.constant is None
        with pytest.raises(ValueError, match=r"t"):
            (unknown + 1).evaluate({"N": 1})
        assert (unknown - unknown).constant == 0
    assert extent("t", 0).bounds()[0] == 0 and element("t", 0).bounds()[0] == -math.inf


def test_names_of_axes_are_not_taken_for_expressions() -> None:
    assert axis("N*H") != axis("N") * axis("H")
    assert axis("t[0]") != element("t", 0)
    assert axis("2") != Dimension.of(2)
    assert axis("a'b") != axis('a"b')


def test_an_expression_that_doubles_with_each_step_is_given_up() -> None:
    a = N
    with pytest.raises(TooLarge):
        for _ in range(100):
            a = a * a + H
    with pytest.raises(TooLarge):
        for _ in range(100):
            a = minimum(a, floordiv(a, a + 1) + H)
