"""Which layers' sums are integers, and have to be right to the last bit (THEORY section 5)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.runtime import is_float
from reptran_compiler.verification.cutpoints import CutPoint
from reptran_compiler.verification.layers import LayerRole
from reptran_compiler.verification.protograph import ProtoGraph

#: Operators that move or choose elements and compute nothing.
_MOVES = frozenset(
    "Concat Expand Flatten Gather Identity MaxPool Pad Reshape Slice Split Squeeze Tile Transpose Unsqueeze".split()
)
_SAMPLE = 4096


def sums_of_signs(graph: ProtoGraph, cuts: Iterable[CutPoint], layers: Iterable[LayerRole]) -> frozenset[str]:
    """The outputs of the layers that add up binarised maps times integers.

    Args:
        graph: the canonical source.
        cuts: its cuts.
        layers: its layers.
    """
    signs = signs_moved(graph, cuts)
    reading = [layer for layer in layers if any(name in signs for name in graph.maker[layer.output].inputs[:2])]
    graph.preload(layer.weight for layer in reading)
    return frozenset(layer.output for layer in reading if integral(graph.value(layer.weight)))


def signs_moved(graph: ProtoGraph, cuts: Iterable[CutPoint]) -> set[str]:
    """The tensors whose elements are outputs of binarisations."""
    signs = {cut.output for cut in cuts if cut.binarises}
    for node in graph.nodes:
        reads = [name for name in node.inputs if name and name not in graph.constants]
        if node.op in _MOVES and reads and all(name in signs for name in reads):
            signs.update(node.outputs)
    return signs


def integral(array: NDArray[np.generic]) -> bool:
    """Whether all numbers are integers that their type holds without rounding."""
    if not is_float(array.dtype) or array.size == 0:
        return False
    limit = {"float16": 2.0**11, "bfloat16": 2.0**8, "float64": 2.0**53}.get(array.dtype.name, 2.0**24)
    sample = array.reshape(-1)[:_SAMPLE]
    if not np.array_equal(sample, np.rint(sample)):
        return False
    return bool(np.array_equal(array, np.rint(array))) and float(np.abs(array).max()) < limit
