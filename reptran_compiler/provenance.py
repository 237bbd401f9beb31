"""What a result says of its own making, and where each weight of the source went."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from reptran_compiler.pipeline import Options, Transformation
from reptran_compiler.replication import WeightMove
from reptran_compiler.version import __version__

Array = NDArray[Any]

#: All metadata keys of the compiler begin with this.
PREFIX = "reptran."


def recorded_beta(model: ModelProto) -> str | None:
    """The replication factor that a file says it was compiled with; None where it says nothing."""
    return next((entry.value for entry in model.metadata_props if entry.key == PREFIX + "beta"), None)


def record(model: ModelProto, transformation: Transformation, options: Options, digest: str, *, verified: bool) -> None:
    """Write into a result's metadata what it was made from, and how; other metadata stays.

    Args:
        model: the result; it is changed.
        transformation: how it came about.
        options: the compilation's options.
        digest: of the source (`Source.digest`).
        verified: whether the result counts as verified.
    """
    stored = stored_weights(model)
    layers = {
        plan.name: {"role": plan.role, "source": plan.source_weight, "result": stored.get(plan.name, "")}
        for plan in transformation.layers
    }
    entries = {
        "version": __version__,
        "beta": str(options.beta),
        "options": _json(option_values(options)),
        "source_sha256": digest,
        "layers": _json(layers),
        "verified": "true" if verified else "false",
    }
    kept = [entry for entry in model.metadata_props if not entry.key.startswith(PREFIX)]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    for key, value in entries.items():
        model.metadata_props.add(key=PREFIX + key, value=value)


def option_values(options: Options) -> dict[str, str | bool | list[str] | None]:
    """The options of a compilation by name, beta left out."""
    return {
        "scope": options.scope,
        "fc": options.fc,
        "bn": options.bn,
        "weights": options.weights,
        "exclude": list(options.exclude),
        "include": list(options.include),
        "strict": options.strict,
        "passes": None if options.passes is None else list(options.passes),
    }


def moves_json(transformation: Transformation, options: Options, digest: str) -> str:
    """The map of old weights to new ones, as JSON text.

    For each weight: `result == source.reshape(reshape).transpose(transpose).reshape(final_shape)`; with
    `weights` "binary" the result is the sign of that.
    """
    stored = stored_weights(transformation.result)
    moves = [
        {
            "layer": move.layer,
            "source": move.source,
            "result": move.result or stored.get(move.layer, ""),
            "reshape": list(move.reshape),
            "transpose": list(move.order),
            "final_shape": list(move.shape),
        }
        for move in transformation.moves
    ]
    document = {
        "schema": "reptran-map/1",
        "version": __version__,
        "beta": options.beta,
        "source_sha256": digest,
        "weights": moves,
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def rearranged_layers(transformation: Transformation) -> dict[str, bool]:
    """Whether each moved weight of the result is, element for element, what its move says.

    A result that stores +-1 in the place of latent weights has to store the signs of what its move says.

    Returns:
        By layer name; layers whose tensors are not stored on both sides are left out.
    """
    before, after = _stored(transformation.canonical), _stored(transformation.result)
    names = stored_weights(transformation.result)
    found: dict[str, bool] = {}
    for move in transformation.moves:
        name = move.result or names.get(move.layer, "")
        if move.source in before and name in after:
            expected, actual = apply_move(move, before[move.source]()), after[name]()
            same = np.array_equal(expected, actual) or _are_signs(expected, actual)
            found[move.layer] = same and found.get(move.layer, True)
    return found


def apply_move(move: WeightMove, weight: Array) -> Array:
    """A weight of the source in the order of the result's.

    Args:
        move: how it moves.
        weight: the source's weight.

    Returns:
        An array of `move.shape`.
    """
    moved: Array = weight.reshape(move.reshape).transpose(move.order).reshape(move.shape)
    return moved


def stored_weights(model: ModelProto) -> dict[str, str]:
    """The initializer that each layer's weights are, or are computed from, by node name."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    found = {}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        for position in (1, 0) if node.op_type == "MatMul" else (1,):
            roots = _roots(node.input[position], makers, sizes)
            if roots:
                found[node.name] = max(roots, key=lambda name: (sizes[name], name))
                break
    return found


def _roots(name: str, makers: Mapping[str, NodeProto], sizes: Mapping[str, int]) -> set[str]:
    """The initializers that a tensor is computed from; none where it depends on an input."""
    found: set[str] = set()
    pending, seen = [name], set[str]()
    while pending:
        each = pending.pop()
        if each in seen or not each:
            continue
        seen.add(each)
        if each in sizes:
            found.add(each)
        elif each not in makers:
            return set()
        else:
            pending.extend(makers[each].input)
    return found


def _are_signs(expected: Array, actual: Array) -> bool:
    """Whether an array holds +-1 (or 0) where another has that sign; a sign of 0 may be either."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return False
    return bool((np.isin(actual, (-1, 0, 1)) & ((expected == 0) | (np.sign(expected) == actual))).all())


class _Reader:
    """A stored tensor, made an array when asked for."""

    def __init__(self, model: ModelProto, index: int) -> None:
        self._tensor = model.graph.initializer[index]

    def __call__(self) -> Array:
        array: Array = numpy_helper.to_array(self._tensor)
        return array


def _stored(model: ModelProto) -> Mapping[str, _Reader]:
    return {tensor.name: _Reader(model, index) for index, tensor in enumerate(model.graph.initializer)}


def _json(value: Mapping[str, object] | Sequence[object]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
