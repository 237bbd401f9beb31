"""onnxsim, and onnxruntime behind it."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxsim

from benchmarks.backends.adapters import onnxruntime
from benchmarks.backends.calling import Arrays, Run


def prepare(file: Path, inputs: Arrays) -> Run:
    """Simplify a model, and load the result."""
    simplified, _ = onnxsim.simplify(onnx.load(file))
    onnx.save(simplified, file.with_suffix(".onnxsim"))
    return onnxruntime.prepare(file.with_suffix(".onnxsim"), inputs)
