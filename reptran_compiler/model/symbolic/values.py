"""The value of each operator's output, from those of its operands: for the operators of shape arithmetic.

Elements are Dimension for integers and booleans (0 and 1), numpy scalars for floating point; None is an element of
which nothing is known."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from reptran_compiler.model.symbolic.dimension import (
    Dimension,
    exact_quotient,
    floordiv,
    maximum,
    minimum,
    product,
    truncdiv,
)
from reptran_compiler.model.symbolic.facts import LARGEST, Array, Call, constant_shape, of_array, of_tensor
from reptran_compiler.model.symbolic.shapes import bounds_of_shape, normal_axis, spans_of

ValueRule = Callable[[Call], "list[Array | None]"]
"""From a node's operands to the value of each output, as far as it is known (None: nothing, or not followed)."""

Element = Any  # Dimension | np.floating[Any] | None


def shape(call: Call) -> list[Array | None]:
    """The sizes of the operand's axes."""
    known = call.shape()
    if known is None:
        return [None]
    first, last = bounds_of_shape(call, len(known))
    return [_vector(known[first:last])]


def size(call: Call) -> list[Array | None]:
    """The number of elements."""
    known = call.shape()
    return [None if known is None else _scalar(product(known))]


def same(call: Call) -> list[Array | None]:
    """The operand's."""
    return [call.operand(0).value]


def elementwise(function: Callable[..., Element]) -> ValueRule:
    """A function of an element of each operand."""

    def rule(call: Call) -> list[Array | None]:
        known = []
        for place in range(len(call.inputs)):
            value = call.operand(place).value
            if value is None:
                return [None]
            known.append(value)
        return [_apply(function, *known) if known else None]

    return rule


def folded(function: Callable[[Element, Element], Element]) -> ValueRule:
    """A function of two, over any number of operands."""
    return elementwise(lambda *items: reduce(lambda a, b: None if a is None else function(a, b), items))


def constant_of_shape(call: Call) -> list[Array | None]:
    """One value everywhere: the attribute's, or 0."""
    form, stored = constant_shape(call.form), call.attributes.get("value")
    if form is None or math.prod(form) > LARGEST:
        return [None]
    value = of_array(np.zeros(1, dtype=np.float32)) if stored is None else of_tensor(stored)
    return [None if value.value is None else np.broadcast_to(value.value.reshape(()), form)]


def cast(call: Call) -> list[Array | None]:
    """The operand's, in the type of the output (the caller looks after its range)."""
    source, value = call.operand(0), call.operand(0).value
    target = call.target
    if value is None or source.dtype is None or target is None:
        return [None]
    if target.kind == "f":
        convert = _to_float(target.type)
    elif target.kind == "b":
        convert = _truth
    else:
        convert = _to_integer
    return [_apply(convert, value)]


def concat(call: Call) -> list[Array | None]:
    """The operands side by side."""
    values = [call.operand(i).value for i in range(len(call.inputs))]
    known = [value for value in values if value is not None]
    return [np.concatenate(known, axis=call.integer("axis", 1)) if len(known) == len(values) else None]


def gather(call: Call) -> list[Array | None]:
    """The elements at constant indices."""
    value, indices = call.operand(0).value, call.operand(1)
    numbers, form = indices.constants, constant_shape(indices.shape)
    if value is None or numbers is None or form is None:
        return [None]
    axis = normal_axis(call.integer("axis", 0), value.ndim)
    found = np.empty(value.shape[:axis] + form + value.shape[axis + 1 :], dtype=object)
    found[...] = np.take(value, np.array(numbers, dtype=np.int64).reshape(form), axis=axis)
    return [found]


def slice_(call: Call) -> list[Array | None]:
    """The elements between constant bounds."""
    value = call.operand(0).value
    spans = None if value is None else spans_of(call)
    if value is None or spans is None:
        return [None]
    window = [slice(None)] * value.ndim
    for axis, span in spans.items():
        if span is None or span[0].constant is None or span[1].constant is None:
            return [None]
        end = span[1].constant
        window[axis] = slice(span[0].constant, None if end < 0 else end, span[2])
    return [value[tuple(window)]]


