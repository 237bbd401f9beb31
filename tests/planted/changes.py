"""Changes to stored arrays that several mistakes make."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from tests.planted.result import Array, Change, Result


def rolled(axis: int) -> Change:
    """Each number in its neighbour's place."""
    return lambda value: np.roll(value, 1, axis)


def interleaved(beta: int, axis: int = 0) -> Change:
    """The copies of each channel side by side instead of the channels of each copy."""

    def change(value: Array) -> Array:
        first = np.moveaxis(value, axis, 0)
        turned = first.reshape(beta, -1, *first.shape[1:]).swapaxes(0, 1).reshape(first.shape)
        return np.moveaxis(turned, 0, axis)

    return change


def blocks(value: Array, beta: int, axis: int = 0) -> list[Array]:
    """The copies in an array."""
    return list(np.split(value, beta, axis))


def reversed_blocks(weight: Array, beta: int) -> Array:
    """The blocks of columns from last to first."""
    return np.concatenate(blocks(weight, beta, 1)[::-1], axis=1)


def transposed_columns(weight: Array, beta: int) -> Array:
    """A filter's first channel with its neighbour's."""
    changed: Array = weight.copy()
    changed[0, [0, 1]] = weight[0, [1, 0]]
    if np.array_equal(np.sign(changed), np.sign(weight)):
        changed[0] = np.roll(weight[0], 1, 0)
    return changed


def columns(r: Result, layer: NodeProto, change: Change) -> Change:
    """A change to weights with the filters first, for a layer that may store them last."""
    turned = layer.op_type == "MatMul" or (layer.op_type == "Gemm" and not r.has(layer, "transB"))
    return (lambda weight: change(weight.T).T) if turned else change


def in_copy(beta: int, copy: int, axis: int, change: Change) -> Change:
    """A change to one copy of what is stored for all."""

    def made(value: Array) -> Array:
        parts = blocks(value, beta, axis)
        parts[copy] = change(parts[copy])
        return np.concatenate(parts, axis)

    return made
