"""A Gemm without a bias: before opset 11 it is written with one, a single stored zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Constant, Graph, Node, Tensor

_OPTIONAL_SINCE = 11


def no_bias(g: Graph, op: str, dtype: Any, hint: str) -> list[Tensor]:
    """What a layer reads behind its weights where it has no bias.

    Args:
        g: the graph.
        op: the layer's operator.
        dtype: of its weights.
        hint: what the zero's name begins with.
    """
    if op != "Gemm" or g.opset >= _OPTIONAL_SINCE:
        return []
    return [g.constant(f"{hint}/no bias", np.zeros(1, dtype))]


def has_bias(g: Graph, layer: Node) -> bool:
    """Whether a layer reads a bias that is not the zero of `no_bias`."""
    bias = layer.input(2) if layer.op in ("Conv", "Gemm") else None
    written = layer.op == "Gemm" and g.opset < _OPTIONAL_SINCE
    if not written or not isinstance(bias, Constant):
        return bias is not None
    return tuple(bias.shape) != (1,) or bool(bias.values.any())
