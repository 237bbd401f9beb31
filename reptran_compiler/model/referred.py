"""Large weights by reference: tensors of models in memory whose data stays in a file, and is mapped where it is read.

A referred tensor is one with external data at an absolute path, which no file that is read may have. Copies of models
that hold such tensors share their data. This is for the compiler's own use: what leaves it is embedded, or written.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from reptran_compiler.errors import BadInput
from reptran_compiler.model.protos import copy_fields, element_dtype, stated_bytes

Array = NDArray[Any]

#: Models with more bytes of tensors than this are held by reference.
LARGE_MODEL = 500_000_000
#: The least number of bytes that a tensor is referred to for.
LARGE_TENSOR = 1 << 16

_TYPES = "FLOAT DOUBLE FLOAT16 INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 BOOL".split()
_PLAIN = frozenset(int(TensorProto.DataType.Value(name)) for name in _TYPES)
_DESCRIPTORS = Path("/proc/self/fd")


class Scratch:
    """A file for tensors, which goes when nothing refers to this object any more, or the process ends.

    Args:
        folder: where it is; the system's folder for temporary files when absent.

    Raises:
        BadInput: it cannot be made.
    """

    def __init__(self, folder: Path | None = None) -> None:
        # A file without a name is reached through the process' descriptors, where the system lists them.
        nameless = _DESCRIPTORS.is_dir()
        make = tempfile.TemporaryFile if nameless else tempfile.NamedTemporaryFile
        try:
            self._file: Any = make(prefix="reptran-", dir=folder)
        except OSError as error:
            raise _full(error) from None
        self._path = _DESCRIPTORS / str(self._file.fileno()) if nameless else Path(self._file.name)

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None:
            file.close()

    def keeps(self, values: Array) -> bool:
        """Whether an array is one to be stored rather than embedded."""
        return values.nbytes >= LARGE_TENSOR and _element_type(values) in _PLAIN

    def store(self, values: Array, name: str) -> TensorProto:
        """Store an array that is to be kept; a tensor of that name that refers to it.

        Raises:
            BadInput: the disk is full.
        """
        tensor = TensorProto(name=name, data_type=_element_type(values), dims=values.shape)
        return self._stored(np.ascontiguousarray(values).data.cast("B"), tensor)

    def hold(self, model: ModelProto) -> ModelProto:
        """A copy of a model whose larger initializers are stored here; the given one stays as it is.

        Raises:
            BadInput: the disk is full.
        """
        light = ModelProto()
        copy_fields(model, light, without=("graph",))
        copy_fields(model.graph, light.graph, without=("initializer",))
        for tensor in model.graph.initializer:
            if not can_refer(tensor, len(tensor.raw_data)):
                light.graph.initializer.append(tensor)
                continue
            moved = TensorProto()
            copy_fields(tensor, moved, without=("raw_data",))
            light.graph.initializer.append(self._stored(memoryview(tensor.raw_data), moved))
        return light

    def _stored(self, data: memoryview, tensor: TensorProto) -> TensorProto:
        try:
            offset = self._file.seek(0, os.SEEK_END)
            offset += self._file.write(bytes(-offset % mmap.ALLOCATIONGRANULARITY))
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise _full(error) from None
        refer(tensor, self._path, offset, data.nbytes)
        return tensor


def refer(tensor: TensorProto, path: Path, offset: int, length: int) -> None:
    """Let a tensor refer to bytes of a file.

    Args:
        tensor: the tensor; it has no data.
        path: the file, absolute.
        offset, length: which bytes of it.
    """
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", path), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def can_refer(tensor: TensorProto, length: int) -> bool:
    """Whether a tensor with so many bytes of data is one to refer to: a large one, which they fit."""
    return length >= LARGE_TENSOR and tensor.data_type in _PLAIN and length == stated_bytes(tensor)


def is_referred(tensor: TensorProto) -> bool:
    """Whether a tensor's data is referred to."""
    return tensor.data_location == TensorProto.EXTERNAL and os.path.isabs(_entry(tensor, "location"))


def byte_count(tensor: TensorProto) -> int:
    """The number of bytes of raw data that a tensor holds or refers to."""
    return int(_entry(tensor, "length")) if is_referred(tensor) else len(tensor.raw_data)


def array_of(tensor: TensorProto) -> Array:
    """The values of a tensor, read-only; those that it refers to are read as they are used.

    Raises:
        ValueError: its data does not fit its shape, or was not loaded.
        OSError: the file that it refers to is gone.
    """
    if not is_referred(tensor):
        if tensor.data_location == TensorProto.EXTERNAL:
            raise ValueError(f"the external data of tensor {tensor.name!r} was not loaded")
        raw = tensor.raw_data if tensor.data_type in _PLAIN and sys.byteorder == "little" else b""
        if raw and len(raw) == stated_bytes(tensor):  # what `to_array` does, in a tenth of its time
            return np.frombuffer(raw, element_dtype(tensor.data_type)).reshape(tuple(tensor.dims))
        return numpy_helper.to_array(tensor)
    dtype = element_dtype(tensor.data_type)
    offset = int(_entry(tensor, "offset"))
    values = np.memmap(_entry(tensor, "location"), dtype, "r", offset, tuple(tensor.dims)).view(np.ndarray)
    return values if values.flags.aligned else values.copy()


def referred(model: ModelProto) -> Iterator[TensorProto]:
    """The initializers of a model whose data is referred to."""
    return (tensor for tensor in model.graph.initializer if is_referred(tensor))


def embedded(model: ModelProto) -> ModelProto:
    """A model with all of its data in it: itself, or a copy where some is referred to."""
    if not any(referred(model)):
        return model
    whole = ModelProto()
    whole.CopyFrom(model)
    for tensor in list(referred(whole)):
        data = array_of(tensor).tobytes()
        del tensor.external_data[:]
        tensor.ClearField("data_location")
        tensor.raw_data = data
    return whole


def as_inputs(model: ModelProto) -> ModelProto:
    """A model in which referred initializers are graph inputs: itself, or a copy where there are any."""
    names = {tensor.name: tensor for tensor in referred(model)}
    if not names:
        return model
    light = ModelProto()
    copy_fields(model, light, without=("graph",))
    copy_fields(model.graph, light.graph, without=("initializer",))
    light.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name not in names)
    known = {value.name for value in light.graph.input}
    for name, tensor in names.items():
        if name not in known:
            value = onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
            light.graph.input.append(value)
    return light


def _full(error: OSError) -> BadInput:
    return BadInput(f"cannot keep large tensors in a file: {error.strerror or error} (make room, or set TMPDIR)")


def _element_type(values: Array) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(values.dtype))


def _entry(tensor: TensorProto, key: str) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == key), "")
