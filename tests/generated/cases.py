"""A network together with options to compile it with, all from one number."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from generated.networks import network
from reptran_compiler.pipeline import Options
from reptran_compiler.runtime import RuntimeFailure, random_feeds, run


@dataclass(frozen=True)
class Case:
    """One generated compilation.

    Attributes:
        seed: the number that it was drawn from.
        model: the source.
        options: the compilation's options.
    """

    seed: int
    model: ModelProto
    options: Options


def draw_case(seed: int) -> Case:
    """The case of a seed; equal on every run and machine."""
    random = np.random.default_rng(seed)
    beta = int(random.choice([2, 2, 3, 4]))
    divisor = beta if random.random() < 0.8 else int(random.choice([2, 3]))
    model, layers = network(random, divisor)
    while not _runs(model):
        model, layers = network(random, divisor)
    options = Options(
        beta=beta,
        scope="layer" if random.random() < 0.15 else "network",
        fc=str(random.choice(["widen", "fold"])),
        bn=str(random.choice(["fold", "keep"])),
        weights=str(random.choice(["latent", "binary"])),
        exclude=_one(random, layers, 0.2),
        include=_one(random, layers, 0.2),
    )
    return Case(seed, model, options)


def _runs(model: ModelProto) -> bool:
    """Whether onnxruntime runs a model; some draws pool an image away."""
    try:
        run(model, random_feeds(model, batch=2))
    except RuntimeFailure:
        return False
    return True


def _one(random: np.random.Generator, layers: tuple[str, ...], probability: float) -> tuple[str, ...]:
    """A pattern that names one inner layer, or none."""
    if random.random() >= probability:
        return ()
    return (f"^{re.escape(layers[int(random.integers(1, len(layers)))])}$",)
