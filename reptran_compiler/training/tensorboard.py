"""A curve for TensorBoard, where it is installed."""

from __future__ import annotations

import os
from collections.abc import Sequence

from reptran_compiler.extras import need
from reptran_compiler.training.curve import Observer, Row

_NAMES = ("rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy")


def tensorboard(folder: str | os.PathLike[str]) -> Observer:
    """An observer that adds each new row to a folder of TensorBoard's, at its epoch.

    Raises:
        BadInput: TensorBoard is not installed.
    """
    need("tensorboard", "--tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    def observe(rows: Sequence[Row]) -> None:
        row = rows[-1]
        # epochs from here on are replaced: those that a run wrote before it was killed
        with SummaryWriter(os.fspath(folder), purge_step=row.epoch) as writer:
            for name in _NAMES:
                writer.add_scalar(name, getattr(row, name), row.epoch)

    return observe
