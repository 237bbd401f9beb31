"""tinygrad on the CPU: it compiles its kernels with clang, or with what CC names."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("DEV", "CPU")

from tinygrad import Tensor  # noqa: E402 - it reads DEV when it is imported
from tinygrad.nn.onnx import OnnxRunner  # noqa: E402

from benchmarks.backends.calling import Arrays, Run  # noqa: E402


def prepare(file: Path, inputs: Arrays) -> Run:
    """Load a model."""
    runner = OnnxRunner(str(file))
    return lambda given: [each.numpy() for each in runner({k: Tensor(v) for k, v in given.items()}).values()]
