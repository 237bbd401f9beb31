"""The curve of a run: a row for each epoch, and its forms for machines."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Protocol


@dataclass(frozen=True)
class Row:
    """What an epoch came to.

    Attributes:
        step, epoch: counted from 1; epochs over the whole run.
        rate: the learning rate.
        train_loss, train_accuracy: means over the epoch's training images, while the network changed.
        test_loss, test_accuracy: of the test images, at the epoch's end; the loss is the cross entropy.
        seconds: how long it took. Accuracies are shares from 0 to 1.
    """

    step: int
    epoch: int
    rate: float
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    seconds: float


class Observer(Protocol):
    """What is told of a run's progress."""

    def __call__(self, rows: Sequence[Row]) -> None:
        """Take note of the curve so far; its last row is new, or was told of by a run that this one resumes."""


def to_csv(rows: Sequence[Row]) -> bytes:
    """The curve as a table, with a line of names; every number is exact."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(field.name for field in fields(Row))
    table.writerows(astuple(row) for row in rows)
    return text.getvalue().encode()
