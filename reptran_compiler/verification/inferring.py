"""Where a model that does not run goes wrong: shapes that follow from its inputs without a run, as far as they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import ModelProto


def inferred_shapes(model: ModelProto, feeds: Mapping[str, NDArray[Any]]) -> dict[str, tuple[int, ...]]:
    """Shapes that onnx infers for given inputs; nothing that the file states of its tensors is believed.

    Args:
        model: the model; it may be wrong in any way.
        feeds: its inputs.

    Returns:
        By tensor name; tensors whose shape does not follow are left out, as are all of a model that is too large or too
        broken for the inference.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in copy.graph.output:
        value.ClearField("type")
    for value in copy.graph.input:
        if value.name in feeds:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, feeds[value.name].shape))
    try:
        found = onnx.shape_inference.infer_shapes(copy, strict_mode=False, data_prop=True).graph
    except Exception:  # noqa: BLE001 - onnx raises several unrelated classes, on models that are wrong already
        return {}
    shapes = {}
    for value in (*found.value_info, *found.output):
        axes = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(axis.HasField("dim_value") for axis in axes):
            shapes[value.name] = tuple(axis.dim_value for axis in axes)
    return shapes
