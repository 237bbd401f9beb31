"""How closely a network agrees with onnxruntime on the model that it came from, or that was written of it.

A rounding error in front of a Sign turns into a difference of 2 that spreads (THEORY section 5), and one of a large
number may be all that a Tanh leaves of it.  So each module reads what onnxruntime found, and what it makes is compared:
a decision exactly, a number up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from reptran_compiler.runtime import CannotFeed, Session, random_feeds, tolerance
from reptran_compiler.training.network import Network
from reptran_compiler.training.straight_through import Round, Sign
from reptran_compiler.trial import try_source

Array = NDArray[Any]
#: Of a tensor whose values are all smaller, differences are relative to this.
_SMALLEST = 1e-3


@dataclass(frozen=True)
class Agreement:
    """What a comparison found.

    Attributes:
        worst: the largest difference, relative to the largest value of its tensor; of several types, that which is the
            largest for its type.
        tensor: the ONNX name of that tensor; "" where none differs.
        compared: how many tensors were compared: those that modules of the network make and the model has.
        share: `worst` as a share of what the judge allows the tensor's type (`runtime.tolerance`).
    """

    worst: float
    tensor: str
    compared: int
    share: float


def agreement(network: Network, model: ModelProto, *, batch: int = 2, seed: int = 0) -> Agreement:
    """Compare a network in evaluation with a model, on random inputs, each of its modules on what the model made.

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
    worst = Agreement(0.0, "", len(shown), 0.0)
    with torch.no_grad():
        for place, step in enumerate(network.steps):
            network.run_step(place, values)
            decides = isinstance(network.module(step.name), (Sign, Round))
            for name in (each for each in step.outputs if each in found):
                mine, theirs = values[name].numpy(), found[name]
                if mine.shape != theirs.shape:
                    raise ValueError(f"{name!r} is {list(mine.shape)} in torch, {list(theirs.shape)} in onnxruntime")
                values[name] = torch.from_numpy(theirs)
                if decides or theirs.dtype.kind != "f":
                    differs = share = 0.0 if np.array_equal(mine, theirs) else math.inf
                else:
                    differs = _difference(mine, theirs)
                    share = differs / tolerance(theirs.dtype)
                if not (share <= worst.share or math.isnan(worst.share)):
                    worst = Agreement(differs, name, len(shown), share)
    return worst


def _feeds(model: ModelProto, batch: int, seed: int) -> Mapping[str, Array]:
    """Random inputs, of sizes that the model runs with where its file leaves some open."""
    try:
        return random_feeds(model, batch=batch, seed=seed)
    except CannotFeed:
        return random_feeds(model, batch=batch, seed=seed, dims=try_source(model).dims)


def _difference(mine: Array, theirs: Array) -> float:
    """The largest difference of the two, relative to the largest finite value."""
    if not theirs.size:
        return 0.0
    here, there = mine.astype(np.float64), theirs.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.where(here == there, 0.0, np.abs(here - there))
    largest = np.abs(there, out=np.zeros_like(there), where=np.isfinite(there)).max()
    return float(apart.max()) / max(float(largest), _SMALLEST)
