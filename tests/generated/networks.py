"""A whole network: a stem, three to ten blocks, one or two heads."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from generated.blocks import BLOCKS, residual
from generated.builder import Builder
from generated.heads import HEADS, finish, stem
from generated.mixers import MIXERS

OPSETS = (11, 13, 17, 18, 20, 22)


def network(random: np.random.Generator, unit: int) -> tuple[ModelProto, tuple[str, ...]]:
    """Draw a network.

    Args:
        random: where every choice comes from.
        unit: what most numbers of channels are multiples of.

    Returns:
        The model, and the node names of its layers, the stem first.
    """
    axes = int(random.choice([1, 2, 3], p=[0.1, 0.8, 0.1]))
    batch = None if random.random() < 0.7 else int(random.integers(1, 4))
    b = Builder(random, int(random.choice(OPSETS)), unit, axes, batch)
    largest = 9 if axes < 3 else 6
    x = b.input("image", 3, tuple(int(size) for size in random.integers(5, largest + 1, axes)))
    widths = [count for count in (4, 6, 8, 9, 12) if count % unit == 0]
    x = stem(b, x, b.pick(widths))
    count = int(random.integers(3, 11)) if axes < 3 else 3
    mixers = set(random.choice(count, int(random.integers(0, 3)))) if b.chance(0.5) else set()
    x = residual(b, x)
    for place in range(1, count):
        if place in mixers:
            x = b.pick(MIXERS)(b, x)
        elif min(x.space) >= 2:
            x = b.pick(BLOCKS)(b, x)
    for _ in range(2 if b.chance(0.15) else 1):
        finish(b, b.pick(HEADS)(b, x))
    return b.model(), tuple(b.layers)
