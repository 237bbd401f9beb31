"""Transpose and the family of Reshape: the copies go along with the channel axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import TensorProto

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.replication import CARRIERS, Wide, as_ints, rebuilt, replicates, wide_operand
from reptran_compiler.rewriting import CannotContinue, Match, Tagged, rule


def _landing(m: Match) -> Wide:
    """Where the copies lie when axes are merged, split off or dropped.

    In memory x^ is [blocks, beta, run] with run the elements of one copy that follow one another. An output axis
    can carry them if it begins at or before a run and ends inside or with it; of several, the innermost that begins
    with the run and is longer than 1 is the channels' (of runs of single channels, the axis where they were).
    """
    state = wide_operand(m)
    before, after = m.context.shape(m.root.inputs[0]), m.context.shape(m.root.outputs[0])
    m.require(0 not in before, "reads an empty map")
    inner = state.size // state.outer
    run = inner * math.prod(before[state.axis + 1 :])
    found: list[Wide] = []
    stride = 1
    for place in reversed(range(len(after))):
        top = stride * after[place]
        if run % stride == 0 and top % run == 0:
            found.append(Wide(place, after[place], top // run, state.equal))
        stride = top
    m.require(bool(found), "cuts the channel axis")
    whole = [each for each in found if each.outer == 1]
    ones = [each for each in whole if each.size == 1]
    if inner == 1 and state.outer == 1 and ones:
        return next((each for each in ones if each.axis == state.axis), ones[0])
    longer = [each for each in whole if each.size > 1]
    return (longer or whole or found)[0]


@rule("carry-transpose", effect=replicates(), phase="replicate", order=CARRIERS)
class Transpose:
    """Transpose: the channel axis moves."""

    def pattern(p: Any) -> Any:
        return p.Transpose()

    def rewrite(m: Match, g: Graph) -> Tagged:
        state, rank = wide_operand(m), m.context.rank(m.root.inputs[0])
        perm = list(m.root.attrs.get("perm", range(rank - 1, -1, -1)))
        return Tagged(m.root.outputs[0], Wide(perm.index(state.axis), state.size, state.outer, state.equal))


@rule("carry-flatten", effect=replicates(), phase="replicate", order=CARRIERS)
class Flatten:
    """Flatten, Squeeze, Unsqueeze: the channel axis merges with others, or moves."""

    def pattern(p: Any) -> Any:
        return p.op("Flatten Squeeze Unsqueeze")

    def rewrite(m: Match, g: Graph) -> Tagged:
        wide_operand(m)
        ranks = {m.facts.source(m.root.outputs[0], case).rank for case in range(len(m.facts.cases))}
        if len(ranks) > 1:
            what = f"{m.root.op_type} {m.root.name!r} drops the batch axis too where the batch is 1"
            hint = "name the axes that it shall drop (in PyTorch, x.flatten(1) for x.squeeze())"
            raise CannotContinue(f"{what}: {hint}")
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
    if g.opset < 9:
        return _widened_of_old(g, target, axis, length, beta)
    factor = g.constant(f"{target.name}/factor", [beta if a == axis else 1 for a in range(length)], np.int64)
    scaled = g.node("Mul", [target, factor], name=f"{target.name}/Mul").outputs[0]
    one = g.constant(f"{target.name}/one", [1], np.int64)
    free = g.node("Less", [target, one], name=f"{target.name}/free").outputs[0]
    return g.node("Where", [free, target, scaled], name=f"{target.name}/wide").outputs[0]


def _widened_of_old(g: Graph, target: Tensor, axis: int, length: int, beta: int) -> Tensor:
    """The same without Where and without comparisons of integers: `target * (1 + (beta - 1) * (target > 0))`."""
    zero = g.constant(f"{target.name}/zero", np.zeros((), np.float32))
    ones = g.constant(f"{target.name}/ones", np.ones(length, np.int64))
    more = g.constant(f"{target.name}/more", [beta - 1 if a == axis else 0 for a in range(length)], np.int64)
    real = g.node("Cast", [target], {"to": TensorProto.FLOAT}, name=f"{target.name}/real").outputs[0]
    mask = g.node("Greater", [real, zero], name=f"{target.name}/positive").outputs[0]
    whole = g.node("Cast", [mask], {"to": TensorProto.INT64}, name=f"{target.name}/whole").outputs[0]
    added = g.node("Mul", [whole, more], name=f"{target.name}/added").outputs[0]
    factor = g.node("Add", [added, ones], name=f"{target.name}/factor").outputs[0]
    return g.node("Mul", [target, factor], name=f"{target.name}/wide").outputs[0]


@rule("carry-shape", effect=replicates(), phase="replicate", order=CARRIERS)
class Shape:
    """Shape of a wide map: the channel axis divided by beta, so that shape arithmetic stays the source's."""

    def pattern(p: Any) -> Any:
        return p.Shape(p.any("x"))

    def check(m: Match) -> None:
        m.require(m.context.wide(m.x) is not None, "reads no wide map")

    def rewrite(m: Match, g: Graph) -> Tensor:
        axis, rank = m.context.wide(m.x).axis, m.context.rank(m.x)
        axes = range(rank)[slice(m.root.attrs.get("start", 0), m.root.attrs.get("end", rank))]
        out = m.root.outputs[0]
        if axis not in axes:
            return out
        stored = g.constant(f"{out.name}/factor", [m.context.beta if a == axis else 1 for a in axes], np.int64)
        return g.node("Div", [out, stored], name=f"{out.name}/Div").outputs[0]


@rule("carry-size", effect=replicates(), phase="replicate", order=CARRIERS)
class Size:
    """Size of a wide map: divided by beta."""

    def pattern(p: Any) -> Any:
        return p.Size(p.any("x"))

    def check(m: Match) -> None:
        m.require(m.context.wide(m.x) is not None, "reads no wide map")

    def rewrite(m: Match, g: Graph) -> Tensor:
        out = m.root.outputs[0]
        stored = g.constant(f"{out.name}/factor", np.asarray(m.context.beta, np.int64))
        return g.node("Div", [out, stored], name=f"{out.name}/Div").outputs[0]
