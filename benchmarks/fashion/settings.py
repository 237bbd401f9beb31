"""What is trained, how, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from reptran_compiler.errors import BadInput
from reptran_compiler.model.writing import write_bytes
from reptran_compiler.training.recipe import Recipe, Step


@dataclass(frozen=True)
class Budget:
    """What all runs of a study share.

    Attributes:
        width: channels of the networks' stems.
        epochs, batch, rate: of the recipe: Adam, the rate falling as a cosine, binary weights from the beginning.
        images: how many of the training images are used, the first ones.
        padding: zeros on each side of an image before it is cropped to its size at random.
        calibrated: how many of those normalisations are measured on, before the training and behind it.
        magnitude: the root mean square of latent weights when the training begins (`rescale`); 0 leaves them.
        spread: how far the copies of a map are shifted against each other when the training begins (`spread`).
        watched: how many of the test images the curve is of; accuracies are of all.
    """

    width: int = 16
    epochs: int = 12
    batch: int = 100
    rate: float = 2e-3
    images: int = 60_000
    padding: int = 2
    calibrated: int = 1_000
    magnitude: float = 0.03
    spread: float = 0.5
    watched: int = 10_000

    def recipe(self, seed: int) -> Recipe:
        """The recipe of every run with a seed."""
        return Recipe("fashion", (Step(),), "adam", self.rate, "cosine", 0, self.epochs, self.batch, seed=seed)


@dataclass(frozen=True)
class Setting:
    """One run.

    Attributes:
        network: one of `networks.NETWORKS`.
        beta: 1 for the original.
        seed: of the parameters, and of the order and the crops of the images.
        trained: whether it begins with what the compiler makes of the trained original, instead of the fresh one.
    """

    network: str
    beta: int
    seed: int
    trained: bool = False

    def __str__(self) -> str:
        return f"{self.network}-beta{self.beta}-seed{self.seed}" + ("-trained" if self.trained else "")

    @property
    def source(self) -> Setting:
        """The run whose result this one begins with, where `trained`."""
        return Setting(self.network, 1, self.seed)

    @property
    def work(self) -> int:
        """Roughly in what proportion runs take time."""
        return 1 + self.beta


@dataclass(frozen=True)
class Result:
    """What came of a run. Accuracies are shares, of the ONNX files, by onnxruntime on all test images.

    Attributes:
        setting, budget: what was run.
        parameters, macs: trainable parameters and multiply-accumulates.
        begun: before the training and before statistics were measured; of a compiled network right after compiling.
        calibrated: after statistics were measured.
        accuracy: after the training.
        curve: by epoch, as torch has it.
        seconds: of the training.
    """

    setting: Setting
    budget: Budget
    parameters: int
    macs: int
    begun: float
    calibrated: float
    accuracy: float
    curve: tuple[float, ...]
    seconds: float

    def save(self, file: Path) -> None:
        """Write it; the file appears whole or not at all."""
        write_bytes(json.dumps(asdict(self), indent=1).encode(), file)

    @classmethod
    def load(cls, file: Path, budget: Budget) -> Result:
        """Read one.

        Raises:
            BadInput: it was made with another budget.
        """
        found = json.loads(file.read_text())
        setting, made = Setting(**found.pop("setting")), Budget(**found.pop("budget"))
        for field in fields(Budget):
            before, now = getattr(made, field.name), getattr(budget, field.name)
            if before != now:
                raise BadInput(f"{file} was made with {field.name} {before}, not {now}: name another folder")
        return cls(setting, made, curve=tuple(found.pop("curve")), **found)


def settings_of(networks: Sequence[str], betas: Sequence[int], seeds: int, trained: int) -> list[Setting]:
    """All runs of a study, seed by seed, so that what an interrupted one has compares like with like.

    Args:
        networks, betas: of which each combination is run; originals always are.
        seeds: how many.
        trained: of how many seeds Rep networks are compiled from the trained original, too, and that is trained again.
    """
    reps = [beta for beta in betas if beta > 1]
    made = []
    for seed in range(seeds):
        for network in networks:
            made += [Setting(network, beta, seed) for beta in (1, *reps)]
            made += [Setting(network, beta, seed, trained=True) for beta in (1, *reps) if seed < trained]
    return made
