"""What no training may leave behind: numbers that are none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, numpy_helper

from reptran_compiler.runtime import is_float


def parameter_failures(model: ModelProto) -> Iterator[str]:
    """The stored tensors that hold NaN, or, where they hold many numbers, an infinity (a bound may be one)."""
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if not is_float(value.dtype):
            continue
        numbers = value.astype(np.float32) if value.dtype.itemsize < 4 else value
        bad = np.isnan(numbers) if numbers.size == 1 else ~np.isfinite(numbers)
        if bad.any():
            yield f"stored tensor {tensor.name!r} holds {int(bad.sum())} numbers that are NaN or infinite"
