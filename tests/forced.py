"""Running a torch network and the ONNX model that it was read from side by side, each binarisation forced to agree.

A rounding error in front of a Sign turns into a difference of 2 that spreads (THEORY section 5): so what onnxruntime
found behind each binarisation is what the torch network goes on with, and all that lies between is compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from reptran_compiler.runtime import Session, random_feeds
from reptran_compiler.training import Network, Sign
from reptran_compiler.training.straight_through import Round


def worst_difference(network: Network, model: onnx.ModelProto, *, batch: int = 2, seed: int = 0) -> tuple[float, int]:
    """How much a network in evaluation differs from a model at any tensor that both have, and how many those are.

    The difference is relative to the tensor's largest value (at least 1e-3).
    """
    feeds = random_feeds(model, batch=batch, seed=seed)
    wanted = list(dict.fromkeys(name for step in network.steps for name in step.outputs if name))
    made = {name for node in model.graph.node for name in node.output}
    shown = [name for name in wanted if name in made]
    found = Session(model, outputs=shown).run(feeds, shown)
    network.eval()
    hooks = [
        network.module(step.name).register_forward_hook(_answer(torch.from_numpy(np.array(found[step.outputs[0]]))))
        for step in network.steps
        if isinstance(network.module(step.name), (Sign, Round))
    ]
    values: dict[str, Any] = {name: torch.from_numpy(np.array(feeds[name])) for name in network.inputs}
    worst = 0.0
    before: dict[str, Any] = dict(values)
    with torch.no_grad():
        for place in range(len(network.steps)):
            network.run_step(place, before)
    for hook in hooks:
        hook.remove()
    for name in shown:
        mine, theirs = before[name].numpy(), np.asarray(found[name])
        assert mine.shape == theirs.shape, f"{name}: {mine.shape} instead of {theirs.shape}"
        if theirs.size and theirs.dtype.kind == "f":
            scale = max(float(np.abs(theirs).max()), 1e-3)
            worst = max(worst, float(np.abs(mine - theirs).max()) / scale)
    return worst, len(shown)


def _answer(value: torch.Tensor) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> torch.Tensor:
        return value

    return hook
