"""Training a network by a recipe, on data from disk, in one process or several."""

from __future__ import annotations

import os

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from reptran_compiler.reporting.progress import Step as Progress
from reptran_compiler.reporting.progress import silent
from reptran_compiler.training.curve import Observer, Row
from reptran_compiler.training.data import Dataset
from reptran_compiler.training.fitting import see_fit
from reptran_compiler.training.processes import Processes
from reptran_compiler.training.recipe import Recipe
from reptran_compiler.training.running import Run
from reptran_compiler.training.synchronising import synchronised
from reptran_compiler.training.teachers import Teacher

PathLike = str | os.PathLike[str]


def train(
    network: nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    *,
    teacher: Teacher | None = None,
    checkpoint: PathLike | None = None,
    resume: bool = False,
    device: torch.device | str = "cpu",
    processes: Processes = Processes(),  # noqa: B008 - it is frozen
    workers: int = 0,
    progress: Progress = silent,
    observe: Observer | None = None,
) -> tuple[Row, ...]:
    """Train a network in place, and leave it in eval mode.

    Before each epoch every submodule with a method `anneal` is told the share of the step that is over; modules with an
    attribute `real` keep their weights real in the steps that ask for it. On the CPU the same arguments give the same
    curve to the bit, and so does a run that was killed and resumed. With several processes it is that of one, but for
    rounding.

    Args:
        network: images, floats [n, C, H, W] of its parameters' type, to logits [n, K].
        dataset: what it learns, and is tested with after each epoch.
        recipe: how.
        teacher: whose logits it learns as well.
        checkpoint: a file that holds the run after each epoch; written by the leading process.
        resume: whether the run goes on from that file, where it is there.
        device: where it is trained.
        processes: who trains (`processes.joined`).
        workers: further processes that read images, for each of those.
        progress: told of each batch.
        observe: told of each epoch, in the leading process.

    Returns:
        The curve: a row for each epoch, those before a resumption included.

    Raises:
        BadInput: the data or the teacher do not fit the network, the checkpoint is there and was not asked for or is
            another run's, or the loss is no number any more.
    """
    place = torch.device(device)
    network.to(place)
    see_fit(network, dataset, place, teacher)
    run = Run(network, dataset, recipe, teacher, place, processes, workers, progress)
    if checkpoint is not None:
        run.restore(checkpoint, resume)
    with synchronised(network, processes), torch.random.fork_rng([place] if place.type == "cuda" else []):
        driven = _driven(network, place, processes)
        if run.rows and processes.leads and observe is not None:
            observe(run.rows)  # what was killed may have kept an epoch and not told of it
        for position in range(len(run.rows), recipe.total_epochs):
            run.epoch(driven, position)
            if processes.leads and checkpoint is not None:
                run.save(checkpoint)
            if processes.leads and observe is not None:
                observe(run.rows)
    network.eval()
    return tuple(run.rows)


def _driven(network: nn.Module, device: torch.device, processes: Processes) -> nn.Module:
    """The network as it is called in training: its gradients are those of all processes."""
    if processes.count == 1:
        return network
    return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)
