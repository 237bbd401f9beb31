"""qonnx' executor."""

from __future__ import annotations

from pathlib import Path

from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

from benchmarks.backends.calling import Arrays, Run


def prepare(file: Path, inputs: Arrays) -> Run:
    """Load a model; the executor wants every tensor's shape."""
    model = ModelWrapper(str(file)).transform(InferShapes())
    return lambda given: list(execute_onnx(model, given).values())
