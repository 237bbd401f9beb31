"""onnx2tf, run by LiteRT. It moves channels last; `-kat` leaves the inputs as they are."""

from __future__ import annotations

import sys
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

from benchmarks.backends.calling import Array, Arrays, Refused, Run, call


def prepare(file: Path, inputs: Arrays) -> Run:
    """Convert a model, and load the result."""
    folder = file.with_suffix("")
    tool = str(Path(sys.executable).with_name("onnx2tf"))
    call([tool, "-i", str(file), "-o", str(folder), "-v", "error", "-kat", *inputs], file.parent)
    written = sorted(folder.glob("*float32.tflite"))
    if not written:
        raise Refused("the converter wrote no float32 model")
    interpreter = Interpreter(str(written[0]), num_threads=1)
    taken = interpreter.get_input_details()
    given_shape: list[tuple[int, ...]] = []

    def run(given: Arrays) -> list[Array]:
        (value,) = given.values()
        if given_shape != [value.shape]:
            interpreter.resize_tensor_input(taken[0]["index"], value.shape)
            interpreter.allocate_tensors()
            given_shape[:] = [value.shape]
        interpreter.set_tensor(taken[0]["index"], value)
        interpreter.invoke()
        return [interpreter.get_tensor(each["index"]) for each in interpreter.get_output_details()]

    return run
