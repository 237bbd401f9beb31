"""What adapters share. It is imported in the backends' environments: NumPy is all it may need."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = dict[str, Array]

#: What an adapter's `prepare` gives: inputs by name to outputs in the graph's order.
Run = Callable[[Arrays], list[Array]]


def save(file: Path, arrays: Arrays) -> None:
    """Write arrays by name into a file; `load` reads them."""
    np.savez(file, allow_pickle=False, **arrays)


def load(file: Path) -> Arrays:
    """The arrays of a file."""
    with np.load(file) as stored:
        return {name: stored[name] for name in stored.files}


class Refused(Exception):
    """A backend's tool says no."""


def call(command: Sequence[str], folder: Path) -> str:
    """Run a command in a folder; returns what it printed.

    Raises:
        Refused: it ended with an error; the message is the last line that it printed with a word like "error" in it.
    """
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    said = done.stdout + done.stderr
    if done.returncode:
        lines = [line.strip() for line in said.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        telling = [line for line in lines if any(word in line.lower() for word in ("error", "exception", "reason"))]
        raise Refused((telling or lines)[-1])
    return said
