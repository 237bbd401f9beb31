"""Re-estimation of the statistics of batch normalisation: layer by layer, on data, without training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reptran_compiler.training.blocks import Blocks, blocks_of
from reptran_compiler.training.holding import per_channel, repeated
from reptran_compiler.training.layers import Layer
from reptran_compiler.training.network import Network
from reptran_compiler.training.norms import BatchNorm, FoldedNorm, RepNorm

#: Told how many of how many modules have run.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Moments:
    """Mean and variance of each channel, over images and places, [C] in float64."""

    mean: Tensor
    variance: Tensor


def calibrate(network: Network, batches: Sequence[Sequence[Tensor] | Tensor], progress: Progress | None = None) -> int:
    """Measure the statistics of every batch normalisation on data, each behind those in front of it.

    A normalisation that the file has as such keeps its affine, and its mean and variance become those of the data.  Of
    one that was folded, the file has a scale and an offset alone, which fit the original's channel.  What that channel
    would be on the same input is computed from the RepConv's own weights (the rows that are summed over the copies,
    each by itself: THEORY section 2), and the normalisation gets the affine by which its output has the mean and the
    variance that scale and offset give to that channel.  Where a network was trained or calibrated since it was
    compiled, or is no Rep network, it computes that already: only statistics are measured, and the outputs stay.

    All batches run through a module before the next one does, so that they have to fit into memory, with the maps that
    are read later.

    Args:
        network: a network of `to_torch`; it is changed, and is in evaluation mode afterwards.
        batches: inputs, [N, ...] each; a sequence for a network with several.
        progress: told how far it is.

    Returns:
        How many normalisations were measured.

    Raises:
        ValueError: there are no batches.
        BadInput: what the network's file says of its compilation makes no sense.
    """
    if not batches:
        raise ValueError("there are no images to measure on")
    network.eval()
    with torch.no_grad():
        measured = _Calibration(network, batches).run(progress)
    network.as_read = False
    return measured


class _Calibration:
    """One pass over a network's modules.

    Attributes:
        values: by batch, the tensors that are there.
        wanted: by batch, what tensors would be if each channel behind a RepConv were the original's; those alone that
            differ for that reason.
    """

    def __init__(self, network: Network, batches: Sequence[Sequence[Tensor] | Tensor]) -> None:
        self.network = network
        inputs = [(each,) if isinstance(each, Tensor) else tuple(each) for each in batches]
        self.values: list[dict[str, Any]] = [dict(zip(network.inputs, each, strict=True)) for each in inputs]
        self.wanted: list[dict[str, Any]] = [{} for _ in inputs]
        self.blocks = blocks_of(network)
        self.measured = 0

    def run(self, progress: Progress | None) -> int:
        """All modules, in order."""
        for place, step in enumerate(self.network.steps):
            module = self.network.module(step.name)
            if isinstance(module, Layer):
                self.layer(place, module, self.blocks.get(step.name))
            elif isinstance(module, (BatchNorm, RepNorm)):
                self.norm(place, module)
            else:
                self.other(place)
            for each in (*self.values, *self.wanted):
                for name in self.network.done(place):
                    each.pop(name, None)
            if progress is not None:
                progress(place + 1, len(self.network.steps))
        return self.measured

    def layer(self, place: int, layer: Layer, blocks: Blocks | None) -> None:
        """A layer: its own normalisation is measured, or its output is noted as the original's would be."""
        step = self.network.steps[place]
        if layer.norm is not None:
            norm, layer.norm = layer.norm, None
            times, layer.times = layer.times, 1
            try:
                narrow = [self.network.made(place, values) for values in self.values]
            finally:
                layer.norm, layer.times = norm, times
            originals = None if blocks is None else [blocks.original(layer, self.inputs(place, v)) for v in self.values]
            self.measure(norm, narrow, originals)
            for values, y in zip(self.values, narrow, strict=True):
                values[step.outputs[0]] = layer.normalised(y)
            return
        for values, wanted in zip(self.values, self.wanted, strict=True):
            self.network.run_step(place, values)
            if blocks is not None:
                original, name = blocks.original(layer, self.inputs(place, values)), step.outputs[0]
                wanted[name] = repeated(original, values[name].shape[1] // original.shape[1])

    def norm(self, place: int, norm: BatchNorm | RepNorm) -> None:
        """A normalisation on its own."""
        name = self.network.steps[place].inputs[0]
        maps = [values[name] for values in self.values]
        originals = [wanted[name] for wanted in self.wanted] if name in self.wanted[0] else None
        self.measure(norm, maps, originals)
        for values in self.values:
            self.network.run_step(place, values)

    def other(self, place: int) -> None:
        """Any other module: it runs on what there is, and on what there would be where that differs."""
        step = self.network.steps[place]
        for values, wanted in zip(self.values, self.wanted, strict=True):
            differs = any(name in wanted for name in step.inputs)
            if differs:
                there = {name: wanted.get(name, values.get(name)) for name in step.inputs if name in values}
                self.network.run_step(place, there)
                wanted.update((name, there[name]) for name in step.outputs if name)
            self.network.run_step(place, values)

    def inputs(self, place: int, values: dict[str, Any]) -> list[Tensor]:
        """What a module reads."""
        return self.network.read(place, values)

    def measure(self, norm: BatchNorm | RepNorm, maps: Sequence[Tensor], originals: Sequence[Tensor] | None) -> None:
        """Give a normalisation the statistics of its maps, and a folded one its affine.

        Args:
            norm: the normalisation.
            maps: what it reads, [N, C/times, ...], by batch.
            originals: what the original's channels would be, [N, C', ...] of which C is a multiple; None where they
                are those of the maps.
        """
        found = _moments(maps)
        statistics = norm.statistics if isinstance(norm, RepNorm) else norm
        if isinstance(norm, FoldedNorm):
            scale, offset = norm.scale, norm.offset
            target = found if originals is None else _moments(originals)
            copies = len(scale) // len(target.mean)
            deviation = torch.sqrt(target.variance + statistics.eps).repeat(copies).to(scale.dtype)
            norm.weight.copy_(scale * deviation)
            norm.bias.copy_(offset + scale * target.mean.repeat(copies).to(scale.dtype))
        assert statistics.running_mean is not None and statistics.running_var is not None
        statistics.running_mean.copy_(found.mean)
        statistics.running_var.copy_(found.variance)
        self.measured += 1


def _moments(maps: Sequence[Tensor]) -> _Moments:
    """Of maps [N, C, ...]."""
    axes = [axis for axis in range(maps[0].dim()) if axis != 1]
    count = sum(each.numel() // each.shape[1] for each in maps)
    mean = torch.stack([each.double().sum(axes) for each in maps]).sum(0) / count
    apart = [(each.double() - per_channel(mean, each.dim())).square().sum(axes) for each in maps]
    return _Moments(mean, torch.stack(apart).sum(0) / count)
