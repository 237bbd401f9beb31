"""How long a binary convolution takes in onnxruntime, in floats and in integers: what `--optimize auto` decides by.

A linear model in the numbers of multiply-accumulates, of elements that are unrolled for a product of matrices, of
weights and of elements of the maps, in the blocks that onnxruntime computes.  `benchmarks.layers` measures, fits and
judges it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Convolution:
    """The sizes of a convolution.

    Attributes:
        inputs, outputs: its channels.
        taps: how many elements its kernel has in one channel.
        pixels: how many elements its output has in one channel.
    """

    inputs: int
    outputs: int
    taps: int
    pixels: int


@dataclass(frozen=True)
class Speed:
    """What a convolution costs, in microseconds: for each call, and for each million of something.

    Attributes:
        call: once.
        macs: multiply-accumulates.
        unrolled: elements of the map, each once for every output that reads it.
        weights: weights.
        elements: elements of the maps that are read and written.
        filters, pixels: how many of them are computed at once.
    """

    call: float
    macs: float
    unrolled: float
    weights: float
    elements: float
    filters: int = field(default=1, kw_only=True)
    pixels: int = field(default=1, kw_only=True)

    def microseconds(self, layer: Convolution) -> float:
        """Of one image, on one thread."""
        inner = layer.inputs * layer.taps
        outputs, pixels = _in_blocks(layer.outputs, self.filters), _in_blocks(layer.pixels, self.pixels)
        millions = (
            self.macs * pixels * inner * outputs
            + self.unrolled * pixels * inner
            + self.weights * inner * outputs
            + self.elements * pixels * (layer.inputs + outputs)
        )
        return self.call + millions / 1e6


@dataclass(frozen=True)
class Machine:
    """A machine: convolutions in floats, and in integers, with what turns maps from one into the other."""

    floats: Speed
    integers: Speed

    def saves(self, layer: Convolution) -> float:
        """The microseconds that a layer takes less in integers than in floats; below 0 where it takes more."""
        return self.floats.microseconds(layer) - self.integers.microseconds(layer)


def _in_blocks(count: int, block: int) -> int:
    return -(-count // block) * block


#: By the words of `--cpu`: one thread of an AMD EPYC with AVX-512 and VNNI, and of one with AVX2 alone, onnxruntime
#: 1.32 (`python -m benchmarks.layers`).
MACHINES: Mapping[str, Machine] = MappingProxyType(
    {
        "vnni": Machine(
            floats=Speed(call=3.6, macs=18.9, unrolled=0.45, weights=4.1, elements=196.0, filters=16),
            integers=Speed(call=5.4, macs=5.4, unrolled=258.0, weights=73.0, elements=239.0, pixels=16),
        ),
        "avx2": Machine(
            floats=Speed(call=8.4, macs=26.2, unrolled=0.0, weights=26.5, elements=531.0, filters=8),
            integers=Speed(call=9.9, macs=14.1, unrolled=369.0, weights=91.8, elements=571.0, pixels=16),
        ),
    }
)
