"""Reading model files whole, external data included."""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from reptran_compiler.errors import BadInput
from reptran_compiler.model.hashing import Stretch, known, sha256_of
from reptran_compiler.model.protos import stated_bytes
from reptran_compiler.model.referred import byte_count, can_refer, refer
from reptran_compiler.model.wire import skeleton

#: What names a standard stream instead of a file.
STREAM = "-"
#: Models with more bytes of tensors than this are written with an external file: protobuf ends at 2 GiB.
EMBEDDED_LIMIT = 1_900_000_000
#: No file is larger: protobuf ends there, and large weights lie in other files.
_LARGEST_FILE = (1 << 31) - 1


class ModelFileError(BadInput):
    """A model file that cannot be read or written. The message names the file and says why."""


@dataclass(frozen=True)
class Source:
    """A model that was read.

    Attributes:
        model: the model; every tensor's data is embedded, or referred to where that was asked for.
        name: how the user named the file; "-" for standard input.
        hashed: gives `digest`, which may still be computed.
        folder: the file's folder; None for standard input and for models that never were a file.
        files: every file that was read, resolved.
        payload: the file's bytes where all data is embedded in them, else None.
        stamps: what tells whether the files that tensors are referred to in are as they were.
    """

    model: ModelProto
    name: str
    hashed: Future[str]
    folder: Path | None = None
    files: tuple[Path, ...] = ()
    payload: bytes | None = None
    stamps: tuple[tuple[Path, tuple[int, ...]], ...] = ()

    @property
    def digest(self) -> str:
        """The sha256 of the file's bytes, followed by those of its external tensors in the file's order, as hexadecimal
        digits. For a file with embedded data, what `sha256sum` prints.

        Raises:
            ModelFileError: the data is gone.
        """
        try:
            return self.hashed.result()
        except OSError as error:
            raise ModelFileError(f"cannot read {self.name}: {why(error)}") from None

    @cached_property
    def size(self) -> int:
        """How many bytes of raw data its tensors hold or refer to."""
        return tensor_bytes(self.model)

    def require_unchanged(self) -> None:
        """See that the files that tensors are read from as they are needed have not changed meanwhile.

        Raises:
            ModelFileError: one has.
        """
        for place, stamp in self.stamps:
            if not place.exists() or _stamp(place) != stamp:
                raise ModelFileError(f"{place} was changed while it was read; nothing was written, compile it again")


def _can_refer_into(path: Path) -> bool:
    """Whether tensors may refer to files in the folder of one: protobuf holds names in UTF-8 alone."""
    try:
        str(path.resolve()).encode()
    except UnicodeEncodeError:
        return False
    return True


def _stamp(place: Path) -> tuple[int, ...]:
    """What changes with a file's content: which file it is, its size, and when it was written, which a program may set
    back, and changed in any way, which none can."""
    status = place.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_model(path: str | os.PathLike[str], *, refer_above: int | None = None) -> Source:
    """Read a model from a file, or from standard input where `path` is "-".

    External data is read from beside the file and embedded.

    Args:
        path: the file.
        refer_above: how many bytes of tensors to hold in memory at most; of more, the larger tensors are left where
            they are and referred to (`model.referred`). None to embed all.

    Raises:
        ModelFileError: there is no such file, it is no ONNX model, or its external data is missing, too short
            or lies outside of the file's folder.
    """
    name = os.fspath(path)
    if name == STREAM:
        payload = sys.stdin.buffer.read()
        return _source(payload, "standard input", name, None, None)
    try:
        kind = os.stat(name)
        if stat.S_ISCHR(kind.st_mode) or stat.S_ISBLK(kind.st_mode):
            raise ModelFileError(f"cannot read {name}: it is a device")
        if kind.st_size > _LARGEST_FILE:
            raise ModelFileError(f"{name} is no ONNX model: none has more than {_LARGEST_FILE:,} bytes")
        if refer_above is not None and not _can_refer_into(Path(name)):
            refer_above = None
        if refer_above is not None and stat.S_ISREG(kind.st_mode) and kind.st_size > refer_above:
            source = _referring(name, Path(name).resolve(), refer_above)
            if source is not None:
                return source
        payload = Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise ModelFileError(f"cannot read {name}: {why(error)}") from None
    return _source(payload, name, name, Path(name), refer_above)


def from_proto(model: ModelProto, name: str = "model") -> Source:
    """A source from a model in memory; it is not copied.

    Raises:
        ModelFileError: it refers to external data that was not loaded.
    """
    for tensor in all_tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            raise ModelFileError(f"the external data of tensor {tensor.name!r} was not loaded")
    if tensor_bytes(model) <= EMBEDDED_LIMIT:
        return Source(model, name, sha256_of([model.SerializeToString(deterministic=True)]))
    digest = hashlib.sha256()
    for tensor in all_tensors(model):
        digest.update(tensor.name.encode())
        digest.update(tensor.raw_data)
    return Source(model, name, known(digest.hexdigest()))


def tensor_bytes(model: ModelProto) -> int:
    """How many bytes of raw data the tensors of a model hold or refer to."""
    return sum(byte_count(tensor) for tensor in all_tensors(model))


