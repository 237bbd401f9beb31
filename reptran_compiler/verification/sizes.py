"""At which batch sizes a model has to be run, so that nothing that depends on the batch can pass for a constant.

A value that is affine in the batch size differs from any constant at one of two sizes. Any other (a minimum, a division
that rounds down, a comparison, a square) may be equal at both: then sizes on both sides of every constant that it is
computed with are run as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from onnx import ModelProto

from reptran_compiler.runtime import batch_sizes, probe, random_feeds
from reptran_compiler.verification.cutpoints import data_tensors
from reptran_compiler.verification.protograph import NodeView, ProtoGraph

#: The largest batch that is ever tried, and how many sizes at most.
LARGEST, MOST = 64, 8

_USUAL = (1, 7)
_AFFINE = frozenset(
    "Shape Size Gather Slice Split Concat Unsqueeze Squeeze Cast Identity Reshape Flatten Transpose Add Sub Neg "
    "ConstantOfShape Expand Tile".split()
)


def judged_batches(
    model: ModelProto | ProtoGraph, wanted: Sequence[int] | None = None, dims: Mapping[str, int] | None = None
) -> tuple[int, ...]:
    """The batch sizes to judge a model at.

    Args:
        model: the model, or its graph, with its shape arithmetic as its exporter wrote it.
        wanted: sizes that were asked for; they are not added to.
        dims: sizes of dynamic axes other than the batch.

    Returns:
        The size of a fixed batch axis; 2 and 3 for a dynamic one; more, in ascending order, where the model computes
        with its batch size by more than affine operators.

    Raises:
        RuntimeFailure: the model does not run.
        CannotFeed: an input cannot be fed.
    """
    sizes = batch_sizes(model.model if isinstance(model, ProtoGraph) else model, wanted)
    if wanted or len(sizes) < 2:
        return sizes
    graph = model if isinstance(model, ProtoGraph) else ProtoGraph(model)
    bent = list(_bent(graph, sizes, dims))
    if not bent:
        return sizes
    near = [size for bound in _bounds(graph, bent) for size in (bound + 1, bound - 1, 2 * bound)]
    chosen = dict.fromkeys(size for size in (*sizes, *_USUAL, *near) if 1 <= size <= LARGEST)
    return tuple(sorted(list(chosen)[:MOST]))


def quick_batch(sizes: Sequence[int]) -> int:
    """The one of some batch sizes at which a quick judgement compares values: what mixes images needs two of them."""
    return min((size for size in sizes if size > 1), default=sizes[0])


def _bent(graph: ProtoGraph, sizes: Sequence[int], dims: Mapping[str, int] | None) -> Iterator[NodeView]:
    """The nodes outside the data that are not affine in what varies with the batch."""
    data = data_tensors(graph)
    nodes = [node for node in graph.nodes if not any(name in data or name in graph.constants for name in node.outputs)]
    suspects = [node for node in nodes if node.op not in _AFFINE]
    if not suspects:
        return
    names = sorted({name for node in suspects for name in node.reads if name in graph.maker and name not in data})
    feeds = [random_feeds(graph.model, batch=size, dims=dims) for size in sizes[:2]]
    first, second = (probe(graph.model, feed, values=names)[1] for feed in feeds)
    for node in suspects:
        varying = [name for name in node.reads if name in first and not np.array_equal(first[name], second[name])]
        scaled = node.op == "Mul" and len(varying) == 1 and node.inputs.count(varying[0]) == 1
        if varying and not scaled:
            yield node


def _bounds(graph: ProtoGraph, nodes: Sequence[NodeView]) -> list[int]:
    """The constants that nodes compute with, as far as they may be batch sizes."""
    found: dict[int, None] = {}
    for node in nodes:
        for name in node.reads:
            if name in graph.constants:
                values = graph.value(name).reshape(-1)[:8]
                numbers = values[np.isfinite(values)] if values.dtype.kind in "iuf" else values[:0]
                found.update(dict.fromkeys(int(abs(number)) for number in numbers if 1 <= abs(number) <= LARGEST))
    return list(found)
