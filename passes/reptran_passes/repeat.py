"""`--repeat`: other ways than Tile to write down replication, for backends that have no Tile, or a slow one."""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.rewriting import Match, preserves, rule


def _is_replication(m: Match) -> None:
    m.require(m.root.name in m.context.added, "is the source's own")
    m.require(isinstance(m.times, Constant), "repeats as often as is computed")
    m.require(np.count_nonzero(m.times.values != 1) == 1, "repeats along several axes, or along none")


def _axis_and_times(m: Match) -> tuple[int, int]:
    repeats = m.times.values
    axis = int(np.flatnonzero(repeats != 1)[0])
    return axis, int(repeats[axis])


@rule("repeat-by-concat", effect=preserves(), phase="finish", order=80)
class RepeatByConcat:
    """Replication becomes Concat of a map with itself (only with --repeat concat)."""

    def pattern(p: Any, x: Any) -> Any:
        return p.Tile(x, p.any("times"))

    check = _is_replication

    def rewrite(m: Match, g: Graph) -> Tensor:
        axis, times = _axis_and_times(m)
        return g.node("Concat", [m.x] * times, {"axis": axis}, like=m.root).outputs[0]


@rule("repeat-by-expand", effect=preserves(), phase="finish", order=81)
class RepeatByExpand:
    """Replication becomes Unsqueeze, Expand along the new axis, and Reshape (only with --repeat expand)."""

    def pattern(p: Any, x: Any) -> Any:
        return p.Tile(x, p.any("times"))

    def check(m: Match) -> None:
        _is_replication(m)
        m.require(m.graph.opset >= 8, "needs opset 8")

    def rewrite(m: Match, g: Graph) -> Tensor:
        axis, times = _axis_and_times(m)
        name, rank = m.root.name, m.times.values.size
        if g.opset >= 13:
            alone = g.node("Unsqueeze", [m.x, g.constant(f"{name}/axis", [axis], np.int64)], name=f"{name}/Unsqueeze")
        else:
            alone = g.node("Unsqueeze", [m.x], {"axes": [axis]}, name=f"{name}/Unsqueeze")
        copies = g.constant(f"{name}/copies", [times if place == axis else 1 for place in range(rank + 1)], np.int64)
        beside = g.node("Expand", [alone.outputs[0], copies], name=f"{name}/Expand").outputs[0]
        return g.node("Reshape", [beside, _shape(m, g, axis)], like=m.root).outputs[0]


def _shape(m: Match, g: Graph, axis: int) -> Tensor:
    """The shape of the output: stored where no more than one size behind the channels is open, else computed."""
    cases = [m.facts.of(m.root.outputs[0], case).shape for case in range(len(m.facts.cases))]
    behind = [sizes.pop() if len(sizes) == 1 else -1 for sizes in map(set, zip(*cases, strict=True))][axis + 1 :]
    if m.context.open_axes:
        behind = [-1] * len(behind)
    name = m.root.name
    if behind.count(-1) > 1:
        shape = g.node("Shape", [m.x], name=f"{name}/Shape").outputs[0]
        return g.node("Mul", [shape, m.times], name=f"{name}/shape").outputs[0]
    # 0 copies a size from its own place, which those in front of the channels keep.
    return g.constant(f"{name}/shape", [0] * axis + [cases[0][axis], *behind], np.int64)
