"""How long a binary convolution takes in onnxruntime, in floats and in integers: what `--optimize auto` decides by.

A linear model in the numbers of multiply-accumulates, of elements that are unrolled for a product of matrices, of
weights and of elements of the maps, in the blocks that onnxruntime computes.  `benchmarks.layers` measures, fits and
judges it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from reptran_compiler.replication import IntegerForm


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
        """Of one image."""
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
class Speeds:
    """Convolutions in floats, and in each form in integers, with what turns maps from one into the other."""

    floats: Speed
    integers: Mapping[IntegerForm, Speed]


@dataclass(frozen=True)
class Machine:
    """A machine, as it was measured.

    Attributes:
        speeds: with one thread, and with more.
        share: by how much of its time in floats a layer has to be faster in integers. The model errs; and of what
            integers save with one thread, less is left with several where those were not measured.
    """

    speeds: tuple[Speeds, ...]
    share: float

    def fastest(self, layer: Convolution, forms: Sequence[IntegerForm]) -> IntegerForm:
        """The form in which a layer gains the most, of those that it can have: the first was measured everywhere."""
        known = [form for form in forms if form in self.speeds[0].integers]
        return min(known, key=lambda form: self.ratio(layer, form))

    def ratio(self, layer: Convolution, form: IntegerForm) -> float:
        """How long a layer takes in integers, by what it takes in floats: the larger of both numbers of threads."""
        return max(s.integers[form].microseconds(layer) / s.floats.microseconds(layer) for s in self.speeds)

    def saves(self, layer: Convolution, form: IntegerForm) -> float:
        """The microseconds that a layer takes less in integers than in floats, with one thread."""
        one = self.speeds[0]
        return one.floats.microseconds(layer) - one.integers[form].microseconds(layer)


def _in_blocks(count: int, block: int) -> int:
    return -(-count // block) * block


#: By the words of `--cpu`: an Intel Xeon with AVX-512 and VNNI, and an AMD EPYC with AVX2 alone, where products and
#: several threads were not measured; onnxruntime 1.32 (`python -m benchmarks.layers`).
MACHINES: Mapping[str, Machine] = MappingProxyType(
    {
        "vnni": Machine(
            (
                Speeds(
                    Speed(call=27.1, macs=11.2, unrolled=15.9, weights=28.3, elements=287.0, filters=16),
                    {
                        "convolution": Speed(23.6, 3.0, 278.0, 128.0, 420.0, pixels=16),
                        "product": Speed(14.2, 2.19, 199.0, 47.6, 797.0),
                    },
                ),
                Speeds(
                    Speed(call=41.1, macs=6.83, unrolled=0.0, weights=21.5, elements=466.0, filters=16),
                    {
                        "convolution": Speed(36.2, 3.82, 219.0, 54.2, 660.0, pixels=16),
                        "product": Speed(31.6, 2.28, 96.6, 25.3, 1116.0),
                    },
                ),
            ),
            share=0.15,
        ),
        "avx2": Machine(
            (
                Speeds(
                    Speed(call=8.4, macs=26.2, unrolled=0.0, weights=26.5, elements=531.0, filters=8),
                    {"convolution": Speed(9.9, 14.1, 369.0, 91.8, 571.0, pixels=16)},
                ),
            ),
            share=0.25,
        ),
    }
)
