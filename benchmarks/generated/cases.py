"""A network together with options to compile it with, all from one source of decisions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from onnx import ModelProto

from benchmarks.generated.builder import DIMS
from benchmarks.generated.choices import Choices, Seeded
from benchmarks.generated.networks import file, network
from reptran_compiler.pipeline import Options
from reptran_compiler.runtime import RuntimeFailure, random_feeds, run

#: A draw that onnxruntime does not run is drawn again this often.
_TRIES = 10


@dataclass(frozen=True)
class Case:
    """One generated compilation.

    Attributes:
        model: the source.
        options: the compilation's options.
        dims: sizes of the dynamic axes of the image; empty where it has none.
        constructs: names of what the source contains.
    """

    model: ModelProto
    options: Options
    dims: dict[str, int]
    constructs: frozenset[str]


def draw_case(seed: int) -> Case:
    """The case of a seed; equal on every run and machine."""
    choices = Seeded(seed)
    for _ in range(_TRIES):
        case = draw(choices)
        if runs(case):
            return case
    raise AssertionError(f"seed {seed}: onnxruntime runs none of {_TRIES} draws")


def draw(choices: Choices) -> Case:
    """The case of some decisions; onnxruntime may not run it."""
    beta = (2, 2, 3, 4)[choices.integer(0, 3)]
    unit = beta if choices.integer(0, 99) < 85 else 5 - choices.integer(2, 3)
    b = network(choices, unit)
    model = file(b)
    training = "BatchNormalization in training mode" in b.constructs
    options = Options(
        beta=beta,
        scope="layer" if b.chance(0.12) else "network",
        fc=b.pick(("widen", "fold")),
        bn="keep" if training and b.chance(0.7) else b.pick(("fold", "keep")),
        weights=b.pick(("latent", "binary")),
        exclude=_one(b.layers, choices, 20),
        include=_one(b.layers, choices, 20),
    )
    return Case(model, options, {name: DIMS[name] for name in _axes(model)}, frozenset(b.constructs))


def runs(case: Case) -> bool:
    """Whether onnxruntime runs the source; some draws pool an image away."""
    try:
        run(case.model, random_feeds(case.model, batch=2, dims=case.dims))
    except RuntimeFailure:
        return False
    return True


def _axes(model: ModelProto) -> list[str]:
    names = [axis.dim_param for value in model.graph.input for axis in value.type.tensor_type.shape.dim]
    return [name for name in dict.fromkeys(names) if name in DIMS]


def _one(layers: list[str], choices: Choices, share: int) -> tuple[str, ...]:
    """A pattern that names one inner layer, or none."""
    if choices.integer(0, 99) < 100 - share or len(layers) < 2:
        return ()
    return (f"^{re.escape(layers[choices.integer(1, len(layers) - 1)])}$",)