def all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor that a model stores: initializers and attributes, in subgraphs, functions and training, too."""
    training = (graph for step in model.training_info for graph in (step.initialization, step.algorithm))
    bodies = (node for function in model.functions for node in function.node)
    stack: list[GraphProto | NodeProto] = [model.graph, *bodies, *training][::-1]
    while stack:
        here = stack.pop()
        if isinstance(here, GraphProto):
            yield from here.initializer
            for sparse in here.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            stack += reversed(here.node)
            continue
        inner: list[GraphProto] = []
        for attribute in here.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            inner += [attribute.g] if attribute.HasField("g") else []
            inner += attribute.graphs
        stack += reversed(inner)


def _referring(name: str, place: Path, refer_above: int) -> Source | None:
    """A source whose larger tensors are referred to in the model's own file; None where it has no many such, or has
    to be read as a whole."""
    stamp = _stamp(place)
    with place.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        with memoryview(mapped) as data:
            found = skeleton(data)
            if found is None or sum(length for _, length in found.places.values()) <= refer_above:
                return None
            model = found.model
            tensors = {index: model.graph.initializer[index] for index in found.places}
            if not all(can_refer(tensors[index], length) for index, (_, length) in found.places.items()):
                return None
            if any(tensor.data_location == TensorProto.EXTERNAL for tensor in all_tensors(model)):
                return None
            size = len(data)
    for index, (offset, length) in found.places.items():
        refer(tensors[index], place, offset, length)
    if not model.ir_version or not model.HasField("graph"):
        return None
    hashed = sha256_of([Stretch(place, 0, size)])
    return Source(model, name, hashed, Path(name).parent, (place,), stamps=((place, stamp),))


def _source(payload: bytes, called: str, name: str, path: Path | None, refer_above: int | None) -> Source:
    if not payload:
        raise ModelFileError(f"{called} is empty")
    model = ModelProto()
    try:
        model.ParseFromString(payload)
    except DecodeError:
        raise ModelFileError(f"{called} is no ONNX model: it cannot be parsed (truncated?)") from None
    if not model.ir_version or not model.HasField("graph"):
        raise ModelFileError(f"{called} is no ONNX model: it has no graph or no IR version")
    files = [] if path is None else [path.resolve()]
    lying: list[tuple[TensorProto, Stretch]] = []
    for tensor in all_tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        if path is None:
            raise ModelFileError(
                f"{called}: tensor {tensor.name!r} has external data, which needs a file to lie beside"
            )
        lying.append((tensor, _lying(tensor, _external_place(tensor, path), called)))
    refers = refer_above is not None and sum(data.length for _, data in lying) > refer_above
    stamps = {data.place: _stamp(data.place) for _, data in lying} if refers else {}
    stored = {id(tensor) for tensor in model.graph.initializer}
    pieces: list[bytes | Stretch] = [payload]
    for tensor, data in lying:
        if refers and id(tensor) in stored and can_refer(tensor, data.length):
            refer(tensor, data.place, data.offset, data.length)
            pieces.append(data)
        else:
            _embed(tensor, data, called)
            pieces.append(tensor.raw_data)
        if data.place not in files:
            files.append(data.place)
    embedded = len(files) <= 1
    folder = None if path is None else path.parent
    return Source(
        model, name, sha256_of(pieces), folder, tuple(files), payload if embedded else None, tuple(stamps.items())
    )


def _external_place(tensor: TensorProto, path: Path) -> Path:
    """The file that a tensor's data lies in. It is in the model's folder, whatever links say."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    what = f"{path}: the external data of tensor {tensor.name!r}"
    if not location:
        raise ModelFileError(f"{what} has no location")
    relative = Path(location)
    if relative.is_absolute() or ".." in relative.parts or "\0" in location:
        raise ModelFileError(f"{what} is at {location!r}: only files beside the model are read")
    try:
        folder = path.parent.resolve()
        place = (folder / relative).resolve()
        if folder not in place.parents:
            raise ModelFileError(f"{what} is at {location!r}, a link to outside of the model's folder")
        if not place.exists():
            raise ModelFileError(f"{what} is missing: there is no file {place}")
        if not place.is_file():
            raise ModelFileError(f"{what} is at {location!r}, which is no regular file")
    except (OSError, RuntimeError) as error:
        raise ModelFileError(f"{what} is at {location!r}, which cannot be read: {why(error)}") from None
    return place


def _lying(tensor: TensorProto, place: Path, called: str) -> Stretch:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    what = f"{called}: the external data of tensor {tensor.name!r}"
    try:
        size = place.stat().st_size
        offset = int(entries.get("offset") or 0)
        asked = stated_bytes(tensor)
        length = int(entries["length"]) if entries.get("length") else asked
    except OSError as error:
        raise ModelFileError(f"{what} cannot be read: {why(error)}") from None
    except ValueError:
        raise ModelFileError(f"{what} has an offset or a length that is no number") from None
    if asked < 0:
        raise ModelFileError(f"{what} has an element type without a size, or a negative one: {list(tensor.dims)}")
    if offset < 0 or length < 0 or offset + length > size:
        raise ModelFileError(
            f"{what} is too short: {place.name} has {size:,} bytes, {length:,} from byte {offset:,} on are asked for"
        )
    if length != asked:
        raise ModelFileError(f"{what} has {length:,} bytes where its shape {list(tensor.dims)} asks for {asked:,}")
    return Stretch(place, offset, length)


def _embed(tensor: TensorProto, data: Stretch, called: str) -> None:
    try:
        with data.place.open("rb") as file:
            file.seek(data.offset)
            tensor.raw_data = file.read(data.length)
    except OSError as error:
        what = f"{called}: the external data of tensor {tensor.name!r}"
        raise ModelFileError(f"{what} cannot be read: {why(error)}") from None
    del tensor.external_data[:]
    tensor.ClearField("data_location")


def why(error: BaseException) -> str:
    """An error in a few words."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
