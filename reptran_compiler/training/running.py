"""A run, epoch by epoch: what is trained, tested, and kept."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from reptran_compiler.errors import BadInput
from reptran_compiler.reporting.progress import Step as Progress
from reptran_compiler.training.annealing import anneal, weights_real
from reptran_compiler.training.averaging import averaging
from reptran_compiler.training.checkpoints import Checkpoint
from reptran_compiler.training.curve import Row
from reptran_compiler.training.data import Dataset, Draw, evaluation_batches, training_batches
from reptran_compiler.training.evaluation import Tally, measure
from reptran_compiler.training.fitting import float_type
from reptran_compiler.training.groups import make_optimiser, set_rate
from reptran_compiler.training.identity import told_of
from reptran_compiler.training.losses import Criterion
from reptran_compiler.training.processes import Processes
from reptran_compiler.training.recipe import Recipe
from reptran_compiler.training.schedules import rate
from reptran_compiler.training.teachers import Teacher

PathLike = str | os.PathLike[str]


@dataclass
class Run:
    """A run, and where it stands between two epochs.

    Attributes:
        network, dataset, recipe, teacher, device, processes, workers, progress: as for `train`.
        rows: the curve so far.
        optimiser: of the step that it is in.
        average: the averaged network of that step, where the recipe has one.
    """

    network: nn.Module
    dataset: Dataset
    recipe: Recipe
    teacher: Teacher | None
    device: torch.device
    processes: Processes
    workers: int
    progress: Progress
    rows: list[Row] = field(default_factory=list)
    optimiser: Optimizer = field(init=False)
    average: AveragedModel | None = field(init=False)

    def __post_init__(self) -> None:
        self._begin_step(0)

    def epoch(self, driven: nn.Module, position: int) -> None:
        """Train an epoch, counted over the whole run; test; add a row."""
        began = time.monotonic()
        number, epoch = divmod(position, self.recipe.epochs)
        if epoch == 0:
            self._begin_step(number)
        for network in self._networks():
            anneal(network, epoch / self.recipe.epochs)
        learning_rate = rate(self.recipe, epoch)
        set_rate(self.optimiser, learning_rate)
        train_loss, train_accuracy = self._train(driven, Draw(self.recipe.seed, position))
        _see_finite(train_loss, position + 1)
        batches = evaluation_batches(self.dataset, self.recipe.batch, self.processes, self.workers)
        test_loss, test_accuracy = measure(self._networks()[-1], batches, self.device, self.processes)
        _see_finite(test_loss, position + 1)
        if self.average is not None and epoch + 1 == self.recipe.epochs:
            self.network.load_state_dict(self.average.module.state_dict())
        seconds = time.monotonic() - began
        learned = (train_loss, train_accuracy, test_loss, test_accuracy)
        self.rows.append(Row(number + 1, position + 1, learning_rate, *learned, seconds))

    def restore(self, path: PathLike, resume: bool) -> None:
        """Go on from a file, where it is there.

        Raises:
            BadInput: it is there and nobody asked to, is another run's, or is there for some processes alone.
        """
        there = os.path.exists(path)
        if there and not resume:
            raise BadInput(f"{os.fspath(path)} is there already: go on from it with --resume, or name another file")
        if int(self.processes.total(torch.tensor(int(there), device=self.device))) not in (0, self.processes.count):
            raise BadInput(f"{os.fspath(path)} is not there for every process: put it where all machines find it")
        if not there:
            return
        found = Checkpoint.load(path)
        found.require(self.recipe, str(self.dataset), self._told, path)
        self.rows = list(found.rows)
        self._begin_step(max(len(self.rows) - 1, 0) // self.recipe.epochs)
        try:
            self.network.load_state_dict(dict(found.network))
            self.optimiser.load_state_dict(dict(found.optimiser))
            if self.average is not None:
                self.average.load_state_dict(dict(found.average or {}))
        except (RuntimeError, ValueError, KeyError):
            raise BadInput(f"{os.fspath(path)} is a checkpoint of another network") from None

    def save(self, path: PathLike) -> None:
        """Write where the run stands."""
        average = None if self.average is None else self.average.state_dict()
        states = (self.network.state_dict(), self.optimiser.state_dict(), average)
        Checkpoint(self.recipe, str(self.dataset), self._told, tuple(self.rows), *states).save(path)

    @cached_property
    def _told(self) -> Mapping[str, str]:
        return told_of(self.network, self.dataset, self.teacher)

    def _networks(self) -> list[nn.Module]:
        """The network, and behind it the averaged one where there is one."""
        return [self.network] if self.average is None else [self.network, self.average.module]

    def _begin_step(self, number: int) -> None:
        step = self.recipe.steps[number]
        weights_real(self.network, step.real_weights)
        self.optimiser = make_optimiser(self.network, self.recipe, step)
        self.average = None
        if self.recipe.ema is not None:
            self.average = AveragedModel(self.network, multi_avg_fn=averaging(self.recipe.ema), use_buffers=True)

    def _train(self, driven: nn.Module, draw: Draw) -> tuple[float, float]:
        """An epoch of batches: mean loss, and share of right answers."""
        self.network.train()
        torch.manual_seed(draw.word(self.processes.rank))
        criterion, tally, dtype = Criterion.of(self.recipe), Tally.on(self.device), float_type(self.network)
        mixed = self.recipe.mixed and self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        each = len(self.dataset.train.labels) // self.recipe.batch
        words = f"epoch {draw.epoch + 1} of {self.recipe.total_epochs}"
        batches = training_batches(self.dataset, draw, self.recipe.batch, self.processes, self.workers)
        for number, (images, labels) in enumerate(batches, 1):
            images, labels = images.to(self.device, dtype), labels.to(self.device)
            taught = None if self.teacher is None else self.teacher(images)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
                logits: Tensor = driven(images)
                loss = criterion(logits.float() if mixed else logits, labels, taught)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            if self.average is not None:
                self.average.update_parameters(self.network)
            tally.add(loss, logits, labels)
            self.progress(words, draw.epoch * each + number, self.recipe.total_epochs * each)
        return tally.means(self.processes)


def _see_finite(loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise BadInput(f"the loss is {loss} in epoch {epoch}: choose a lower learning rate")
