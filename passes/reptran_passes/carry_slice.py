"""Slice: bounds times beta along the channels with step 1 (copies mix there), each copy alone otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.replication import CARRIERS, Wide, as_ints, rebuilt, replicates, wide_operand
from reptran_compiler.rewriting import Match, Tagged, reparametrises, rule


@dataclass(frozen=True)
class Bounds:
    """A Slice's bounds in either spelling (attributes before opset 10, inputs from then on), axes not negative."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    axes: tuple[int, ...]
    steps: tuple[int, ...]

    def at(self, axis: int, size: int) -> tuple[int, int, int] | None:
        """(start, end, step) of an axis, `0 <= start` and `end <= size`; None where it is not sliced."""
        if axis not in self.axes:
            return None
        place = self.axes.index(axis)
        return slice(self.starts[place], self.ends[place], self.steps[place]).indices(size)

    def places(self, axis: int, size: int) -> range:
        """The indices that are kept of an axis."""
        found = self.at(axis, size)
        return range(size) if found is None else range(*found)


def _elsewhere(m: Match, axes: Tensor | None) -> bool:
    """Whether stored axes say that the channels are not sliced, whatever the bounds are."""
    state = m.context.wide(m.root.inputs[0])
    if not isinstance(axes, Constant) or state is None:
        return False
    rank = m.context.rank(m.root.inputs[0])
    return state.axis not in {axis % rank for axis in as_ints(axes.values)}


def _bounds(m: Match) -> Bounds:
    """The bounds; none where all of them are of other axes than the channels."""
    root, rank = m.root, m.context.rank(m.root.inputs[0])
    if m.graph.opset < 10:
        starts, ends = list(root.attrs["starts"]), list(root.attrs["ends"])
        axes, steps = list(root.attrs.get("axes", range(len(starts)))), [1] * len(starts)
    else:
        given = [root.input(place) for place in range(1, 5)]
        if _elsewhere(m, given[2]):
            return Bounds((), (), (), ())
        m.require(all(t is None or isinstance(t, Constant) for t in given), "its bounds are computed")
        lists = [None if t is None else as_ints(t.values) for t in given]
        starts, ends = lists[0] or [], lists[1] or []
        axes = list(range(len(starts))) if lists[2] is None else lists[2]
        steps = [1] * len(starts) if lists[3] is None else lists[3]
    return Bounds(tuple(starts), tuple(ends), tuple(axis % rank for axis in axes), tuple(steps))


def _with_bounds(m: Match, g: Graph, bounds: Bounds) -> Tensor:
    """The Slice with other bounds."""
    root = m.root
    lists = {"starts": bounds.starts, "ends": bounds.ends, "axes": bounds.axes}
    if g.opset < 10:
        return rebuilt(m, g, root.inputs, {name: list(values) for name, values in lists.items()})[0]
    lists["steps"] = bounds.steps
    stored = [g.constant(f"{root.name}/{name}", values, np.int64) for name, values in lists.items()]
    return rebuilt(m, g, [root.inputs[0], *stored])[0]


@rule("carry-slice-channels", effect=reparametrises(), phase="replicate", order=CARRIERS)
class SliceChannels:
    """Slice of channels with step 1: bounds, normalised to 0 <= start <= end <= C, times beta."""

    def pattern(p: Any) -> Any:
        return p.Slice()

    def check(m: Match) -> None:
        state = wide_operand(m, blocks=True)
        found = _bounds(m).at(state.axis, state.size)
        m.require(found is not None and found[2] == 1, "does not slice the channels with step 1")

    def rewrite(m: Match, g: Graph) -> Tagged:
        state, bounds, beta = wide_operand(m, blocks=True), _bounds(m), m.context.beta
        place = bounds.axes.index(state.axis)
        first, last, _ = bounds.at(state.axis, state.size) or (0, 0, 1)
        starts, ends = list(bounds.starts), list(bounds.ends)
        starts[place], ends[place] = first * beta, max(first, last) * beta
        made = _with_bounds(m, g, Bounds(tuple(starts), tuple(ends), bounds.axes, bounds.steps))
        size = max(0, last - first)
        return Tagged(made, Wide(state.axis, size, 1, state.equal and size == state.size))

    def witness(m: Match, g: Graph) -> Tensor:
        state, bounds, beta = wide_operand(m, blocks=True), _bounds(m), m.context.beta
        kept = bounds.places(state.axis, state.size)
        order = [beta * kept.start + place for place in range(beta * len(kept))]
        return _gathered(m, g, state.axis, order)


@rule("carry-slice", effect=replicates(), phase="replicate", order=CARRIERS)
class Slice:
    """Slice of other axes, or of channels with another step: each copy alone."""

    def pattern(p: Any) -> Any:
        return p.Slice()

    def check(m: Match) -> None:
        state = wide_operand(m, blocks=True)
        found = _bounds(m).at(state.axis, state.size)
        m.require(found is None or found[2] != 1, "slices the channels with step 1")

    def rewrite(m: Match, g: Graph) -> Tagged:
        state, bounds = wide_operand(m, blocks=True), _bounds(m)
        found = bounds.at(state.axis, state.size)
        if found is None:
            return Tagged(m.root.outputs[0], state)
        kept = range(*found)
        tag = Wide(state.axis, len(kept), 1, state.equal)
        if kept.start == 0 and kept.step > 0 and len(kept) * kept.step == state.size:
            whole = Bounds(bounds.starts, _all(bounds, state.axis), bounds.axes, bounds.steps)
            return Tagged(_with_bounds(m, g, whole), tag)
        order = [copy * state.size + place for copy in range(m.context.beta) for place in kept]
        return Tagged(_gathered(m, g, state.axis, order), tag)


def _all(bounds: Bounds, axis: int) -> tuple[int, ...]:
    """The ends, that of an axis as far as it goes."""
    return tuple(2**31 - 1 if a == axis else end for a, end in zip(bounds.axes, bounds.ends, strict=True))


def _gathered(m: Match, g: Graph, axis: int, order: list[int]) -> Tensor:
    """Some channels of the operand in some order, and the Slice's other axes sliced."""
    bounds = _bounds(m)
    index = g.constant(f"{m.root.name}/channels", order, np.int64)
    node = g.node("Gather", [m.root.inputs[0], index], {"axis": axis}, name=f"{m.root.name}/Gather")
    gathered = node.outputs[0]
    rest = [place for place, each in enumerate(bounds.axes) if each != axis]
    if not rest:
        return gathered
    lists = [[values[place] for place in rest] for values in (bounds.starts, bounds.ends, bounds.axes, bounds.steps)]
    if g.opset < 10:
        attrs = {"starts": lists[0], "ends": lists[1], "axes": lists[2]}
        return g.node("Slice", [gathered], attrs, like=m.root).outputs[0]
    stored = [g.constant(f"{m.root.name}/bounds", values, np.int64) for values in lists]
    return g.node("Slice", [gathered, *stored], like=m.root).outputs[0]
