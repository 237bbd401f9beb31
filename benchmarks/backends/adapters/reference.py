"""ONNX' own reference evaluator."""

from __future__ import annotations

from pathlib import Path

from onnx.reference import ReferenceEvaluator

from benchmarks.backends.calling import Arrays, Run


def prepare(file: Path, inputs: Arrays) -> Run:
    """Load a model."""
    evaluator = ReferenceEvaluator(str(file))
    return lambda given: list(evaluator.run(None, given))
