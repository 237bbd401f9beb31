"""onnx2torch, run by torch."""

from __future__ import annotations

from pathlib import Path

import torch

# onnx2torch imports torchvision, whose wheel does not load beside the CPU build of torch; no operator of it is used.
for _name in ("nms", "qnms"):
    torch.library.define(f"torchvision::{_name}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")

from onnx2torch import convert  # noqa: E402

from benchmarks.backends.calling import Array, Arrays, Run  # noqa: E402


def prepare(file: Path, inputs: Arrays) -> Run:
    """Convert a model."""
    torch.set_num_threads(1)
    module = convert(str(file)).eval()

    def run(given: Arrays) -> list[Array]:
        with torch.no_grad():
            return [module(*map(torch.from_numpy, given.values())).numpy()]

    return run
