"""emx-onnx-cgen: C, compiled by cc."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
import onnx

from benchmarks.backends.calling import Array, Arrays, Refused, Run, call


def prepare(file: Path, inputs: Arrays) -> Run:
    """Generate and compile a model; its function takes open dimensions, the inputs' and then the outputs' arrays."""
    folder = file.with_suffix("")
    folder.mkdir(exist_ok=True)
    call([str(Path(sys.executable).with_name("emx-onnx-cgen")), "compile", str(file), "m.c"], folder)
    call(["cc", "-O2", "-march=native", "-shared", "-fPIC", "-o", "m.so", "m.c", "-lm"], folder)
    loaded = ctypes.CDLL(str(folder / "m.so"))
    if hasattr(loaded, "model_load"):  # large weights lie in a file of their own
        loaded.model_load.restype = ctypes.c_bool
        if not loaded.model_load(str(folder / "model.bin").encode()):
            raise Refused("the generated code does not load its weights")
    graph = onnx.load(file).graph
    opened = [dim.dim_param for dim in graph.input[0].type.tensor_type.shape.dim if not dim.dim_value]
    shapes = [[dim.dim_value for dim in each.type.tensor_type.shape.dim] for each in graph.output]

    def run(given: Arrays) -> list[Array]:
        batch = next(iter(given.values())).shape[0]
        found: list[Array] = [np.empty([size or batch for size in shape], np.float32) for shape in shapes]
        every = [*map(np.ascontiguousarray, given.values()), *found]
        sizes = [ctypes.c_int(batch) for _ in opened]
        loaded.model(*sizes, *(each.ctypes.data_as(ctypes.c_void_p) for each in every))
        return found

    return run