def moved(call: Call) -> list[Array | None]:
    """The same elements in the shape of the output."""
    value, form = call.operand(0).value, constant_shape(call.form)
    return [None if value is None or form is None else value.reshape(form)]


def transpose(call: Call) -> list[Array | None]:
    """The axes in the order of `perm`."""
    value = call.operand(0).value
    return [None if value is None else value.transpose(call.attributes.get("perm"))]


def split(call: Call) -> list[Array | None]:
    """Parts of constant sizes."""
    value = call.operand(0).value
    forms = [constant_shape(form) for form in call.forms]
    if value is None or None in forms:
        return [None] * len(forms)
    axis = normal_axis(call.integer("axis", 0), value.ndim)
    ends = np.cumsum([form[axis] for form in forms if form is not None])
    return list(np.split(value, ends[:-1], axis=axis))


def expand(call: Call) -> list[Array | None]:
    """Repeated along axes of size 1."""
    value, form = call.operand(0).value, constant_shape(call.form)
    small = form is not None and math.prod(form) <= LARGEST
    return [np.broadcast_to(value, form) if value is not None and form is not None and small else None]


def tile(call: Call) -> list[Array | None]:
    """Repeated as often as told."""
    value, form = call.operand(0).value, constant_shape(call.form)
    times = call.operand(1).constants
    small = form is not None and math.prod(form) <= LARGEST
    return [np.tile(value, times) if value is not None and times is not None and small else None]


def range_(call: Call) -> list[Array | None]:
    """Integers from constant bounds in constant steps."""
    ends = [call.operand(i).constants for i in range(3)]
    numbers = [end[0] for end in ends if end]
    found = range(*numbers) if len(numbers) == 3 else None
    return [None if found is None or len(found) > LARGEST else _vector([Dimension.of(i) for i in found])]


def where(call: Call) -> list[Array | None]:
    """Chosen by conditions that are decided, or between equal elements."""
    mask, yes, no = (call.operand(i).value for i in range(3))
    if mask is None or yes is None or no is None:
        return [None]

    def choose(condition: Dimension, a: Element, b: Element) -> Element:
        decided = condition.constant
        if decided is None:
            return a if isinstance(a, Dimension) and a == b else None
        return a if decided else b

    return [_apply(choose, mask, yes, no)]


def reduction(function: Callable[[Sequence[Dimension]], Dimension | None]) -> ValueRule:
    """A function of all integers along constant axes."""

    def rule(call: Call) -> list[Array | None]:
        value, form = call.operand(0).value, constant_shape(call.form)
        axes = call.numbers("axes", 1)
        if value is None or form is None or (axes is None and call.has("axes", 1)) or not _integers(value):
            return [None]
        if not axes and call.integer("noop_with_empty_axes", 0):
            return [value]
        gone = sorted({normal_axis(axis, value.ndim) for axis in axes or range(value.ndim)})
        kept = [axis for axis in range(value.ndim) if axis not in gone]
        rows = value.transpose(kept + gone).reshape([value.shape[axis] for axis in kept] + [-1])
        found = np.empty(rows.shape[:-1], dtype=object)
        for place in np.ndindex(*found.shape):
            found[place] = function(list(rows[place]))
        return [found.reshape(form)]

    return rule


def total(items: Sequence[Dimension]) -> Dimension:
    """The sum."""
    return sum(items, start=Dimension.of(0))


def largest(items: Sequence[Dimension]) -> Dimension | None:
    """The largest."""
    return reduce(maximum, items) if items else None


def smallest(items: Sequence[Dimension]) -> Dimension | None:
    """The smallest."""
    return reduce(minimum, items) if items else None


def divided(a: Element, b: Element) -> Element:
    """a / b; of integers rounded towards 0."""
    if not isinstance(a, Dimension):
        return a / b
    quotient = exact_quotient(a, b)
    if quotient is not None:
        return quotient
    least, most = b.bounds()
    return truncdiv(a, b) if least > 0 or most < 0 else None


