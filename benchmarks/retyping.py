"""A network of float32 in another floating type: weights, inputs, outputs and casts."""

from __future__ import annotations

from types import MappingProxyType

import onnx
from onnx import ModelProto, TensorProto, numpy_helper

from reptran_compiler.model.retyping import retyped as in_type

#: The types of ONNX by numpy's names for them.
DTYPES = MappingProxyType(
    {
        "float32": TensorProto.FLOAT,
        "float16": TensorProto.FLOAT16,
        "bfloat16": TensorProto.BFLOAT16,
        "float64": TensorProto.DOUBLE,
    }
)


def retyped(model: ModelProto, dtype: str) -> ModelProto:
    """A copy of a model in which every tensor of float32 is of another type (a name of `DTYPES`)."""
    return in_type(model, TensorProto.FLOAT, DTYPES[dtype])


def with_float_ends(model: ModelProto, dtype: str) -> ModelProto:
    """As `retyped`, but for the graph's inputs and outputs: Casts stand between them and the network."""
    made = retyped(model, dtype)
    graph, kind = made.graph, DTYPES[dtype]
    stored = {tensor.name for tensor in graph.initializer}
    nodes = list(graph.node)
    front = []
    for value in graph.input:
        if value.name not in stored and value.type.tensor_type.elem_type == kind:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            inner = f"{value.name}.{dtype}"
            front.append(onnx.helper.make_node("Cast", [value.name], [inner], name=f"{inner}.in", to=kind))
            for node in nodes:
                node.input[:] = [inner if name == value.name else name for name in node.input]
    back = []
    for value in graph.output:
        if value.type.tensor_type.elem_type == kind:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            inner = f"{value.name}.{dtype}"
            for node in nodes:
                node.input[:] = [inner if name == value.name else name for name in node.input]
                node.output[:] = [inner if name == value.name else name for name in node.output]
            back.append(onnx.helper.make_node("Cast", [inner], [value.name], name=f"{inner}.out", to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend([*front, *nodes, *back])
    return made


def with_stored(model: ModelProto, dtype: str) -> ModelProto:
    """A copy in which the stored weights of float32 are of another type, each cast up in front of its readers."""
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.dims:
            name = tensor.name
            tensor.CopyFrom(_tensor(tensor, DTYPES[dtype]))
            tensor.name = f"{name}.{dtype}"
            casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], name=f"{name}.up", to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    return made


def _tensor(tensor: TensorProto, kind: int) -> TensorProto:
    values = numpy_helper.to_array(tensor).astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    return numpy_helper.from_array(values, tensor.name)
