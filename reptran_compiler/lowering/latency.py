"""How long a binary convolution takes in onnxruntime, in floats and in integers: what `--optimize auto` decides by.

A linear model in the numbers of multiply-accumulates, of elements that are unrolled for a product of matrices, of
weights and of elements of the maps, in the blocks that onnxruntime computes.  `benchmarks.layers` measures, fits and
judges it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

#: Filters, and pixels, of which onnxruntime computes so many at once on a machine with AVX-512.
_BLOCK = 16


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

    def in_floats(self) -> Convolution:
        """What is computed in floats: filters in blocks."""
        return replace(self, outputs=_in_blocks(self.outputs))

    def in_integers(self) -> Convolution:
        """What is computed in integers: pixels in blocks."""
        return replace(self, pixels=_in_blocks(self.pixels))


@dataclass(frozen=True)
class Speed:
    """What a convolution costs, in microseconds: for each call, and for each million of something.

    Attributes:
        call: once.
        macs: multiply-accumulates.
        unrolled: elements of the map, each once for every output that reads it.
        weights: weights.
        elements: elements of the maps that are read and written.
    """

    call: float
    macs: float
    unrolled: float
    weights: float
    elements: float

    def microseconds(self, layer: Convolution) -> float:
        """Of one image, on one thread."""
        inner = layer.inputs * layer.taps
        millions = (
            self.macs * layer.pixels * inner * layer.outputs
            + self.unrolled * layer.pixels * inner
            + self.weights * inner * layer.outputs
            + self.elements * layer.pixels * (layer.inputs + layer.outputs)
        )
        return self.call + millions / 1e6


@dataclass(frozen=True)
class Machine:
    """A machine: convolutions in floats, and in integers, with what turns maps from one into the other."""

    floats: Speed
    integers: Speed

    def saves(self, layer: Convolution) -> float:
        """The microseconds that a layer takes less in integers than in floats; below 0 where it takes more."""
        return self.floats.microseconds(layer.in_floats()) - self.integers.microseconds(layer.in_integers())


def _in_blocks(count: int) -> int:
    return -(-count // _BLOCK) * _BLOCK


#: AVX-512 with VNNI, one thread of an AMD EPYC, onnxruntime 1.32 (`python -m benchmarks.layers`).
SHIPPED = Machine(
    floats=Speed(call=3.6, macs=18.9, unrolled=0.45, weights=4.1, elements=196.0),
    integers=Speed(call=5.4, macs=5.4, unrolled=258.0, weights=73.0, elements=239.0),
)
