"""`--optimize`: binarisation as a scale by a power of two and Clip.

A number of float32 that is not 0 is at least 2^-126, but for the denormal ones: scaled by 2^126 it is at least 1.  An
affine that nothing else reads is scaled itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.replication import binarised, is_sign
from reptran_compiler.rewriting import Match, preserves, rule
from reptran_passes.lower_affine import BLOCK, channels, depthwise, offset_of, scale_of, stored_channels
from reptran_passes.lower_copies import is_replication

Array = NDArray[Any]

#: The smallest normal number of float32 is 2 to this, and no number is as large as 2 to the other.
_SMALLEST, _LARGEST = -126, 128
#: What is left of t where a x + t cancels is at least 2 to this, of t: two products' and one sum's last place.
_CANCELLED = -50


@rule("sign-by-clip", effect=preserves(denormals=False), phase="lower", order=40)
class SignByClip:
    """`Sign(a x + t)` becomes `Clip(2^k a x + 2^k t, -1, 1)`, equal at 0 and at all normal numbers (only with
    --optimize)."""

    def pattern(p: Any) -> Any:
        return p.op("Sign Where Sub")

    def check(m: Match) -> None:
        _front(m)

    def rewrite(m: Match, g: Graph) -> Tensor:
        out, name, front = m.root.outputs[0], m.root.name, _front(m)
        count = channels(m, front) or 1  # of a vector, or a map whose channels are elsewhere, one scale for all
        if not is_sign(out):
            x, scale, shift = front, np.full(count, np.exp2(1 - _SMALLEST)), np.ones(count)
        elif channels(m, front) is None:
            x, scale, shift = front, np.full(count, np.exp2(-_SMALLEST)), np.zeros(count)
        else:
            x, scale, shift = _scaled(m, front, count)
        join = x.inputs[0] if x.inputs else None
        if (
            join is not None
            and channels(m, x) is not None
            and is_replication(join)
            and _alike(scale, shift, len(join.inputs))
        ):
            # What is repeated is binarised once.
            first = scale.size // len(join.inputs)
            scaled = _affine(g, join.inputs[0], name, scale[:first], shift[:first])
            once = _clipped(g, scaled, {"name": f"{name}/once"})
            return g.node("Concat", [once] * len(join.inputs), join.attrs, like=m.root).outputs[0]
        return _clipped(g, _affine(g, x, name, scale, shift), {"like": m.root})


def _alike(scale: Array, shift: Array, copies: int) -> bool:
    """Whether all copies have the same scales and offsets."""
    return all(bool((each.reshape(copies, -1) == each.reshape(copies, -1)[0]).all()) for each in (scale, shift))


def _affine(g: Graph, x: Tensor, name: str, scale: Array, shift: Array) -> Tensor:
    """`scale * x + shift`, in blocks where there are some."""
    if scale.size % BLOCK == 0:
        return depthwise(g, x, name, scale, shift)
    scaled = g.node("Mul", [x, _stored(g, f"{name}/scale", scale)], name=f"{name}/Mul").outputs[0]
    if not shift.any():
        return scaled
    return g.node("Add", [scaled, _stored(g, f"{name}/offset", shift)], name=f"{name}/Add").outputs[0]


def _front(m: Match) -> Tensor:
    """The float32 tensor that a binarisation reads, in front of bounds around 0; turned down where it reads none."""
    front = binarised(m.root.outputs[0])
    if front is None or isinstance(front, Constant) or m.facts.of(front).dtype != np.float32:
        m.turn_down("binarises nothing of float32")
    while bounds_keep_signs(front):
        front = front.inputs[0].inputs[0]
    return front


def bounds_keep_signs(tensor: Tensor) -> bool:
    """Whether a tensor is a Clip with stored bounds below 0 and above, which a binarisation does not see."""
    maker: Node | None = tensor.inputs[0] if tensor.inputs else None
    if maker is None or maker.op_type != "Clip" or isinstance(maker.inputs[0], Constant):
        return False
    stored = [each for each in maker.inputs[1:] if each.name]
    if not all(isinstance(each, Constant) and each.values.size == 1 for each in stored):
        return False
    low, high = maker.attrs.get("min", -1.0), maker.attrs.get("max", 1.0)
    for place, each in enumerate(maker.inputs[1:]):
        if each.name:
            low, high = (float(each.values.reshape(())), high) if place == 0 else (low, float(each.values.reshape(())))
    return bool(low < 0 < high)


def _scaled(m: Match, front: Tensor, count: int) -> tuple[Tensor, Array, Array]:
    """What a Sign reads as a map, and the scale and offset of it, [C], that leave nothing between 0 and 1."""
    # The sum of a layer in integers stays, offset and all: it is what can be shown to be equal to the bit.
    summed = bool(front.inputs) and front.inputs[0].name in m.context.integer
    x, offset = (None if summed else offset_of(m, front)) or (front, np.zeros(count))
    exponents = np.full(count, -_SMALLEST)
    # Of x + t other than 0 the smallest is a step of t: 2^k t need not be near the largest number.
    within = _LARGEST - 3 - np.frexp(offset)[1]
    exponents = np.where(offset == 0, exponents, np.minimum(exponents, within))
    scale = np.ones(count)
    found = scale_of(m, x) if _alone(m, front) and (x is front or _alone(m, x)) else None
    if found is not None:
        factor = np.where(offset == 0, np.sign(found[1]), found[1])
        fitting = np.minimum(exponents, -_SMALLEST - np.frexp(factor)[1])
        fitting = np.where(offset == 0, exponents, fitting)
        if (np.frexp(offset)[1] + fitting >= -_CANCELLED)[offset != 0].all():
            x, scale, exponents = found[0], factor, fitting
    return x, scale * np.exp2(exponents), offset * np.exp2(exponents)


def _alone(m: Match, tensor: Tensor) -> bool:
    """Whether one operator alone reads a tensor."""
    return len({id(reader) for reader in tensor.outputs}) == 1 and not m.graph.is_output(tensor)


def _stored(g: Graph, name: str, values: Array) -> Tensor:
    """Numbers per channel, or one for all."""
    return (
        g.constant(name, values.reshape(()).astype(np.float32))
        if values.size == 1
        else stored_channels(g, name, values)
    )


def _clipped(g: Graph, x: Tensor, called: dict[str, Any]) -> Tensor:
    """A map between -1 and 1; `called` is what its operator is called by, or like."""
    if g.opset < 11:
        return g.node("Clip", [x], {"min": -1.0, "max": 1.0}, **called).outputs[0]
    name = called["like"].name if "like" in called else called["name"]
    names = (f"{name}/least", f"{name}/most")
    bounds = [g.constant(name, np.asarray(bound, np.float32)) for name, bound in zip(names, (-1, 1), strict=True)]
    return g.node("Clip", [x, *bounds], **called).outputs[0]