def modulo(call: Call) -> list[Array | None]:
    """The remainder; with `fmod` it has the sign of a, else that of b."""

    def remainder(a: Element, b: Element) -> Element:
        if not isinstance(a, Dimension) or b.bounds()[0] < 1 or (call.integer("fmod", 0) and a.bounds()[0] < 0):
            return None
        return a - b * floordiv(a, b)

    return elementwise(remainder)(call)


def clip(call: Call) -> list[Array | None]:
    """Between two bounds, of which either may be left out."""
    value, low, high = (call.operand(i).value for i in range(3))
    if value is None or not _integers(value) or (call.given(1) and low is None) or (call.given(2) and high is None):
        return [None]
    if low is not None:
        value = _apply(maximum, value, low)
    return [value if high is None else _apply(minimum, value, high)]


def less(a: Element, b: Element) -> Element:
    """a < b, where that is decided."""
    if not isinstance(a, Dimension):
        return Dimension.of(int(a < b))
    low, high = (b - a).bounds()
    return Dimension.of(1) if low > 0 else Dimension.of(0) if high <= 0 else None


def negated(a: Element) -> Element:
    """Not a."""
    return None if a is None else Dimension.of(1) - a


def equal(a: Element, b: Element) -> Element:
    """a == b, where that is decided."""
    if not isinstance(a, Dimension):
        return Dimension.of(int(a == b))
    low, high = (a - b).bounds()
    return Dimension.of(1) if low == high == 0 else Dimension.of(0) if low > 0 or high < 0 else None


def least(a: Element, b: Element) -> Element:
    """The smaller one."""
    return minimum(a, b) if isinstance(a, Dimension) else min(a, b)


def greatest(a: Element, b: Element) -> Element:
    """The larger one."""
    return maximum(a, b) if isinstance(a, Dimension) else max(a, b)


def absolute(a: Element) -> Element:
    """Without the sign."""
    if not isinstance(a, Dimension):
        return abs(a)
    low, high = a.bounds()
    return a if low >= 0 else -a if high <= 0 else None


def floating(function: Callable[[Any], Any]) -> ValueRule:
    """A function of floating point that leaves integers alone."""
    return elementwise(lambda a: a if isinstance(a, Dimension) else function(a))


def both(a: Element, b: Element) -> Element:
    """a and b."""
    decided = a.constant, b.constant
    return Dimension.of(0) if 0 in decided else b if decided[0] else a if decided[1] else None


def either(a: Element, b: Element) -> Element:
    """a or b."""
    return negated(both(negated(a), negated(b)))


PLUS, MINUS, TIMES, MINUS_ONE = operator.add, operator.sub, operator.mul, operator.neg


def _truth(a: Element) -> Element:
    if not isinstance(a, Dimension):
        return Dimension.of(int(a != 0))
    verdict = equal(a, Dimension.of(0))
    return negated(verdict)


def _to_float(kind: Callable[[int], Any]) -> Callable[[Element], Element]:
    def convert(a: Element) -> Element:
        if isinstance(a, Dimension):
            return None if a.constant is None else kind(a.constant)
        return kind(a)

    return convert


def _to_integer(a: Element) -> Element:
    return a if isinstance(a, Dimension) else Dimension.of(int(a)) if np.isfinite(a) else None


def _integers(value: Array) -> bool:
    return all(isinstance(item, Dimension) for item in value.flat)


def _apply(function: Callable[..., Element], *values: Array) -> Array:
    found = np.empty(np.broadcast_shapes(*(value.shape for value in values)), dtype=object)
    if found.size:
        found[...] = np.frompyfunc(function, len(values), 1)(*values)
    return found


def _vector(items: Sequence[Dimension]) -> Array:
    value = np.empty(len(items), dtype=object)
    value[:] = items
    return value


def _scalar(item: Dimension) -> Array:
    value = np.empty((), dtype=object)
    value[()] = item
    return value
