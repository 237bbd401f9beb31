"""Large weights by reference: tensors of models in memory whose data stays in a file, and is mapped where it is read.

A referred tensor is one with external data at an absolute path, which no file that is read may have. It may be
another arrangement of that data, or the signs of it, which are computed where they are read. Copies of models that hold
such tensors share their data. This is for the compiler's own use: what leaves it is embedded, or written.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from reptran_compiler.errors import BadInput
from reptran_compiler.model.protos import copy_fields, element_dtype, stated_bytes

Array = NDArray[Any]

#: Models with more bytes of tensors than this are held by reference.
LARGE_MODEL = 16_000_000
#: Of models with more bytes of referred tensors than this, no values are held in memory beside.
MOST_HELD = 500_000_000
#: The least number of bytes that a tensor is referred to for.
LARGE_TENSOR = 1 << 16

_TYPES = "FLOAT DOUBLE FLOAT16 INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 BOOL".split()
_PLAIN = frozenset(int(TensorProto.DataType.Value(name)) for name in _TYPES)
_DESCRIPTORS = Path("/proc/self/fd")
#: How many bytes of a tensor are read or computed at once, about.
_PIECE = 1 << 20
#: A multiple of so many bytes is where arrays begin that are given to onnxruntime.
_ALIGNMENT = 64
#: What is done with the data that a tensor refers to, as entries of its external data: [reshape, order]; a sign.
_MOVE, _SIGNS = "move", "signs"


class Scratch:
    """A file for tensors, which goes when nothing refers to this object any more, or the process ends. Equal arrays are
    stored once, and refer to the same bytes.

    Args:
        folder: where it is; the system's folder for temporary files when absent.
        derives: whether arrangements and signs of referred tensors are computed wherever they are read, rather than
            stored: for what is read once.

    Raises:
        BadInput: it cannot be made.
    """

    def __init__(self, folder: Path | None = None, *, derives: bool = False) -> None:
        self.derives = derives
        # A file without a name is reached through the process' descriptors, where the system lists them.
        nameless = _DESCRIPTORS.is_dir()
        make = tempfile.TemporaryFile if nameless else tempfile.NamedTemporaryFile
        try:
            self._file: Any = make(prefix="reptran-", dir=folder)
        except OSError as error:
            raise _full(error) from None
        self._path = _DESCRIPTORS / str(self._file.fileno()) if nameless else Path(self._file.name)
        self._folder = folder or Path(tempfile.gettempdir())
        self._offsets: dict[bytes, int] = {}

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None:
            file.close()

    @property
    def room(self) -> int:
        """How many bytes the disk has left for it."""
        return shutil.disk_usage(self._folder).free

    def keeps(self, values: Array) -> bool:
        """Whether an array is one to be stored rather than embedded."""
        return values.nbytes >= LARGE_TENSOR and _element_type(values) in _PLAIN

    def store(self, values: Array, name: str) -> TensorProto:
        """Store an array that is to be kept; a tensor of that name that refers to it.

        Raises:
            BadInput: the disk is full.
        """
        tensor = TensorProto(name=name, data_type=_element_type(values), dims=values.shape)
        data = np.ascontiguousarray(values).data.cast("B")
        digest = hashlib.sha256(data).digest()
        if digest not in self._offsets:
            self._offsets[digest] = self._added(data)
        refer(tensor, self._path, self._offsets[digest], data.nbytes)
        return tensor

    def hold(self, model: ModelProto) -> ModelProto:
        """A copy of a model whose larger initializers are stored here; the given one stays as it is. It is given back
        itself where protobuf cannot copy it.

        Raises:
            BadInput: the disk is full.
        """
        try:
            return self._held(model)
        except (DecodeError, UnicodeDecodeError):  # nested too deeply, or with texts in another code
            return model

    def _held(self, model: ModelProto) -> ModelProto:
        light = ModelProto()
        copy_fields(model, light, without=("graph",))
        copy_fields(model.graph, light.graph, without=("initializer",))
        for tensor in model.graph.initializer:
            if not can_refer(tensor, len(tensor.raw_data)):
                light.graph.initializer.append(tensor)
                continue
            moved = light.graph.initializer.add()
            copy_fields(tensor, moved, without=("raw_data",))
            data = memoryview(tensor.raw_data)
            refer(moved, self._path, self._added(data), data.nbytes)
        return light

    def _added(self, data: memoryview) -> int:
        """Where bytes begin that are added to the file."""
        try:
            offset: int = self._file.seek(0, os.SEEK_END)
            offset += self._file.write(bytes(-offset % mmap.ALLOCATIONGRANULARITY))
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise _full(error) from None
        return offset


@dataclass(frozen=True)
class Move:
    """Another arrangement of an array: `values.reshape(reshape).transpose(order).reshape(shape)`."""

    reshape: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, ...]

    def apply(self, values: Array) -> Array:
        """An array in this arrangement: a view of the given one where that can be."""
        moved: Array = values.reshape(self.reshape).transpose(self.order).reshape(self.shape)
        return moved


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
    plain = tensor.data_type in _PLAIN and not tensor.HasField("segment")
    return plain and length >= LARGE_TENSOR and length == stated_bytes(tensor)


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
    if tensor.data_location != TensorProto.EXTERNAL:
        kind, shape = tensor.data_type, tuple(tensor.dims)
        raw = tensor.raw_data if kind in _PLAIN and sys.byteorder == "little" else b""
        dtype = element_dtype(kind) if raw else None
        if dtype is not None and len(raw) == math.prod(shape) * dtype.itemsize and min(shape, default=0) >= 0:
            return np.frombuffer(raw, dtype).reshape(shape)  # what `to_array` does, in a tenth of its time
        return numpy_helper.to_array(tensor)
    if not is_referred(tensor):
        raise ValueError(f"the external data of tensor {tensor.name!r} was not loaded")
    values = _arranged(tensor)
    if is_signs(tensor):
        values = np.sign(values)
    values = np.require(values, requirements=["C"]).reshape(tuple(tensor.dims))
    if values.ctypes.data % _ALIGNMENT:
        values = aligned(values)
    values.flags.writeable = False
    read_only: Array = values.view()  # which cannot be made writeable
    return read_only


def tensor_of(values: Array, name: str) -> TensorProto:
    """A stored tensor with some values: what `from_array` makes of them, in a third of its time."""
    kind = _kinds().get(values.dtype)
    if kind is None:
        return numpy_helper.from_array(np.asarray(values, order="C"), name)
    return TensorProto(name=name, data_type=kind, dims=values.shape, raw_data=values.tobytes())


@cache
def _kinds() -> Mapping[np.dtype[Any], int]:
    """The element types whose raw data is what memory holds, by their numpy dtype."""
    return {element_dtype(kind): kind for kind in _PLAIN} if sys.byteorder == "little" else {}


def aligned(values: Array) -> Array:
    """A copy of an array that begins where onnxruntime's own tensors may: sums add up the same terms first."""
    room = np.empty(values.nbytes + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    made: Array = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    made[...] = values
    return made


def pieces_of(tensor: TensorProto) -> Iterator[memoryview]:
    """The raw data of a tensor, in pieces; of a referred one they are read, or computed, one at a time.

    Raises:
        OSError: the file that it refers to is gone.
    """
    if not is_referred(tensor):
        yield memoryview(tensor.raw_data)
        return
    for block in _blocks_of(tensor):
        yield np.require(block, requirements=["C"]).reshape(-1).view(np.uint8).data


def row_reader(tensor: TensorProto) -> Callable[[slice], Array]:
    """What gives some entries along the first axis of a referred tensor, not to be written to.

    Raises:
        OSError: the file that it refers to is gone.
    """
    if _entry(tensor, _MOVE):
        return array_of(tensor).__getitem__
    mapped, signs = _arranged(tensor), is_signs(tensor)

    def rows(block: slice) -> Array:
        values = np.require(mapped[block], requirements=["A"])
        return np.sign(values) if signs else values

    return rows


def blocks_of(tensor: TensorProto) -> Iterator[Array]:
    """The values of a referred tensor in blocks, which are the tensor one behind the other.

    Raises:
        OSError: the file that it refers to is gone.
    """
    return (np.require(block, requirements=["A"]) for block in _blocks_of(tensor))


def _blocks_of(tensor: TensorProto) -> Iterator[Array]:
    """As `blocks_of`, as they lie in the file."""
    signs = is_signs(tensor)
    for block in _blocks(_arranged(tensor)):
        yield np.sign(block) if signs else block


def zeros_of(tensor: TensorProto) -> int:
    """How many values of a referred tensor are 0. Its signs are 0 where it is."""
    arranged = (np.require(block, requirements=["A"]) for block in _blocks(_arranged(tensor)))
    return sum(int(np.count_nonzero(block == 0)) for block in arranged)


def is_signs(tensor: TensorProto) -> bool:
    """Whether a tensor refers to signs of data, so that its values are known to be 1, -1 and 0."""
    return bool(_entry(tensor, _SIGNS))


def moved(tensor: TensorProto, name: str, move: Move) -> TensorProto | None:
    """A tensor that refers to the data of another one in another arrangement; None where that has one already."""
    if not is_referred(tensor) or _entry(tensor, _MOVE):
        return None
    made = _again(tensor, name, move.shape)
    made.external_data.add(key=_MOVE, value=json.dumps([move.reshape, move.order]))
    return made


def signs_of(tensor: TensorProto, name: str) -> TensorProto | None:
    """A tensor that refers to the signs of another one's data, each 1, -1 or 0; None where nothing is referred to."""
    if not is_referred(tensor):
        return None
    made = _again(tensor, name, tensor.dims)
    if not is_signs(tensor):
        made.external_data.add(key=_SIGNS, value="1")
    return made


def are_signs_of(signs: TensorProto, tensor: TensorProto) -> bool:
    """Whether a tensor is known to be the signs of another one, without a look at the data."""
    made = signs_of(tensor, signs.name)
    return made is not None and made == signs


def is_moved(moved_one: TensorProto, tensor: TensorProto, move: Move) -> bool:
    """Whether a tensor is known to be another one in another arrangement, without a look at the data."""
    made = moved(tensor, moved_one.name, move)
    return made is not None and made == moved_one


def _again(tensor: TensorProto, name: str, dims: Sequence[int]) -> TensorProto:
    made = TensorProto(name=name, data_type=tensor.data_type, dims=dims, data_location=TensorProto.EXTERNAL)
    made.external_data.extend(tensor.external_data)
    return made


def _arranged(tensor: TensorProto) -> Array:
    """The data that a tensor refers to, mapped, in its arrangement, which need not be contiguous or aligned."""
    dtype, dims = element_dtype(tensor.data_type), tuple(tensor.dims)
    move = _entry(tensor, _MOVE)
    shape, order = json.loads(move) if move else (dims, range(len(dims)))
    mapped = np.memmap(_entry(tensor, "location"), dtype, "r", int(_entry(tensor, "offset")), tuple(shape))
    arranged: Array = mapped.view(np.ndarray).transpose(order)
    return arranged


def _blocks(values: Array) -> Iterator[Array]:
    """Parts of an array, of some `_PIECE` bytes, which are the array one behind the other."""
    axis, rest = values.ndim, values.itemsize
    while axis and rest * values.shape[axis - 1] <= _PIECE:
        axis -= 1
        rest *= values.shape[axis]
    if not axis:
        yield values
        return
    step = max(1, _PIECE // rest)
    for place in np.ndindex(values.shape[: axis - 1]):
        for start in range(0, values.shape[axis - 1], step):
            yield values[place + (slice(start, start + step),)]  # noqa: RUF005 - for Python 3.10


def referred(model: ModelProto) -> Iterator[TensorProto]:
    """The initializers of a model whose data is referred to."""
    return (tensor for tensor in model.graph.initializer if is_referred(tensor))


def is_vast(model: ModelProto) -> bool:
    """Whether what a model refers to is too much to be held in memory, or to be computed again in another type."""
    return sum(map(byte_count, referred(model))) > MOST_HELD


def embedded(model: ModelProto) -> ModelProto:
    """A model with all of its data in it: itself, or a copy where some is referred to."""
    if not any(referred(model)):
        return model
    whole = ModelProto()
    whole.CopyFrom(model)
    for tensor in list(referred(whole)):
        data = b"".join(pieces_of(tensor))
        del tensor.external_data[:]
        tensor.ClearField("data_location")
        tensor.raw_data = data
    return whole


def as_inputs(model: ModelProto, *, large: bool = False) -> ModelProto:
    """A model in which referred initializers are graph inputs: itself, or a copy where there are any.

    Args:
        model: the model.
        large: whether the large ones that are not referred to become inputs as well.
    """
    names = {tensor.name: tensor for tensor in referred(model)}
    if large:
        names |= {each.name: each for each in model.graph.initializer if can_refer(each, len(each.raw_data))}
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
