"""Transpose and the family of Reshape: the copies go along with the channel axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.replication import CARRIERS, Wide, as_ints, rebuilt, replicates
from reptran_compiler.rewriting import Match, Tagged, rule


def _state(m: Match) -> Wide:
    state: Wide | None = m.context.wide(m.root.inputs[0])
    m.require(state is not None, "reads no wide map")
    m.require(not any(m.context.wide(t) is not None for t in m.root.inputs[1:]), "its target depends on a wide map")
    assert state is not None
    return state


def _landing(m: Match) -> Wide:
    """Where the channel axis lands when axes are merged, split off or dropped.

    An output axis carries the copies if it is made of the channel axis, whole, of axes in front of it (copies then
    lie inside: `outer`) and of axes behind it.
    """
    state = _state(m)
    before, after = m.context.shape(m.root.inputs[0]), m.context.shape(m.root.outputs[0])
    left, size = math.prod(before[: state.axis]), before[state.axis]
    right = math.prod(before[state.axis + 1 :])
    done = 1
    for place, count in enumerate(after):
        if done * count > left or (done == left and count == size):
            ahead = left // done
            m.require(left % done == 0 and count % (ahead * size) == 0, "cuts the channel axis")
            behind = count // (ahead * size)
            m.require(behind > 0 and right % behind == 0, "cuts the channel axis")
            return Wide(place, count, ahead * state.outer, state.equal)
        done *= count
    m.require(False, "the channel axis vanishes")
    raise AssertionError


@rule("carry-transpose", effect=replicates(), phase="replicate", order=CARRIERS)
class Transpose:
    """Transpose: the channel axis moves."""

    def pattern(p: Any) -> Any:
        return p.Transpose()

    def rewrite(m: Match, g: Graph) -> Tagged:
        state, rank = _state(m), m.context.rank(m.root.inputs[0])
        perm = list(m.root.attrs.get("perm", range(rank - 1, -1, -1)))
        return Tagged(m.root.outputs[0], Wide(perm.index(state.axis), state.size, state.outer, state.equal))


@rule("carry-flatten", effect=replicates(), phase="replicate", order=CARRIERS)
class Flatten:
    """Flatten, Squeeze, Unsqueeze: the channel axis merges with others, or moves."""

    def pattern(p: Any) -> Any:
        return p.op("Flatten Squeeze Unsqueeze")

    def rewrite(m: Match, g: Graph) -> Tagged:
        return Tagged(m.root.outputs[0], _landing(m))


@rule("carry-reshape", effect=replicates(), phase="replicate", order=CARRIERS)
class Reshape:
    """Reshape: the target's size of the axis that the channels land on is beta times what it was."""

    def pattern(p: Any) -> Any:
        return p.Reshape()

    def rewrite(m: Match, g: Graph) -> Tagged:
        landing = _landing(m)
        target = widened_target(m, g, m.root.inputs[1], landing.axis)
        return Tagged(rebuilt(m, g, [m.root.inputs[0], target])[0], landing)


def widened_target(m: Match, g: Graph, target: Tensor, axis: int) -> Tensor:
    """A Reshape's target with one axis beta times as large: stored, or computed where it follows dynamic axes.

    0 (copied) and -1 (what remains) follow by themselves, a -1 elsewhere does not change.
    """
    beta = m.context.beta
    if isinstance(target, Constant):
        values = as_ints(target.values)
        values[axis] *= beta if values[axis] > 0 else 1
        return g.constant(f"{target.name}/wide", values, np.int64)
    length = m.context.shape(target)[0]
    factor = g.constant(f"{target.name}/factor", [beta if a == axis else 1 for a in range(length)], np.int64)
    made: Tensor = g.node("Mul", [target, factor], name=f"{target.name}/wide").outputs[0]
    return made


@rule("carry-shape", effect=replicates(), phase="replicate", order=CARRIERS)
class Shape:
    """Shape of a wide map: the channel axis divided by beta, so that shape arithmetic stays the source's."""

    def pattern(p: Any) -> Any:
        return p.Shape(p.any("x"))

    def check(m: Match) -> None:
        m.require(m.context.wide(m.x) is not None, "reads no wide map")
        m.require(not m.root.attrs.get("start", 0) and "end" not in m.root.attrs, "reads a part of the shape")

    def rewrite(m: Match, g: Graph) -> Tensor:
        axis, rank = m.context.wide(m.x).axis, m.context.rank(m.x)
        factor = [m.context.beta if place == axis else 1 for place in range(rank)]
        out = m.root.outputs[0]
        stored = g.constant(f"{out.name}/factor", factor, np.int64)
        made: Tensor = g.node("Div", [out, stored], name=f"{out.name}/Div").outputs[0]
        return made
