"""Channel shuffle: Reshape, Transpose, Reshape taken as one operator."""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.replication import CARRIERS, Wide
from reptran_compiler.rewriting import Match, Tagged, reparametrises, rule
from reptran_passes.carry_reshape import widened_target


def _first_swapped(perm: list[int]) -> int | None:
    moved = [place for place, axis in enumerate(perm) if place != axis]
    if len(moved) != 2 or moved[1] != moved[0] + 1 or perm[moved[0]] != moved[1]:
        return None
    return moved[0]


def _swaps(perm: list[int] | None) -> bool:
    """Whether a permutation swaps two neighbours and nothing else."""
    return perm is not None and _first_swapped(perm) is not None


@rule("carry-shuffle", effect=reparametrises(), phase="replicate", order=CARRIERS)
class Shuffle:
    """A channel shuffle keeps its number of groups; channels per group times beta."""

    def pattern(p: Any, x: Any) -> Any:
        cut = p.Reshape(x, p.any("cut_target"), name="cut")
        turn = p.Transpose(cut, name="turn", perm=_swaps)
        return p.Reshape(turn, p.any("back_target"), name="back")

    def check(m: Match) -> None:
        state = m.context.wide(m.x)
        m.require(state is not None and state.outer == 1, "its channels are not in blocks")
        before, middle = m.context.shape(m.x), m.context.shape(m.cut.outputs[0])
        axis = state.axis
        m.require(m.context.shape(m.back.outputs[0]) == before, "does not give the shape back")
        m.require(
            len(middle) == len(before) + 1
            and middle[:axis] == before[:axis]
            and middle[axis + 2 :] == before[axis + 1 :]
            and _first_swapped(m.turn.attrs["perm"]) == axis,
            "does not shuffle the channels",
        )
        m.require(not any(m.context.wide(t) is not None for t in (m.cut_target, m.back_target)), "its target is wide")

    def rewrite(m: Match, g: Graph) -> Tagged:
        state = m.context.wide(m.x)
        target = widened_target(m, g, m.cut_target, state.axis + 1)
        cut = g.node("Reshape", [m.x, target], m.cut.attrs, like=m.cut)
        turn = g.node("Transpose", [cut.outputs[0]], m.turn.attrs, like=m.turn)
        target = widened_target(m, g, m.back_target, state.axis)
        for old, new in ((m.cut, cut), (m.turn, turn)):
            m.keep_name(old.outputs[0], new.outputs[0])
        back = g.node("Reshape", [turn.outputs[0], target], m.back.attrs, like=m.back)
        return Tagged(back.outputs[0], Wide(state.axis, state.size, 1, equal=False))

    def witness(m: Match, g: Graph) -> Tensor:
        """The channels in the order that a shuffle of beta times as many has."""
        state = m.context.wide(m.x)
        groups = m.context.shape(m.cut.outputs[0])[state.axis]
        order = np.arange(state.size * m.context.beta).reshape(groups, -1).T.reshape(-1)
        index = g.constant("witness/channels", order, np.int64)
        return g.node("Gather", [m.x, index], {"axis": state.axis}, name="witness").outputs[0]
