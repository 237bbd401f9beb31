"""A small training run, as a test and as a process of its own (alone, or one of several that torchrun starts).

python tests/training_run.py CURVE.csv STATE.pt [--checkpoint FILE] [--resume] [--slow SECONDS] [--single]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reptran_compiler.training.curve import Row
from reptran_compiler.training.data import Augmentation, Dataset, Normalisation, Stored
from reptran_compiler.training.norms import BatchNorm
from reptran_compiler.training.processes import Processes, joined
from reptran_compiler.training.recipe import Recipe, Step
from reptran_compiler.training.trainer import train

#: Two steps, everything that a recipe can ask for.
RECIPE = Recipe(
    name="test",
    steps=(Step(real_weights=True, weight_decay=1e-3), Step()),
    optimiser="adam",
    rate=5e-3,
    schedule="linear",
    warmup=0,
    epochs=3,
    batch=16,
    smoothing=0.1,
    distillation=0.5,
    temperature=2.0,
    ema=0.9,
    seed=7,
)


class WeightSign(nn.Module):
    """sign(w), straight-through, unless the weights shall be real."""

    def __init__(self) -> None:
        super().__init__()
        self.real = False

    def forward(self, weight: Tensor) -> Tensor:
        return weight if self.real else (torch.sign(weight) - weight).detach() + weight


class Activation(nn.Module):
    """sign(x), straight-through with a tanh that becomes steeper."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = 1.0
        self.told: list[float] = []

    def anneal(self, progress: float) -> None:
        self.told.append(progress)
        self.slope = 1.0 + 3.0 * progress

    def forward(self, x: Tensor) -> Tensor:
        soft = torch.tanh(self.slope * x)
        return (torch.sign(x) - soft).detach() + soft


class Convolution(nn.Module):
    """Sign, binary 3x3 convolution, BatchNormalization, shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sign, self.weight_sign = Activation(), WeightSign()
        self.weight = nn.Parameter(torch.randn(channels, channels, 3, 3) / 10)
        self.bn = BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(F.conv2d(self.sign(x), self.weight_sign(self.weight), padding=1))
        return F.hardtanh(y + x)


class Net(nn.Module):
    """Stem, two binary convolutions, dropout, classifier: [n, 1, 8, 8] to [n, 4]."""

    def __init__(self, seed: int = 0, dropout: float = 0.1) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem, self.bn = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
            self.body = nn.Sequential(Convolution(8), Convolution(8))
            self.drop, self.fc = nn.Dropout(dropout), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(F.hardtanh(self.bn(self.stem(x)))).mean((2, 3))
        logits: Tensor = self.fc(self.drop(y))
        return logits


def dataset(train: int = 100, test: int = 30) -> Dataset:
    """Noisy 8 x 8 images in four classes: plain, stripes down, stripes across, a chessboard; uint8."""

    def examples(count: int, seed: int) -> Stored:
        drawn = np.random.default_rng(seed)
        rows, columns = np.indices((8, 8)) % 2
        patterns = np.stack([np.full((8, 8), 0.5), columns, rows, rows ^ columns])[:, None]
        labels = np.arange(count) % 4
        images = 120 * patterns[labels] + drawn.integers(0, 130, (count, 1, 8, 8))
        return Stored(images.astype(np.uint8), labels, Augmentation(1, True))

    return Dataset("patterns", examples(train, 1), examples(test, 2), 4, Normalisation((0.5,), (0.25,)))


def teacher() -> Callable[[Tensor], Tensor]:
    """Logits that depend on an image alone."""
    weight = torch.linspace(-1, 1, 4, dtype=torch.float64)
    return lambda images: images.double().mean((1, 2, 3))[:, None] * weight * 3


def run(
    *,
    double: bool = False,
    checkpoint: Path | None = None,
    resume: bool = False,
    slow: float = 0.0,
    processes: Processes = Processes(),  # noqa: B008 - it is frozen
) -> tuple[tuple[Row, ...], Net]:
    """The run: its curve, and the network that it leaves.

    Args:
        double: in float64, shorter, and without dropout, which processes draw apart: for comparisons but for rounding.
        checkpoint, resume, processes: as for `train`.
        slow: seconds that a batch takes longer.
    """
    network = Net(dropout=0.0).double() if double else Net()
    rows = train(
        network,
        dataset(),
        replace(RECIPE, epochs=2) if double else RECIPE,
        teacher=teacher(),
        checkpoint=checkpoint,
        resume=resume,
        processes=processes,
        progress=lambda *_: time.sleep(slow),
    )
    return rows, network


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path, help="where the leading process leaves curve and state")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--double", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with joined(torch.device("cpu")) as processes:
        rows, network = run(double=asked.double, checkpoint=asked.checkpoint, slow=asked.slow, processes=processes)
    if processes.leads:
        torch.save({"rows": [list(numbers(row)) for row in rows], "state": network.state_dict()}, asked.result)


def numbers(row: Row) -> tuple[float, ...]:
    """What of a row does not depend on the machine."""
    return row.rate, row.train_loss, row.train_accuracy, row.test_loss, row.test_accuracy


if __name__ == "__main__":
    main()
