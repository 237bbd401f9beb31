"""emx-onnx-cgen: C, compiled by cc."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
import onnx

from benchmarks.backends.calling import Array, Arrays, Run, call


def prepare(file: Path, inputs: Arrays) -> Run:
    """Generate and compile a model; its function takes the inputs' and then the outputs' arrays."""
    source, library = file.with_suffix(".c"), file.with_suffix(".so")
    call([str(Path(sys.executable).with_name("emx-onnx-cgen")), "compile", str(file), str(source)], file.parent)
    call(["cc", "-O2", "-march=native", "-shared", "-fPIC", "-o", str(library), str(source), "-lm"], file.parent)
    function = ctypes.CDLL(str(library)).model
    shapes = [[d.dim_value for d in o.type.tensor_type.shape.dim] for o in onnx.load(file).graph.output]

    def run(given: Arrays) -> list[Array]:
        found: list[Array] = [np.empty(shape, np.float32) for shape in shapes]
        every = [*map(np.ascontiguousarray, given.values()), *found]
        function(*(each.ctypes.data_as(ctypes.c_void_p) for each in every))
        return found

    return run
