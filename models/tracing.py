"""Run a network and see its decisions: what enters each binarisation and what leaves it, or what is forced to
leave it.

A sign near zero turns a rounding error into a difference of 2 that spreads, so two implementations of one
network are compared with the binarised maps of one fed to the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.activations import Binarise


@dataclass(frozen=True)
class Trace:
    """One run: `names[i]` is the i-th binarisation in the order of execution, `before[i]` the float32 map
    that entered it, `after[i]` the one that went on (the forced one, if there was one); `output` is the
    network's, [N, classes]."""

    output: NDArray[np.float32]
    names: list[str] = field(default_factory=list)
    before: list[NDArray[np.float32]] = field(default_factory=list)
    after: list[NDArray[np.float32]] = field(default_factory=list)


@torch.no_grad()
def trace(
    network: nn.Module, images: NDArray[np.float32], forced: Sequence[NDArray[np.float32]] | None = None
) -> Trace:
    """Run `network` on `images` [N, C, H, W]; with `forced`, the i-th binarisation's result is replaced by
    `forced[i]`.

    Raises ValueError if the number of forced maps or a shape is not the network's."""
    names: list[str] = []
    before: list[NDArray[np.float32]] = []
    after: list[NDArray[np.float32]] = []

    def hook(name: str, x: Tensor, y: Tensor) -> Tensor:
        if forced is not None:
            if len(names) >= len(forced):
                raise ValueError(f"{len(forced)} maps are forced, and there are more binarisations: {name}")
            value = torch.from_numpy(np.array(forced[len(names)], dtype=np.float32))
            if value.shape != y.shape:
                raise ValueError(f"{name}: the forced map is {list(value.shape)}, the network's {list(y.shape)}")
            y = value
        names.append(name)
        before.append(x.numpy().copy())
        after.append(y.numpy().copy())
        return y

    hooks = [
        module.register_forward_hook(lambda _m, a, y, name=name: hook(name, a[0], y))
        for name, module in network.named_modules()
        if isinstance(module, Binarise)
    ]
    try:
        output = network(torch.from_numpy(np.asarray(images, dtype=np.float32)))
    finally:
        for handle in hooks:
            handle.remove()
    if forced is not None and len(forced) != len(names):
        raise ValueError(f"{len(forced)} maps are forced, and there are {len(names)} binarisations")
    return Trace(output.numpy().copy(), names, before, after)
