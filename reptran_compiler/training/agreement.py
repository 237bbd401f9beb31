"""How closely a network agrees with onnxruntime on the model that it came from, or that was written of it.

A rounding error in front of a Sign turns into a difference of 2 that spreads (THEORY section 5).  So what onnxruntime
found behind each binarisation is what the network goes on with, and all that lies between is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from reptran_compiler.runtime import CannotFeed, Session, random_feeds
from reptran_compiler.training.network import Network
from reptran_compiler.training.straight_through import Round, Sign
from reptran_compiler.trial import try_source

#: Of a tensor whose values are all smaller, differences are relative to this.
_SMALLEST = 1e-3


@dataclass(frozen=True)
class Agreement:
    """What a comparison found.

    Attributes:
        worst: the largest difference, relative to the largest value of its tensor.
        tensor: the ONNX name of that tensor; "" where none differs.
        compared: how many tensors were compared: those that modules of the network make and the model has.
    """

    worst: float
    tensor: str
    compared: int


def agreement(network: Network, model: ModelProto, *, batch: int = 2, seed: int = 0) -> Agreement:
    """Compare a network in evaluation with a model, on random inputs.

    Args:
        network: a network of `to_torch`; it is in evaluation mode afterwards.
        model: the form that it was read from (`network.blueprint.model`), or what `to_onnx` wrote of it.
        batch: of a dynamic batch axis.
        seed: of the inputs.

    Raises:
        ValueError: a tensor has another shape here than there.
        RuntimeFailure: onnxruntime cannot run the model.
        BadInput: no sizes were found that it runs with, for axes that are dynamic besides the batch.
    """
    feeds = _feeds(model, batch, seed)
    there = {name for node in model.graph.node for name in node.output}
    shown = [name for step in network.steps for name in step.outputs if name in there]
    found = {name: np.array(value) for name, value in Session(model, outputs=shown).run(feeds, shown).items()}
    values: dict[str, Any] = {name: torch.from_numpy(np.array(feeds[name])) for name in network.inputs}
    network.eval()
    worst, where = 0.0, ""
    with torch.no_grad():
        for place, step in enumerate(network.steps):
            network.run_step(place, values)
            decides = isinstance(network.module(step.name), (Sign, Round))
            for name in (each for each in step.outputs if each in found):
                if decides:
                    values[name] = torch.from_numpy(found[name])
                    continue
                differs = _difference(name, values[name].numpy(), found[name])
                if not differs <= worst:
                    worst, where = differs, name
    return Agreement(worst, where, len(shown))


def _feeds(model: ModelProto, batch: int, seed: int) -> Mapping[str, NDArray[Any]]:
    """Random inputs, of sizes that the model runs with where its file leaves some open."""
    try:
        return random_feeds(model, batch=batch, seed=seed)
    except CannotFeed:
        return random_feeds(model, batch=batch, seed=seed, dims=try_source(model).dims)


def _difference(name: str, mine: Any, theirs: Any) -> float:
    if mine.shape != theirs.shape:
        raise ValueError(f"{name!r} is {list(mine.shape)} in torch, {list(theirs.shape)} in onnxruntime")
    if not theirs.size or theirs.dtype.kind != "f":
        return 0.0
    apart = np.abs(mine.astype(np.float64) - theirs.astype(np.float64))
    return float(apart.max()) / max(float(np.abs(theirs).max()), _SMALLEST)
