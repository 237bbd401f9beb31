"""`--optimize`: binarisation as a scale by a power of two and Clip.

A number of float32 that is not 0 is at least 2^-126, but for the denormal ones: scaled by 2^126 it is at least 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.replication import binarised, is_sign
from reptran_compiler.rewriting import Match, preserves, rule
from reptran_passes.lower_affine import BLOCK, channels, depthwise, offset_of, stored_channels

Array = NDArray[Any]

#: The smallest normal number of float32 is 2 to this, and no number is as large as 2 to the other.
_SMALLEST, _LARGEST = -126, 128


@rule("sign-by-clip", effect=preserves(denormals=False), phase="lower", order=40)
class SignByClip:
    """`Sign(x + t)` becomes `Clip(2^k x + 2^k t, -1, 1)`, equal at 0 and at all normal numbers (only with
    --optimize)."""

    def pattern(p: Any) -> Any:
        return p.op("Sign Where Sub")

    def check(m: Match) -> None:
        _front(m)

    def rewrite(m: Match, g: Graph) -> Tensor:
        out, name, front = m.root.outputs[0], m.root.name, _front(m)
        if channels(m, front) is None:
            # A vector, or a map whose channels are elsewhere: one scale for all.
            x, offset = front, np.zeros(1)
        else:
            x, offset = offset_of(m, front) or (front, np.zeros(channels(m, front) or 0))
        zero_is_plus = not is_sign(out)
        exponents = np.full(offset.shape, -_SMALLEST)
        if offset.any() and not zero_is_plus:
            # Of x + t other than 0 the smallest is a step of t: 2^k t need not be near the largest number.
            exponents = np.where(offset == 0, exponents, np.minimum(exponents, _LARGEST - 3 - np.frexp(offset)[1]))
        elif zero_is_plus:
            x = front
            offset, exponents = np.zeros_like(offset), exponents + 1
        scale = np.exp2(exponents)
        shift = offset * scale + (1.0 if zero_is_plus else 0.0)
        if offset.size % BLOCK == 0:
            return _clipped(g, depthwise(g, x, name, scale, shift), m.root)
        scaled = g.node("Mul", [x, _stored(g, f"{name}/scale", scale)], name=f"{name}/Mul").outputs[0]
        if shift.any():
            scaled = g.node("Add", [scaled, _stored(g, f"{name}/offset", shift)], name=f"{name}/Add").outputs[0]
        return _clipped(g, scaled, m.root)


def _front(m: Match) -> Tensor:
    """The float32 tensor that a binarisation reads; the match is turned down where it reads none."""
    front = binarised(m.root.outputs[0])
    if front is None or isinstance(front, Constant) or m.facts.of(front).dtype != np.float32:
        m.turn_down("binarises nothing of float32")
    return front


def _stored(g: Graph, name: str, values: Array) -> Tensor:
    """Numbers per channel, or one for all."""
    return (
        g.constant(name, values.reshape(()).astype(np.float32))
        if values.size == 1
        else stored_channels(g, name, values)
    )


def _clipped(g: Graph, x: Tensor, like: Node) -> Tensor:
    """A map between -1 and 1."""
    if g.opset < 11:
        return g.node("Clip", [x], {"min": -1.0, "max": 1.0}, like=like).outputs[0]
    names = (f"{like.name}/least", f"{like.name}/most")
    bounds = [g.constant(name, np.asarray(bound, np.float32)) for name, bound in zip(names, (-1, 1), strict=True)]
    return g.node("Clip", [x, *bounds], like=like).outputs[0]
