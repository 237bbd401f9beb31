"""Whether a mistake is one: what a changed result computes or says is another than before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from reptran_compiler.runtime import RuntimeFailure, random_feeds, run

Array = NDArray[Any]
#: Inputs of operators that are offsets: with all of them 0, an image of zeros is 0 in front of binarisations.
_OFFSETS = {"Add": (0, 1), "Sub": (1,), "BatchNormalization": (2, 3), "Conv": (2,), "Gemm": (2,)}
#: How far two values may be apart, of the largest, to count as one.
_CLOSE = 1e-5


def computes_otherwise(clean: ModelProto, bad: ModelProto) -> bool:
    """Whether two models differ in some run: with their parameters, with retrained ones, or with zeros alone.

    Retrained parameters are what a mistake changes that values of today hide, as swapped copies that are equal. All
    changes to parameters are made to both models alike, where both read them in the same places.
    """
    shared = _shared(clean, bad)
    for change in (_same, _retrained, _without_offsets):
        models = [_changed(model, shared, change) for model in (clean, bad)]
        for seed in (0, 1):
            feeds = random_feeds(clean, batch=2 + seed, seed=seed)
            if change is _without_offsets:
                feeds = {name: np.zeros_like(value) for name, value in feeds.items()}
            before = run(models[0], feeds)
            try:
                after = run(models[1], feeds)
            except (RuntimeFailure, ValueError):
                return True
            if _differ(before, after):
                return True
    return False


def _differ(before: Mapping[str, Array], after: Mapping[str, Array]) -> bool:
    if list(before) != list(after):
        return True
    for name, old in before.items():
        new = after[name]
        if old.shape != new.shape or old.dtype != new.dtype:
            return True
        if not np.allclose(old, new, rtol=0, atol=_CLOSE * float(np.abs(old).max(initial=0)), equal_nan=True):
            return True
    return False


def _uses(model: ModelProto) -> dict[str, frozenset[tuple[str, int]]]:
    found: dict[str, set[tuple[str, int]]] = {tensor.name: set() for tensor in model.graph.initializer}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name in found:
                found[name].add((node.op_type, place) if not node.name else (f"{node.op_type} {node.name}", place))
    return {name: frozenset(places) for name, places in found.items()}


def _shared(clean: ModelProto, bad: ModelProto) -> dict[str, frozenset[tuple[str, int]]]:
    """The stored tensors that both models read in the same places, with these."""
    uses, others = _uses(clean), _uses(bad)
    values = [{tensor.name: tensor for tensor in model.graph.initializer} for model in (clean, bad)]
    return {
        name: places
        for name, places in uses.items()
        if others.get(name) == places and values[0][name] == values[1][name]
    }


def _changed(model: ModelProto, shared: Mapping[str, frozenset[tuple[str, int]]], change: Any) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if tensor.name in shared and value.dtype == np.float32 and value.size > 4:
            new = change(tensor.name, value, shared[tensor.name]).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))
    return copy


def _same(name: str, value: Array, uses: frozenset[tuple[str, int]]) -> Array:
    return value


def _retrained(name: str, value: Array, uses: frozenset[tuple[str, int]]) -> Array:
    random = np.random.default_rng(sum(name.encode()))
    changed: Array = value * random.uniform(0.5, 1.5, value.shape)
    return changed


def _without_offsets(name: str, value: Array, uses: frozenset[tuple[str, int]]) -> Array:
    offset = any(place in _OFFSETS.get(use.split()[0], ()) for use, place in uses)
    return np.zeros_like(value) if offset else value


def says_otherwise(clean: ModelProto, bad: ModelProto) -> bool:
    """Whether two files say something else of themselves, or store something else."""
    return _said(clean) != _said(bad)


def _said(model: ModelProto) -> list[object]:
    graph = model.graph
    plain = ModelProto.FromString(model.SerializeToString())
    del plain.graph.node[:], plain.graph.initializer[:]
    return [
        plain.SerializeToString(deterministic=True),
        [
            (node.name, list(node.output), node.doc_string, [str(each) for each in node.metadata_props])
            for node in graph.node
        ],
        [
            (tensor.doc_string, list(tensor.dims), numpy_helper.to_array(tensor).tobytes())
            for tensor in graph.initializer
        ],
    ]
