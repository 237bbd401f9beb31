"""MNN. Its converter is called without `mnnconvert`, which installs a package by pip and reports each conversion."""

from __future__ import annotations

from pathlib import Path

import _tools
import MNN
import numpy as np
import onnx

from benchmarks.backends.calling import Array, Arrays, Refused, Run


def prepare(file: Path, inputs: Arrays) -> Run:
    """Convert a model, and load the result."""
    to = file.with_suffix(".mnn")
    command = ["mnnconvert", "-f", "ONNX", "--modelFile", str(file), "--MNNModel", str(to), "--bizCode", "none"]
    _tools.mnnconvert(command)
    if not to.exists():
        raise Refused("the converter wrote nothing")
    runtime = MNN.nn.create_runtime_manager(({"backend": "CPU", "precision": "high", "numThread": 1},))
    outputs = [each.name for each in onnx.load(file).graph.output]
    module = MNN.nn.load_module_from_file(str(to), list(inputs), outputs, runtime_manager=runtime)

    def run(given: Arrays) -> list[Array]:
        placed = []
        for value in given.values():
            placed.append(MNN.expr.placeholder(list(value.shape), MNN.expr.NCHW))
            placed[-1].write(np.ascontiguousarray(value))
        return [np.array(MNN.expr.convert(each, MNN.expr.NCHW).read()) for each in module.forward(placed)]

    return run
