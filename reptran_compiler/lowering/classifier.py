"""`--classifier int8`: the weights of classifiers are rounded to what eight bits and a scale for each channel hold.

That changes what is computed, as stated: the scale of an output channel is its largest absolute weight over 127, in
float32 (1 where that is 0), and a weight becomes weight / scale, in float32, rounded to the nearest integer, ties to
even, times scale. Cast and Mul make it out again, which onnxruntime does once, when it loads the file, so that the
network is as fast as it was. DequantizeLinear would stay in the graph and be computed in every run, and onnxruntime
takes one in front of a MatMul for an operator of its own, with other arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from reptran_compiler.model import Constant, Graph, Node
from reptran_compiler.replication import Layers
from reptran_compiler.rewriting import CannotContinue

Array = NDArray[Any]

_LARGEST = 127


def round_classifiers(graph: Graph, layers: Layers) -> tuple[str, ...]:
    """Store the weights of a graph's classifiers as int8, in place.

    Returns:
        The names of the classifiers.

    Raises:
        CannotContinue: there is none, or one has no weights that int8 is for.
    """
    found = [node for node in graph.nodes if layers.roles.is_classifier(node)]
    if not found:
        raise CannotContinue("--classifier int8: the model has no classifier, no layer that no other layer is behind")
    for node in found:
        position = layers.roles.layers[node.name]
        reason = _unfit(node, position)
        if reason:
            raise CannotContinue(f"--classifier int8: {reason} (classifier {node.name!r})")
        mark = graph.mark()
        weight = node.inputs[position]
        integers, scale = rounded(weight.values, _channels(node, position))
        stored = graph.constant(f"{weight.name}/int8", integers)
        floats = graph.node("Cast", [stored], {"to": TensorProto.FLOAT}, name=f"{node.name}/weights/Cast").outputs[0]
        factor = graph.constant(f"{weight.name}/scale", scale)
        made = graph.node("Mul", [floats, factor], name=f"{node.name}/weights").outputs[0]
        node.inputs[position] = made
        graph.adopt(graph.since(mark))
    graph.tidy()
    return tuple(node.name for node in found)


def rounded(weight: Array, axis: int) -> tuple[Array, Array]:
    """Weights as integers and scales.

    Args:
        weight: float32, finite.
        axis: that of the output channels.

    Returns:
        int8 of the weights' shape, and float32 scales, of size 1 on every axis but `axis`.
    """
    others = tuple(each for each in range(weight.ndim) if each != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True) / np.float32(_LARGEST)
    scale[scale == 0] = 1
    return np.clip(np.rint(weight / scale), -_LARGEST, _LARGEST).astype(np.int8), scale


def _channels(node: Node, position: int) -> int:
    """The axis of a layer's weights that its output channels are on."""
    if node.op == "Conv" or (node.op == "Gemm" and node.attrs.get("transB", 0)):
        return 0
    return 0 if position == 0 else 1


def _unfit(node: Node, position: int) -> str:
    """Why a classifier's weights cannot be stored as int8; "" where they can."""
    weight = node.inputs[position]
    if not isinstance(weight, Constant):
        return "its weights are computed"
    if np.dtype(weight.dtype) != np.float32:
        return f"its weights are {np.dtype(weight.dtype).name}, and not float32"
    if node.op != "Conv" and len(weight.shape) != 2:
        return "its weights are no matrix"
    if np.isin(weight.values, (-1, 0, 1)).all():
        return "its weights are signs, which --weights packed stores in a bit"
    return ""
