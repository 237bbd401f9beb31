"""Run by qonnx' own Python: executes a QONNX file, and counts its costs. Of this project it imports nothing.

    python executing.py MODEL.onnx INPUTS.npz RESULT.json

writes the outputs of qonnx' executor, as exported and behind its clean-up, and the costs of each layer, as JSON."""

from __future__ import annotations

import json
import sys

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.util.cleanup import cleanup_model
from qonnx.util.inference_cost import inference_cost


def main(model: str, inputs: str, result: str) -> None:
    """Execute and count one file."""
    (values,) = np.load(inputs).values()
    wrapper = ModelWrapper(model).transform(InferShapes())
    found = {"outputs": _outputs(wrapper, values)}
    cleaned = cleanup_model(ModelWrapper(model)).transform(InferShapes())
    found["cleaned"] = _outputs(cleaned, values)
    costs = inference_cost(model, discount_sparsity=False, cost_breakdown=True)
    found["layers"] = [
        {"name": name, **{key: value for key, value in each.items() if "mac" in key or key == "total_bops"}}
        for name, each in costs["node_cost"].items()
    ]
    with open(result, "w") as file:
        json.dump(found, file, default=float)


def _outputs(wrapper: ModelWrapper, values: np.ndarray) -> list[object]:
    """The one output of a model with one input."""
    given = execute_onnx(wrapper, {wrapper.graph.input[0].name: values})
    return list(given[wrapper.graph.output[0].name].tolist())


if __name__ == "__main__":
    main(*sys.argv[1:])
