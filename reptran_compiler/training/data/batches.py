"""Batches: which examples stand in which, whoever reads them, and their numbers as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from reptran_compiler.errors import BadInput
from reptran_compiler.training.data.dataset import Dataset, Normalisation
from reptran_compiler.training.data.drawing import Draw
from reptran_compiler.training.data.examples import Examples
from reptran_compiler.training.processes import Processes

#: Images, float32 [n, C, H, W], and labels, int64 [n].
Batch = tuple[Tensor, Tensor]


class _Reader(TorchDataset["Batch | BadInput"]):
    """Reads whole batches: an index of this data set is an array of indices of examples.

    What cannot be read is returned: torch would wrap what a worker raises in that worker's traceback.
    """

    def __init__(self, examples: Examples, normalisation: Normalisation, draw: Draw | None) -> None:
        self._examples, self._normalisation, self._draw = examples, normalisation, draw

    def __getitem__(self, indices: Any) -> Batch | BadInput:
        try:
            images = self._normalisation(self._examples.take(indices, self._draw))
        except BadInput as error:
            return error
        return torch.from_numpy(images), torch.from_numpy(self._examples.labels[indices])


def training_batches(
    dataset: Dataset, draw: Draw, size: int, processes: Processes, workers: int = 0
) -> Iterator[Batch]:
    """This process' share of an epoch's batches: the images shuffled, augmented and normalised.

    All batches are full: the images that remain are left out of the epoch, and every epoch leaves out others. The
    processes' shares, side by side, are the batch that one process would see.

    Args:
        dataset: what is trained on.
        draw: the epoch's random numbers.
        size: images in a batch, over all processes.
        processes: who shares it.
        workers: processes that read ahead; 0 reads between the batches.

    Raises:
        BadInput: the processes cannot share a batch evenly, or there are fewer images than it has; from the batches
            themselves, an image cannot be read.
    """
    count = len(dataset.train.labels)
    share, rest = divmod(size, processes.count)
    if rest or not share:
        raise BadInput(f"{processes.count} processes cannot share a batch of {size} evenly")
    if count < size:
        raise BadInput(f"a batch has {size} images, and there are {count:,} to train on: choose a smaller batch")
    order = draw.order(count)
    starts = range(processes.rank * share, count - size + 1 + processes.rank * share, size)
    return _loaded(_Reader(dataset.train, dataset.normalisation, draw), [order[s : s + share] for s in starts], workers)


def evaluation_batches(dataset: Dataset, size: int, processes: Processes, workers: int = 0) -> Iterator[Batch]:
    """This process' share of the test images, as they are but for normalisation; every one is somebody's, once.

    Raises:
        BadInput: from the batches, an image cannot be read.
    """
    mine = np.arange(processes.rank, len(dataset.test.labels), processes.count, dtype=np.int64)
    chunks = [mine[start : start + size] for start in range(0, len(mine), size)]
    return _loaded(_Reader(dataset.test, dataset.normalisation, None), chunks, workers)


def plain_batches(
    dataset: Dataset, count: int, size: int, seed: int, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Some of the images to train on, not augmented, in memory: [n, C, H, W] each.

    Args:
        dataset: where they are from.
        count: how many, of all that there are at most.
        size: images in a batch.
        seed: which are drawn.
        dtype: of the images.

    Raises:
        BadInput: an image cannot be read.
    """
    order = Draw(seed, 0).order(len(dataset.train.labels))[:count]
    chunks = [order[start : start + size] for start in range(0, len(order), size)]
    return [images.to(dtype) for images, _ in _loaded(_Reader(dataset.train, dataset.normalisation, None), chunks, 0)]


def _loaded(reader: _Reader, batches: Sequence[NDArray[np.int64]], workers: int) -> Iterator[Batch]:
    # batch_size None: what the sampler gives goes to the reader as it is, a batch at a time
    for batch in DataLoader(reader, batch_size=None, sampler=batches, num_workers=workers):
        if isinstance(batch, BadInput):
            raise batch
        yield batch
