"""Apache TVM: Relax, compiled by LLVM without tuning."""

from __future__ import annotations

from pathlib import Path

import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from benchmarks.backends.calling import Array, Arrays, Run


def prepare(file: Path, inputs: Arrays) -> Run:
    """Import and compile a model."""
    module = relax.transform.LegalizeOps()(relax.transform.DecomposeOpsForInference()(from_onnx(onnx.load(file))))
    machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())

    def run(given: Arrays) -> list[Array]:
        found = machine["main"](*map(tvm.runtime.tensor, given.values()))
        return [each.numpy() for each in ([found] if hasattr(found, "numpy") else found)]

    return run
