"""Recipes: everything that a training run depends on besides its network and its data, with published figures.

None of them was run at the published scale here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from reptran_compiler.errors import BadInput


@dataclass(frozen=True)
class Step:
    """One run of the optimiser, from the weights that the step before it left.

    Attributes:
        real_weights: whether binary weights stay real, while activations are binary.
        weight_decay: of layers' weights, as a gradient (L2), also with Adam; nothing else decays.
    """

    real_weights: bool = False
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        name: for people.
        steps: what is done, in order; each for `epochs` epochs, with a fresh optimiser.
        optimiser: Adam with torch's betas, or SGD with `momentum`.
        rate: the learning rate at its largest.
        schedule: how it falls, epoch by epoch (`schedules.rate`).
        warmup: epochs in which it rises.
        epochs: of each step.
        batch: images in a batch, over all processes.
        momentum: of SGD.
        smoothing: of labels (Szegedy et al., arXiv 1512.00567): this share of the target is spread over all classes.
        distillation: the share of the teacher in the loss, where there is one.
        temperature: of the teacher's and the network's probabilities (Hinton et al., arXiv 1503.02531).
        ema: the share that an average of parameters and statistics keeps of itself in each batch; None for no average.
            The average is what is tested, and what a step leaves.
        mixed: whether layers are computed in bfloat16 where the device has it. Sums of signs above 256 are rounded.
        seed: of the order of the images, of their augmentation, and of layers that draw.
        activations, weights: the straight-through estimators that the network is read with (`to_torch`).

    Raises:
        BadInput: a number is out of its range.
    """

    name: str
    steps: tuple[Step, ...]
    optimiser: Literal["adam", "sgd"]
    rate: float
    schedule: Literal["linear", "cosine"]
    warmup: int
    epochs: int
    batch: int
    momentum: float = 0.9
    smoothing: float = 0.0
    distillation: float = 1.0
    temperature: float = 1.0
    ema: float | None = None
    mixed: bool = False
    seed: int = 0
    activations: str = "polynomial"
    weights: str = "clip"

    def __post_init__(self) -> None:
        decays = [step.weight_decay for step in self.steps]
        for words, value, fits in (
            ("a learning rate above 0", self.rate, 0 < self.rate < math.inf),
            ("at least 1 epoch", self.epochs, self.epochs >= 1),
            ("a batch of at least 2 images", self.batch, self.batch >= 2),
            ("weight decays from 0 on", min(decays), all(0 <= decay < math.inf for decay in decays)),
            ("a momentum in [0, 1)", self.momentum, 0 <= self.momentum < 1),
            ("label smoothing in [0, 1)", self.smoothing, 0 <= self.smoothing < 1),
            ("a share of the teacher in [0, 1]", self.distillation, 0 <= self.distillation <= 1),
            ("a temperature above 0", self.temperature, 0 < self.temperature < math.inf),
            ("an average that keeps a share in (0, 1)", self.ema, self.ema is None or 0 < self.ema < 1),
        ):
            if not fits:
                raise BadInput(f"a recipe has {words}, not {value}")

    @property
    def total_epochs(self) -> int:
        """The epochs of all steps together."""
        return self.epochs * len(self.steps)


def _two_steps(weight_decay: float) -> tuple[Step, Step]:
    return Step(real_weights=True, weight_decay=weight_decay), Step()


#: ReActNet-A on ImageNet (arXiv 2003.03488): mobilenet/1_step1/run.sh and 2_step2/run.sh of
#: github.com/liuzechun/ReActNet, the setting of 128 epochs. Its loss is the teacher's alone (a ResNet-34;
#: utils/KD_loss.py). The label smoothing of 0.1 is defined there and not used: here it holds where there is no teacher.
REACTNET = Recipe(
    name="reactnet",
    steps=_two_steps(1e-5),
    optimiser="adam",
    rate=1.25e-3,
    schedule="linear",
    warmup=0,
    epochs=128,
    batch=256,
    smoothing=0.1,
)

#: AdamBNN on ImageNet (arXiv 2106.11309): step1/run.sh and step2/run.sh of github.com/liuzechun/AdamBNN; else as
#: `REACTNET`.
ADAMBNN = replace(REACTNET, name="adambnn", steps=_two_steps(5e-6), epochs=256)

#: ReCU on CIFAR-10 (arXiv 2103.12369): README.md, cifar/run.sh and cifar/main.py of github.com/z-hXu/ReCU. Tau is
#: the estimator's own (`straight_through.rectified_clamp`). There all parameters decay; here
#: those of layers only, as in the authors' imagenet_two-stage/main.py. On ImageNet it is 200 epochs, a batch of 512 and
#: a weight decay of 1e-4.
RECU = Recipe(
    name="recu",
    steps=(Step(weight_decay=5e-4),),
    optimiser="sgd",
    rate=0.1,
    schedule="cosine",
    warmup=5,
    epochs=600,
    batch=256,
    weights="recu",
)

#: The recipes by name.
RECIPES: Mapping[str, Recipe] = MappingProxyType({recipe.name: recipe for recipe in (REACTNET, ADAMBNN, RECU)})
