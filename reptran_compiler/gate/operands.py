"""What an operand is to its operator: training may change some stored tensors, and no others."""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.runtime import is_float
from reptran_compiler.verification.protograph import NodeView, ProtoGraph


class Use(Enum):
    """What a stored tensor is used as."""

    #: Weights of a layer, or the latent tensor that they are computed from.
    WEIGHT = "weight"
    #: A parameter whatever its size: a bias of a layer, a slope, an operand of a normalisation.
    PARAMETER = "parameter"
    #: An operand of arithmetic: a parameter where it holds more than one number (a single one may be a mean's).
    FACTOR = "factor"
    #: A shape, an axis, a bound, a pad value: part of what the graph computes.
    FIXED = "fixed"


_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_PARAMETERS = {
    "BatchNormalization": (1, 2, 3, 4),
    "PRelu": (1,),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "GroupNormalization": (1, 2),
}
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div"})
#: Operators that hand on what their first operand is used as.
_VIEWS = frozenset({"Identity", "Expand", "Tile", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Cast"})


def use_of(graph: ProtoGraph, node: NodeView, position: int, behind: Use) -> Use:
    """What an operand is used as.

    Args:
        graph: the node's graph.
        node: who reads it.
        position: as which input.
        behind: what the node's own output is used as.
    """
    if node.outputs[0] in graph.constants:
        # Of what a constant is computed from, latent weights are trained, and single numbers belong to the formula.
        return Use.FACTOR if behind is Use.PARAMETER else behind
    if node.op in _LAYERS:
        weight = position == 1 or (node.op == "MatMul" and position == 0)
        return Use.WEIGHT if weight else Use.PARAMETER if position == 2 else Use.FIXED
    if position in _PARAMETERS.get(node.op, ()):
        return Use.PARAMETER
    if node.op in _ARITHMETIC:
        return Use.FACTOR
    return behind if node.op in _VIEWS and position == 0 else Use.FIXED


def is_trained(use: Use, value: NDArray[np.generic], *, computed: bool) -> bool:
    """Whether training may change a stored tensor.

    Args:
        use: what it is used as.
        value: what is stored.
        computed: whether what it is used for is computed from it, and not the tensor itself.
    """
    if use is Use.FIXED or not is_float(value.dtype):
        return False
    return value.size > 1 or (use is not Use.FACTOR and not computed)
