"""OpenVINO on the CPU."""

from __future__ import annotations

from pathlib import Path

import openvino

from benchmarks.backends.calling import Arrays, Run

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


def prepare(file: Path, inputs: Arrays) -> Run:
    """Load a model."""
    model = openvino.Core().compile_model(str(file), "CPU", SETTINGS)
    return lambda given: list(model(given).values())
