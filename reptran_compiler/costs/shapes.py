"""The shape of every tensor at a known input size, without touching large data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx

from .report import CannotCount
from .view import STANDARD_DOMAINS, element_bytes

#: Initializers with more elements lose their data before shape inference, which reads only small ones.
_LARGEST_KEPT = 1024


class Shapes:
    """Shapes and element types by tensor name, with the batch the model was looked at with.

    ``batch`` is 1 where the file leaves it open, else the file's own; `per_sample` divides it out again.
    Tensors keep the batch in `shape`.
    """

    def __init__(self, model: onnx.ModelProto, input_shapes: Mapping[str, Sequence[int]] | None) -> None:
        self._model = model
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._types: dict[str, int] = {}
        self._bytes: dict[str, int] = {}
        constants = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in constants]
        self._fixed, self.batch = _fix_inputs(inputs, dict(input_shapes or {}))
        self._infer()

    def _infer(self) -> None:
        try:
            inferred = onnx.shape_inference.infer_shapes(_skeleton(self._model, self._fixed), data_prop=True)
        except Exception as error:  # onnx raises several unrelated types
            raise CannotCount(f"the shapes of the model cannot be inferred: {error}") from error
        graph = inferred.graph
        for tensor in graph.initializer:
            self._shapes[tensor.name] = tuple(tensor.dims)
            self._types[tensor.name] = tensor.data_type
        told: dict[bytes, tuple[int, tuple[int, ...] | None] | None] = {}  # many tensors are of one type and shape
        for value in (*graph.input, *graph.value_info, *graph.output):
            name, kind = value.name, value.type
            key = kind.SerializeToString()
            if key not in told:
                tensor = kind.tensor_type
                told[key] = (tensor.elem_type, _known(tensor)) if kind.HasField("tensor_type") else None
            if (known := told[key]) is not None:
                elem_type, dims = known
                self._types.setdefault(name, elem_type)
                if dims is not None:
                    self._shapes[name] = dims

    def require(self, names: Iterable[str]) -> None:
        """Make sure of shapes: those that inference left open are taken from one run of the model.

        Raises CannotCount with the name of a tensor whose shape stays unknown, and why.
        """
        missing = [name for name in dict.fromkeys(names) if name not in self._shapes]
        if not missing:
            return
        try:
            from reptran_compiler import runtime

            feeds = {
                name: np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(self._types[name]))
                for name, shape in self._fixed.items()
            }
            facts, _ = runtime.probe(self._model, feeds)
        except Exception as error:  # whatever onnxruntime or its absence raises, the answer is the same
            raise CannotCount(
                f"the shape of tensor {missing[0]!r} cannot be inferred, and the model does not run: {error}"
            ) from error
        self._bytes.clear()
        for name in missing:
            if name in facts:
                self._shapes[name] = facts[name].shape
            else:
                raise CannotCount(f"the shape of tensor {name!r} is unknown, even after a run of the model")

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape. Raises CannotCount where it is unknown."""
        try:
            return self._shapes[name]
        except KeyError:
            raise CannotCount(f"the shape of tensor {name!r} is unknown") from None

    def known(self, name: str) -> bool:
        """Whether `shape` answers for that tensor."""
        return name in self._shapes

    def size(self, name: str) -> int:
        """A tensor's number of elements. Raises CannotCount where its shape is unknown."""
        return math.prod(self.shape(name))

    def per_sample(self, work: int) -> int:
        """``work`` counted over the whole batch, for one sample."""
        return work // self.batch if work % self.batch == 0 else work

    def bytes(self, name: str) -> int:
        """Bytes of a tensor for one sample; 0 where its shape or type is unknown."""
        known = self._bytes.get(name)
        if known is None:
            size = self.per_sample(self.size(name)) if name in self._shapes else 0
            known = self._bytes[name] = element_bytes(self._types.get(name, 0), size)
        return known


def _known(tensor: onnx.TypeProto.Tensor) -> tuple[int, ...] | None:
    if not tensor.HasField("shape"):
        return None
    sizes = tuple([dim.dim_value for dim in tensor.shape.dim])
    return None if 0 in sizes and not all(dim.HasField("dim_value") for dim in tensor.shape.dim) else sizes


def _fix_inputs(
    inputs: Sequence[onnx.ValueInfoProto], given: dict[str, Sequence[int]]
) -> tuple[dict[str, tuple[int, ...]], int]:
    """Concrete shapes of the graph inputs, and the batch in them: an open axis 0 is a batch of 1."""
    unknown = set(given) - {value.name for value in inputs}
    if unknown:
        raise CannotCount(f"shapes were given for {sorted(unknown)}, which are no inputs of the model")
    symbols: dict[str, int] = {}
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        if value.name in given:
            shape = given[value.name]
            if value.type.tensor_type.HasField("shape") and len(shape) != len(dims):
                raise CannotCount(f"input {value.name!r} has {len(dims)} axes, the given shape {list(shape)} does not")
            symbols.update({dim.dim_param: extent for dim, extent in zip(dims, shape, strict=False) if dim.dim_param})
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        if value.name not in given and len(dims) and dims[0].dim_param:
            symbols.setdefault(dims[0].dim_param, 1)
    fixed = {value.name: _fix_input(value, given.get(value.name), symbols) for value in inputs}
    batches = {shape[0] for shape in fixed.values() if len(shape) > 1}
    return fixed, batches.pop() if len(batches) == 1 else 1


def _fix_input(value: onnx.ValueInfoProto, given: Sequence[int] | None, symbols: Mapping[str, int]) -> tuple[int, ...]:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or (given is None and not tensor.HasField("shape")):
        raise CannotCount(f"input {value.name!r} has no shape: give one in input_shapes")
    if given is not None:
        if any(extent < 1 for extent in given):
            raise CannotCount(f"the shape {list(given)} given for input {value.name!r} has an axis below 1")
        return tuple(given)
    shape: list[int] = []
    for axis, dim in enumerate(tensor.shape.dim):
        default = 1 if axis == 0 else 0
        extent = dim.dim_value if dim.HasField("dim_value") else symbols.get(dim.dim_param, default)
        if extent < 1:
            name = f" ({dim.dim_param!r})" if dim.dim_param else ""
            raise CannotCount(f"axis {axis}{name} of input {value.name!r} has no size: give one in input_shapes")
        shape.append(extent)
    return tuple(shape)


def _skeleton(model: onnx.ModelProto, fixed: Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
    """The model with concrete inputs, no stale shapes, and no data in large initializers."""
    copy = onnx.ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    graph = copy.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _LARGEST_KEPT:
            graph.initializer.append(tensor)
        else:
            graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    for value in model.graph.input:
        if value.name in fixed:
            elem_type = value.type.tensor_type.elem_type
            graph.input.append(onnx.helper.make_tensor_value_info(value.name, elem_type, fixed[value.name]))
    for value in model.graph.output:
        graph.output.add(name=value.name).type.tensor_type.elem_type = value.type.tensor_type.elem_type
    foreign = {name for node in model.graph.node if node.domain not in STANDARD_DOMAINS for name in node.output}
    for value in model.graph.value_info:
        if value.name in foreign and _known(value.type.tensor_type) is not None:
            graph.value_info.append(value)
    return copy
