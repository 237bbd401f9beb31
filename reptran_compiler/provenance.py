"""What a result says of its own making, and where each weight of the source went."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from reptran_compiler.errors import BadInput
from reptran_compiler.model.referred import array_of, is_moved
from reptran_compiler.pipeline import Options, Transformation
from reptran_compiler.replication import WeightMove
from reptran_compiler.rewriting import Rule
from reptran_compiler.version import __version__

Array = NDArray[Any]

#: All metadata keys of the compiler begin with this.
PREFIX = "reptran."

#: What to do about metadata that cannot be read.
_AGAIN = "compile the network that it was made from again"

#: Where layers read their weights; the first that is constant holds them.
_WEIGHT_POSITIONS = {"Conv": (1,), "Gemm": (1,), "MatMul": (1, 0)}


def recorded_beta(model: ModelProto) -> str | None:
    """The replication factor that a file says it was compiled with; None where it says nothing."""
    return _recorded(model, "beta")


def recorded_options(model: ModelProto) -> dict[str, Any]:
    """The options that a file says it was compiled with, by name; none where it says nothing that can be read."""
    try:
        found = json.loads(_recorded(model, "options") or "")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def recorded_repconvs(model: ModelProto) -> dict[str, int]:
    """The replication factor of each RepConv that a file says it was compiled to, by node name.

    Raises:
        BadInput: it says that it was compiled, and nothing that makes sense of its beta or its layers.
    """
    beta, layers = recorded_beta(model), _recorded(model, "layers")
    if beta is None:
        return {}
    if not beta.isdecimal() or int(beta) < 1:
        raise BadInput(f"the model's metadata {PREFIX}beta is {beta!r}, which is no replication factor: {_AGAIN}")
    try:
        found = {name: each["role"] for name, each in json.loads(layers or "{}").items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise BadInput(f"the model's metadata {PREFIX}layers makes no sense: {_AGAIN}") from None
    return {name: int(beta) for name, role in found.items() if role == "repconv"}


def was_trained(model: ModelProto) -> bool:
    """Whether a file says that it was trained since it was compiled."""
    return _recorded(model, "trained") == "true"


def record_training(model: ModelProto) -> None:
    """Let a Rep network's metadata say that it was trained since, and that what it is now was not verified.

    Args:
        model: the model; it is changed. Where it is no Rep network, nothing is.
    """
    if recorded_beta(model) is None:
        return
    kept = [entry for entry in model.metadata_props if entry.key not in (PREFIX + "verified", PREFIX + "trained")]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=PREFIX + "verified", value="false")
    model.metadata_props.add(key=PREFIX + "trained", value="true")


def record(
    model: ModelProto,
    transformation: Transformation,
    options: Options,
    digest: str,
    *,
    verified: bool,
    quick: bool = False,
) -> None:
    """Write into a result's metadata what it was made from, and how; other metadata stays.

    Args:
        model: the result; it is changed.
        transformation: how it came about.
        options: the compilation's options.
        digest: of the source (`Source.digest`).
        verified: whether the result counts as verified.
        quick: whether that is done quickly, which the file says.
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
        "verified": ("quick" if quick else "true") if verified else "false",
    }
    kept = [entry for entry in model.metadata_props if not entry.key.startswith(PREFIX)]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    for key, value in entries.items():
        model.metadata_props.add(key=PREFIX + key, value=value)


def option_values(options: Options) -> dict[str, str | bool | list[str] | None]:
    """The options of a compilation by name, beta left out; of `rules`, the names of the files or rules."""
    return {
        "scope": options.scope,
        "fc": options.fc,
        "bn": options.bn,
        "weights": options.weights,
        "repeat": options.repeat,
        "sign_zero": options.sign_zero,
        "optimize": options.optimize,
        "cpu": options.cpu,
        "classifier": options.classifier,
        "emit": options.emit,
        "exclude": list(options.exclude),
        "include": list(options.include),
        "strict": options.strict,
        "passes": None if options.passes is None else list(options.passes),
        "rules": [each.name if isinstance(each, Rule) else os.path.basename(each) for each in options.rules],
    }


def moves_json(transformation: Transformation, options: Options, digest: str) -> str:
    """The map of old weights to new ones, as JSON text.

    For each weight, `initializer` is the file's tensor, and `source` what the canonical form stores: equal to it, its
    sign, or computed from it (`relation`). The result is `source.reshape(reshape).transpose(transpose)
    .reshape(final_shape)`; with `weights` "binary" it is the sign of that.
    """
    stored = stored_weights(transformation.result)
    plans = {plan.name: plan for plan in transformation.layers}
    return _map_json(
        [
            {
                "layer": move.layer,
                "initializer": plans[move.layer].source_weight,
                "relation": plans[move.layer].relation,
                "source": move.source,
                "result": move.result or stored.get(move.layer, ""),
                "reshape": list(move.reshape),
                "transpose": list(move.order),
                "final_shape": list(move.shape),
            }
            for move in transformation.moves
        ],
        options,
        digest,
    )


def no_moves_json(options: Options, digest: str) -> str:
    """The map of a model that is given back unchanged: every weight is where it was."""
    return _map_json([], options, digest)


def _map_json(moves: Sequence[Mapping[str, object]], options: Options, digest: str) -> str:
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
            same = is_moved(after[name], before[move.source], move.arrangement)
            if not same:
                expected = apply_move(move, array_of(before[move.source]))
                actual = array_of(after[name])
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
    return move.arrangement.apply(weight)


def stored_weights(model: ModelProto) -> dict[str, str]:
    """The initializer that each layer's weights are, or are computed from, by node name."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    sizes[""] = 0  # stands for the inputs that a node leaves out, and for what Constant nodes hold
    largest = {name: name for name in sizes}
    found = {}
    for node in model.graph.node:
        if all(name in largest for name in node.input):
            root = max((largest[name] for name in node.input), key=lambda name: (sizes[name], name), default="")
            largest.update((name, root) for name in node.output)
        for position in _WEIGHT_POSITIONS.get(node.op_type, ()):
            root = largest.get(node.input[position], "")
            if root:
                found[node.name] = root
                break
    return found


def _are_signs(expected: Array, actual: Array) -> bool:
    """Whether an array holds +-1 (or 0) where another has that sign; a sign of 0 may be either."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return False
    return bool((np.isin(actual, (-1, 0, 1)) & ((expected == 0) | (np.sign(expected) == actual))).all())


def _recorded(model: ModelProto, key: str) -> str | None:
    """What a file's metadata says under a key of the compiler's; None where it says nothing."""
    return next((entry.value for entry in model.metadata_props if entry.key == PREFIX + key), None)


def _stored(model: ModelProto) -> Mapping[str, TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def _json(value: Mapping[str, object] | Sequence[object]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
