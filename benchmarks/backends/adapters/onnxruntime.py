"""onnxruntime, with its own optimisations."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from benchmarks.backends.calling import Arrays, Run


def prepare(file: Path, inputs: Arrays) -> Run:
    """Load a model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda given: list(session.run(None, given))
