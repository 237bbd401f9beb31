"""Mistakes in the compiler's own rules, whose effects are not executed meanwhile: the judge is alone with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from reptran_passes import (
    carry_concat,
    carry_pad,
    carry_shuffle,
    carry_slice,
    carry_split,
    replicate_input,
    replicate_output,
    rewrite_fc,
    widen_depthwise,
)
from reptran_passes.carry_reshape import widened_target

from reptran_compiler import pipeline
from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.replication import Copies, WeightMove, Wide, again, binarised, pointwise, wide_operand
from reptran_compiler.replication.copies import rebuilt
from reptran_compiler.rewriting import Match, Rule, Tagged
from tests.planted.breaking import Broken, having, rewriting, rules, together
from tests.planted.changes import reversed_blocks
from tests.planted.kinds import Theme
from tests.planted.order import network_scope
from tests.planted.result import Array

MOVING = ("replicate-input", "drop-in")
CARRYING = (
    "carry-broadcasting",
    "carry-batch-norm",
    "carry-concat-channels",
    "carry-concat",
    "carry-instance-norm",
    "widen-depthwise",
)
MEANS = ("boundary", "fold-fc")


# Replication.

_MOVE, _STORED, _ROLE, _TILED, _MEAN = (
    replicate_input._move,
    Copies.stored,
    Copies._role,
    Copies.tiled,
    Copies.mean,
)


def _moved_interleaved(copies: Copies, layer: Node, stored: Constant) -> Any:
    move = _MOVE(copies, layer, stored)
    if len(move.order) == 4:
        return replace(move, order=(0, 1, 2, 3))
    return replace(move, order=(0, 2, 3, 4, 1, *move.order[5:]))


def _moved_in_stripes(copies: Copies, layer: Node, stored: Constant) -> Any:
    move = _MOVE(copies, layer, stored)
    if len(move.order) == 4:
        outer, columns, beta, filters = move.reshape
        return replace(move, reshape=(outer, columns, filters, beta), order=(0, 3, 1, 2))
    parts, beta, filters, *rest = move.reshape
    return replace(move, reshape=(parts, filters, beta, *rest), order=(0, 1, 3, 2, *move.order[4:]))


def _moved_as_one_group(copies: Copies, layer: Node, stored: Constant) -> Any:
    move = _MOVE(copies, layer, stored)
    if move.reshape[0] == 1 or len(move.order) == 4:
        return move
    parts, beta, filters, *rest = move.reshape
    return replace(move, reshape=(1, beta, parts * filters, *rest))


def moved_values(change: Callable[[Array, int], Array]) -> Broken:
    """Another change to what is moved."""

    def moved(self: Copies, g: Graph, tensor: Constant, move: WeightMove) -> Constant:
        values = np.array(move.arrangement.apply(tensor.values), order="C")
        values = np.ascontiguousarray(change(values, self.beta)).astype(values.dtype)
        return _STORED(self, g, tensor, ("move", move.arrangement), values, "rep")

    return having(Copies, "moved", moved)


def widened(change: Callable[[Array, int, int], Array]) -> Broken:
    """Another change to what is widened."""

    def stored(self: Copies, g: Graph, tensor: Constant, what: Any, values: Array, suffix: str) -> Constant:
        if what[0] == "tile" and values.dtype.kind == "f":
            values = np.ascontiguousarray(change(np.asarray(tensor.values), self.beta, what[1])).astype(values.dtype)
        return _STORED(self, g, tensor, what, values, suffix)

    return having(Copies, "stored", stored)


def _one_sign(values: Array, beta: int) -> Array:
    values.reshape(-1)[0] *= -1
    return values


def _zeros_behind(values: Array, beta: int, axis: int) -> Array:
    return np.concatenate([values, *[0 * values] * (beta - 1)], axis)


def _neighbours(values: Array, beta: int, axis: int) -> Array:
    return np.concatenate([values, *[np.roll(values, 1, axis)] * (beta - 1)], axis)


def _in_place(self: Copies, g: Graph, tensor: Tensor, axis: int, outer: int = 1) -> Tensor:
    if not isinstance(tensor, Constant) or outer != 1:
        return _REPEATED(self, g, tensor, axis, outer)
    values = np.tile(tensor.values, [self.beta if place == axis else 1 for place in range(len(tensor.shape))])
    gs.Constant.values.fset(tensor, values)
    return tensor


_REPEATED = Copies.repeated


def _tiled_once(self: Copies, g: Graph, tensor: Tensor, axis: int, times: int, hint: str, rank: Any = None) -> Tensor:
    return _TILED(self, g, tensor, axis, self.beta if times == self.beta**2 else times, hint, rank)


def _output_interleaved(m: Match, g: Graph) -> Tagged:
    out = m.root.outputs[0]
    state, beta = m.context.distinct(out), m.context.beta
    order = g.constant("order", np.repeat(np.arange(state.size // beta), beta**2), np.int64)
    made = g.node("Gather", [out, order], {"axis": state.axis}, name=f"{m.layer.name}/Gather").outputs[0]
    return Tagged(made, Wide(state.axis, state.size))


def _stem_turned(m: Match, g: Graph) -> Tagged:
    out = m.root.outputs[0]
    axis, beta = m.context.stem_axis(out), m.context.beta
    size = m.context.shape(out)[axis]
    index = np.concatenate([np.arange(size), *[np.arange(size)[::-1]] * (beta - 1)])
    order = g.constant("order", index, np.int64)
    made = g.node("Gather", [out, order], {"axis": axis}, name=f"{m.root.name}/Gather").outputs[0]
    return Tagged(made, Wide(axis, size))


def _all_boundaries(self: Copies, node: Node) -> tuple[str, str]:
    role, reason = _ROLE(self, node)
    return ("boundary", "there is none") if role == "repconv" else (role, reason)


def _nothing(*_: Any) -> None:
    """Nothing is asked for."""


def _with_guess(options: pipeline.Options) -> tuple[Rule, ...]:
    guess = pointwise("LRN", "Softmax", "ConvTranspose", name="carry-unknown")
    found = _RULES(options)
    place = next(place for place, rule in enumerate(found) if rule.name == "boundary")
    return (*found[:place], guess, *found[place:])


_RULES = pipeline.available_rules


def _first_copy(self: Copies, g: Graph, tensor: Tensor, state: Wide) -> Tensor:
    return self._cut(g, tensor, state)[0]


def _sum_of_copies(self: Copies, g: Graph, tensor: Tensor, state: Wide) -> Tensor:
    return g.node("Sum", self._cut(g, tensor, state), name=f"{tensor.name}/Mean").outputs[0]


def _mean_behind(self: Copies, g: Graph, tensor: Tensor) -> Tensor:
    state = self.wide(tensor)
    if state is None or binarised(tensor) is None:
        return _MEAN(self, g, tensor)
    start = g.mark()
    made = self.mean_behind(g, tensor, state)
    made.name = g.fresh(f"{tensor.name}/mean")
    self.facts.share(g.since(start))
    return made


# The classifier.

_COLUMNS = rewrite_fc.widened_columns


def _undivided(m: Match, weight: Array) -> Array:
    columns: Array = _COLUMNS(m, weight) * m.context.beta
    return columns


def _interleaved_columns(m: Match, weight: Array) -> Array:
    axis = 1 if m.layer.op == "Conv" or m.layer.attrs.get("transB", 0) else 0
    return np.repeat(weight, m.context.beta, axis)


def _last_copy_columns(m: Match, weight: Array) -> Array:
    axis = 1 if m.layer.op == "Conv" or m.layer.attrs.get("transB", 0) else 0
    beta = m.context.beta
    return np.concatenate([*[0 * weight] * (beta - 1), weight * beta], axis)


# Operators that move channels.


def _concat_by_copies(m: Match, g: Graph) -> Tagged:
    axis, out, beta = carry_concat._axis(m), m.root.outputs[0], m.context.beta
    operands = carry_concat._operands(m, g, axis)
    sizes = [m.context.shape(t)[axis] for t in m.root.inputs]
    starts = np.cumsum([0, *(size * beta for size in sizes)])
    index = [
        np.arange(size) + start + copy * size
        for copy in range(beta)
        for size, start in zip(sizes, starts[:-1], strict=True)
    ]
    made = rebuilt(m, g, operands)[0]
    order = g.constant("order", np.concatenate(index), np.int64)
    made = g.node("Gather", [made, order], {"axis": axis}, name=f"{m.root.name}/Gather").outputs[0]
    return Tagged(made, Wide(axis, m.context.shape(out)[axis], 1, equal=False))


_OPERANDS = carry_concat._operands


def _concat_turned(m: Match, g: Graph, axis: int) -> list[Tensor]:
    return _OPERANDS(m, g, axis)[::-1]


def _split_each_copy(m: Match, g: Graph) -> list[Tagged]:
    axis, beta = carry_split._along(m), m.context.beta
    sizes = [m.context.shape(out)[axis] for out in m.root.outputs]
    count, starts, made = sum(sizes), np.cumsum([0, *sizes]), []
    for size, start in zip(sizes, starts, strict=False):
        index = np.concatenate([np.arange(size) + start + copy * count for copy in range(beta)])
        given = [m.root.inputs[0], g.constant("order", index, np.int64)]
        node = g.node("Gather", given, {"axis": axis}, name=f"{m.root.name}/Gather")
        made.append(Tagged(node.outputs[0], Wide(axis, size, 1, equal=False)))
    return made


def _slice_each_copy(m: Match, g: Graph) -> Tagged:
    state, bounds = wide_operand(m, blocks=True), carry_slice._bounds(m)
    kept = bounds.places(state.axis, state.size)
    order = [copy * state.size + place for copy in range(m.context.beta) for place in kept]
    made = carry_slice._gathered(m, g, state.axis, order)
    return Tagged(made, Wide(state.axis, len(kept), 1, equal=False))


_PADS = carry_pad._pads


def _pads_turned(m: Match) -> list[int]:
    pads = list(_PADS(m))
    half = len(pads) // 2
    pads[1], pads[half + 1] = pads[half + 1], pads[1]
    return pads


_TARGET = widened_target


def _groups_widened(m: Match, g: Graph, target: Tensor, axis: int) -> Tensor:
    return _TARGET(m, g, target, axis - 1 if target is m.cut_target else axis)


def _depthwise_interleaved(copies: Copies, g: Graph, weight: Tensor) -> Tensor:
    latent = binarised(weight)
    stored = weight if latent is None else latent
    if not isinstance(stored, Constant):
        return _DEPTHWISE(copies, g, weight)
    values = np.repeat(np.asarray(stored.values), copies.beta, axis=0)
    made = g.constant(f"{stored.name}/wide", values)
    return made if latent is None else again(g, weight, latent, made)


_DEPTHWISE = widen_depthwise._repeated


def _widened(options: pipeline.Options) -> bool:
    return options.fc == "widen" and options.scope == "network"


THEME = Theme(
    "The rules of replication",
    (
        *rules(
            ("columns interleaved", having(replicate_input, "_move", _moved_interleaved), MOVING, bool),
            ("rows in stripes", having(replicate_input, "_move", _moved_in_stripes), MOVING, bool),
            ("rows moved as if in one group", having(replicate_input, "_move", _moved_as_one_group), MOVING, bool),
            ("row blocks in reverse order", moved_values(reversed_blocks), MOVING, bool),
            ("a sign flipped", moved_values(_one_sign), MOVING, bool),
            ("beta for beta^2", having(Copies, "tiled", _tiled_once), ("replicate-output",), network_scope),
            (
                "outputs interleaved",
                rewriting(replicate_output.ReplicateOutput, _output_interleaved),
                ("replicate-output",),
                network_scope,
            ),
            (
                "stem's copies turned round",
                rewriting(replicate_output.ReplicateStem, _stem_turned),
                ("replicate-stem",),
                network_scope,
            ),
            (
                "parameters interleaved",
                widened(lambda v, beta, axis: np.repeat(v, beta, axis)),
                CARRYING,
                network_scope,
            ),
            ("parameters widened with zeros", widened(_zeros_behind), CARRYING, network_scope),
            ("parameters of the neighbour in later copies", widened(_neighbours), CARRYING, network_scope),
            (
                "unknown operators taken for pointwise",
                having(pipeline, "available_rules", _with_guess),
                ("carry-unknown",),
                network_scope,
            ),
            ("classifier not divided", having(rewrite_fc, "widened_columns", _undivided), ("rewrite-fc",), _widened),
            (
                "classifier's columns interleaved",
                having(rewrite_fc, "widened_columns", _interleaved_columns),
                ("rewrite-fc",),
                _widened,
            ),
            (
                "classifier of the last copy",
                having(rewrite_fc, "widened_columns", _last_copy_columns),
                ("rewrite-fc",),
                _widened,
            ),
            (
                "Concat copy by copy",
                rewriting(carry_concat.ConcatChannels, _concat_by_copies),
                ("carry-concat-channels",),
                network_scope,
            ),
            (
                "Concat in another order",
                having(carry_concat, "_operands", _concat_turned),
                ("carry-concat-channels", "carry-concat"),
                network_scope,
            ),
            (
                "Split of each copy",
                rewriting(carry_split.SplitChannels, _split_each_copy),
                ("carry-split-channels",),
                network_scope,
            ),
            (
                "Slice of each copy",
                rewriting(carry_slice.SliceChannels, _slice_each_copy),
                ("carry-slice-channels",),
                network_scope,
            ),
            (
                "channels padded on the other side",
                having(carry_pad, "_pads", _pads_turned),
                ("carry-pad-channels",),
                network_scope,
            ),
            (
                "depthwise filters interleaved",
                having(widen_depthwise, "_repeated", _depthwise_interleaved),
                ("widen-depthwise",),
                network_scope,
            ),
        ),
        *rules(
            ("shared constants widened in place", having(Copies, "repeated", _in_place), CARRYING, network_scope),
            (
                "every layer a boundary",
                together(having(Copies, "_role", _all_boundaries), having(pipeline, "_see_something_done", _nothing)),
                ("boundary",),
                network_scope,
            ),
            ("the first copy for the mean", having(Copies, "mean_behind", _first_copy), MEANS, network_scope),
            ("the sum for the mean", having(Copies, "mean_behind", _sum_of_copies), MEANS, network_scope),
            ("mean of signs for sign of the mean", having(Copies, "mean", _mean_behind), MEANS, network_scope),
            (
                "shuffle in beta times the groups",
                having(carry_shuffle, "widened_target", _groups_widened),
                ("carry-shuffle",),
                network_scope,
            ),
            reading=True,
        ),
    ),
)
