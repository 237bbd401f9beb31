"""tract."""

from __future__ import annotations

from pathlib import Path

import tract

from benchmarks.backends.calling import Arrays, Run


def prepare(file: Path, inputs: Arrays) -> Run:
    """Load a model."""
    model = tract.onnx().load(str(file)).into_model().into_runnable()
    return lambda given: [each.to_numpy() for each in model.run(list(given.values()))]
