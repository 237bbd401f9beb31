"""The two canonical binarisations (THEORY section 4): Sign, 0 at 0, and its sibling that is +1 at 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from reptran_compiler.model import Constant, Graph, Node, Tensor


def sign_up(g: Graph, x: Tensor, dtype: Any) -> Tensor:
    """The binarisation that is +1 at 0, in the spelling that the opset allows.

    `Where(x >= 0, 1, -1)` from opset 12 on, `Where(not x < 0, 1, -1)` from 9 on, before that
    `2 * cast(not x < 0) - 1`.
    """
    zero, one = g.constant("sign/zero", np.zeros((), dtype)), g.constant("sign/one", np.ones((), dtype))
    if g.opset >= 12:
        mask = g.node("GreaterOrEqual", [x, zero], name="sign/mask").outputs[0]
    else:
        below = g.node("Less", [x, zero], name="sign/below").outputs[0]
        mask = g.node("Not", [below], name="sign/mask").outputs[0]
    if g.opset >= 9:
        minus = g.constant("sign/minus", -np.ones((), dtype))
        return g.node("Where", [mask, one, minus], name="sign").outputs[0]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    cast = g.node("Cast", [mask], {"to": kind}, name="sign/cast").outputs[0]
    two = g.constant("sign/two", 2 * np.ones((), dtype))
    double = g.node("Mul", [cast, two], name="sign/double").outputs[0]
    made = g.node("Sub", [double, one], name="sign").outputs[0]
    return made


def binarised(tensor: Tensor) -> Tensor | None:
    """What enters the canonical binarisation that makes a tensor; None where none makes it."""
    if isinstance(tensor, Constant) or not tensor.inputs:
        return None
    node: Node = tensor.inputs[0]
    if node.op_type == "Sign":
        return node.inputs[0]
    return _sibling(node)


def is_sign(tensor: Tensor) -> bool:
    """Whether a tensor is made by Sign: its binarisation is 0 at 0."""
    return bool(tensor.inputs) and tensor.inputs[0].op_type == "Sign"


def _sibling(node: Node) -> Tensor | None:
    if node.op_type == "Where" and _is(node.inputs[1], 1.0) and _is(node.inputs[2], -1.0):
        return _not_below_zero(node.inputs[0])
    if node.op_type == "Sub" and _is(node.inputs[1], 1.0):
        double = _maker(node.inputs[0], "Mul")
        cast = _maker(double.inputs[0], "Cast") if double is not None and _is(double.inputs[1], 2.0) else None
        return None if cast is None else _not_below_zero(cast.inputs[0])
    return None


def _not_below_zero(mask: Tensor) -> Tensor | None:
    """x, of a mask that says where x is not below 0."""
    compare = _maker(mask, "GreaterOrEqual")
    if compare is None:
        turned = _maker(mask, "Not")
        compare = None if turned is None else _maker(turned.inputs[0], "Less")
    if compare is None or not _is(compare.inputs[1], 0.0):
        return None
    return compare.inputs[0]


def _maker(tensor: Tensor, op_type: str) -> Node | None:
    if isinstance(tensor, Constant) or not tensor.inputs or tensor.inputs[0].op_type != op_type:
        return None
    return tensor.inputs[0]


def _is(tensor: Tensor, value: float) -> bool:
    """Whether a tensor is a stored scalar of some value."""
    return isinstance(tensor, Constant) and tensor.values.size == 1 and float(tensor.values.reshape(-1)[0]) == value
