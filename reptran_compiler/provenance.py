"""What a result says of its own making, and where each weight of the source went."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from reptran_compiler.pipeline import Options, Transformation, WeightMove
from reptran_compiler.version import __version__

#: All metadata keys of the compiler begin with this.
PREFIX = "reptran."


def recorded_beta(model: ModelProto) -> str | None:
    """The replication factor that a file says it was compiled with; None where it says nothing."""
    return next((entry.value for entry in model.metadata_props if entry.key == PREFIX + "beta"), None)


def record(
    model: ModelProto, transformation: Transformation, options: Options, digest: str, *, verified: bool
) -> None:
    """Write into a result's metadata what it was made from, and how; other metadata stays.

    Args:
        model: the result; it is changed.
        transformation: how it came about.
        options: the compilation's options.
        digest: of the source (`Source.digest`).
        verified: whether the result counts as verified.
    """
    layers = {
        plan.name: {"role": plan.role, "source": plan.source_weight, "result": plan.result_weight}
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

    For each weight: `result == source.reshape(reshape).transpose(transpose).reshape(final_shape)`.
    """
    moves = [
        {
            "layer": move.layer,
            "source": move.source,
            "result": move.result,
            "reshape": list(move.reshape),
            "transpose": list(move.transpose),
            "final_shape": list(move.final_shape),
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

    Returns:
        By layer name; layers whose tensors are not stored on both sides are left out.
    """
    before = _stored(transformation.canonical)
    after = _stored(transformation.result)
    found: dict[str, bool] = {}
    for move in transformation.moves:
        if move.source in before and move.result in after:
            same = np.array_equal(apply_move(move, before[move.source]()), after[move.result]())
            found[move.layer] = same and found.get(move.layer, True)
    return found


def apply_move(move: WeightMove, weight: NDArray[np.generic]) -> NDArray[np.generic]:
    """A weight of the source in the order of the result's.

    Args:
        move: how it moves.
        weight: the source's weight.

    Returns:
        An array of `move.final_shape`.
    """
    return weight.reshape(move.reshape).transpose(move.transpose).reshape(move.final_shape)


class _Reader:
    """A stored tensor, made an array when asked for."""

    def __init__(self, model: ModelProto, index: int) -> None:
        self._tensor = model.graph.initializer[index]

    def __call__(self) -> NDArray[np.generic]:
        array: NDArray[np.generic] = numpy_helper.to_array(self._tensor)
        return array


def _stored(model: ModelProto) -> Mapping[str, _Reader]:
    return {tensor.name: _Reader(model, index) for index, tensor in enumerate(model.graph.initializer)}


def _json(value: Mapping[str, object] | Sequence[object]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


