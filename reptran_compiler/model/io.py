"""Model files: reading them whole, external data included, and writing them at once or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped,unused-ignore]
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from reptran_compiler.errors import BadInput

#: What names a standard stream instead of a file.
STREAM = "-"
#: Models with more bytes of tensors than this are written with an external file: protobuf ends at 2 GiB.
EMBEDDED_LIMIT = 1_900_000_000

_EXTERNAL_TENSOR_BYTES = 1024
_ALIGNMENT = 4096


class ModelFileError(BadInput):
    """A model file that cannot be read or written. The message names the file and says why."""


@dataclass(frozen=True)
class Source:
    """A model that was read.

    Attributes:
        model: the model; every tensor's data is embedded.
        name: how the user named the file; "-" for standard input.
        digest: sha256 of the file's bytes, followed by those of its external tensors in the file's order, as
            hexadecimal digits. For a file with embedded data, what `sha256sum` prints.
        folder: the file's folder; None for standard input and for models that never were a file.
        files: every file that was read, resolved.
        payload: the file's bytes where all data is embedded in them, else None.
    """

    model: ModelProto
    name: str
    digest: str
    folder: Path | None = None
    files: tuple[Path, ...] = ()
    payload: bytes | None = None


def read_model(path: str | os.PathLike[str]) -> Source:
    """Read a model from a file, or from standard input where `path` is "-".

    External data is read from beside the file and embedded.

    Raises:
        ModelFileError: there is no such file, it is no ONNX model, or its external data is missing, too short
            or lies outside of the file's folder.
    """
    name = os.fspath(path)
    if name == STREAM:
        payload = sys.stdin.buffer.read()
        return _source(payload, "standard input", name, None)
    try:
        payload = Path(name).read_bytes()
    except OSError as error:
        raise ModelFileError(f"cannot read {name}: {_why(error)}") from None
    return _source(payload, name, name, Path(name))


def from_proto(model: ModelProto, name: str = "model") -> Source:
    """A source from a model in memory; it is not copied.

    Raises:
        ModelFileError: it refers to external data that was not loaded.
    """
    digest = hashlib.sha256()
    if tensor_bytes(model) <= EMBEDDED_LIMIT:
        digest.update(model.SerializeToString(deterministic=True))
    else:
        for tensor in all_tensors(model):
            digest.update(tensor.name.encode())
            digest.update(tensor.raw_data)
    for tensor in all_tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            raise ModelFileError(f"the external data of tensor {tensor.name!r} was not loaded")
    return Source(model, name, digest.hexdigest())


def write_model(model: ModelProto, path: str | os.PathLike[str], *, external: bool = False) -> None:
    """Write a model to a file, or to standard output where `path` is "-".

    The file appears whole or not at all: it is written beside its place and renamed. With `external`, and
    where the tensors exceed what protobuf holds, they go to a file named as this one with ".data" behind it.

    Raises:
        ModelFileError: it cannot be written. What was there before is still there.
    """
    name = os.fspath(path)
    external = external or tensor_bytes(model) > EMBEDDED_LIMIT
    if external and (name == STREAM or _is_special(Path(name))):
        raise ModelFileError(f"cannot write to {_called(name)}: the weights need a file of their own")
    if not external:
        write_bytes(_serialised(model), name)
        return
    place = Path(name).resolve()
    weights = external_file(place)
    half, half_weights = _beside(place), _beside(weights)
    try:
        with _created(half_weights) as file:
            light = _without_data(model, weights.name, file)
            _settle(file)
        with _created(half) as file:
            file.write(_serialised(light))
            _settle(file)
        os.replace(half_weights, weights)
        os.replace(half, place)
    except OSError as error:
        raise ModelFileError(f"cannot write {name}: {_why(error)}") from None
    finally:
        for left in (half, half_weights):
            with suppress(OSError):
                left.unlink()


def write_bytes(payload: bytes, path: str | os.PathLike[str]) -> None:
    """Write bytes to a file, whole or not at all, or to standard output where `path` is "-".

    Raises:
        ModelFileError: it cannot be written.
    """
    name = os.fspath(path)
    if name == STREAM:
        try:
            sys.stdout.buffer.write(payload)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise ModelFileError(f"cannot write to standard output: {_why(error)}") from None
        return
    place = Path(name).resolve()
    try:
        if _is_special(place):
            place.write_bytes(payload)
            return
        half = _beside(place)
        try:
            with _created(half) as file:
                file.write(payload)
                _settle(file)
            os.replace(half, place)
        finally:
            with suppress(OSError):
                half.unlink()
    except OSError as error:
        raise ModelFileError(f"cannot write {name}: {_why(error)}") from None


def check_writable(path: str | os.PathLike[str]) -> None:
    """See that a file can be written, before work is spent on its content. Nothing is left behind.

    Raises:
        ModelFileError: it cannot.
    """
    name = os.fspath(path)
    if name == STREAM:
        return
    place = Path(name).resolve()
    if place.is_dir():
        raise ModelFileError(f"cannot write {name}: it is a folder")
    if _is_special(place):
        return
    half = _beside(place)
    try:
        _created(half).close()
        half.unlink()
    except OSError as error:
        raise ModelFileError(f"cannot write {name}: {_why(error)}") from None


def external_file(path: str | os.PathLike[str]) -> Path:
    """Where the weights of a model go that is written to `path` with external data."""
    place = Path(path)
    return place.with_name(place.name + ".data")


def tensor_bytes(model: ModelProto) -> int:
    """How many bytes of raw data the tensors of a model hold."""
    return sum(len(tensor.raw_data) for tensor in all_tensors(model))


def all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor that a model stores: initializers and attributes, in subgraphs and functions too."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("sparse_tensor"):
            yield attribute.sparse_tensor.values
            yield attribute.sparse_tensor.indices
        if attribute.HasField("g"):
            yield from _graph_tensors(attribute.g)
        for graph in attribute.graphs:
            yield from _graph_tensors(graph)


# -- reading -------------------------------------------------------------------------------------------------


def _source(payload: bytes, called: str, name: str, path: Path | None) -> Source:
    if not payload:
        raise ModelFileError(f"{called} is empty")
    model = ModelProto()
    try:
        model.ParseFromString(payload)
    except DecodeError:
        raise ModelFileError(f"{called} is no ONNX model: it cannot be parsed (truncated?)") from None
    if not model.ir_version or not model.HasField("graph"):
        raise ModelFileError(f"{called} is no ONNX model: it has no graph or no IR version")
    digest = hashlib.sha256(payload)
    files = [] if path is None else [path.resolve()]
    for tensor in all_tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        if path is None:
            raise ModelFileError(
                f"{called}: tensor {tensor.name!r} has external data, which needs a file to lie beside"
            )
        place = _external_place(tensor, path)
        _embed(tensor, place, called)
        digest.update(tensor.raw_data)
        if place not in files:
            files.append(place)
    embedded = len(files) <= 1
    folder = None if path is None else path.parent
    return Source(model, name, digest.hexdigest(), folder, tuple(files), payload if embedded else None)


def _external_place(tensor: TensorProto, path: Path) -> Path:
    """The file that a tensor's data lies in. It is in the model's folder, whatever links say."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    what = f"{path}: the external data of tensor {tensor.name!r}"
    if not location:
        raise ModelFileError(f"{what} has no location")
    relative = Path(location)
    if relative.is_absolute() or ".." in relative.parts or "\0" in location:
        raise ModelFileError(f"{what} is at {location!r}: only files beside the model are read")
    folder = path.parent.resolve()
    place = (folder / relative).resolve()
    if folder not in place.parents:
        raise ModelFileError(f"{what} is at {location!r}, a link to outside of the model's folder")
    if not place.exists():
        raise ModelFileError(f"{what} is missing: there is no file {place}")
    if not place.is_file():
        raise ModelFileError(f"{what} is at {location!r}, which is no regular file")
    return place


def _embed(tensor: TensorProto, place: Path, called: str) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    what = f"{called}: the external data of tensor {tensor.name!r}"
    try:
        size = place.stat().st_size
        offset = int(entries.get("offset") or 0)
        length = int(entries["length"]) if entries.get("length") else size - offset
    except ValueError:
        raise ModelFileError(f"{what} has an offset or a length that is no number") from None
    if offset < 0 or length < 0 or offset + length > size:
        raise ModelFileError(
            f"{what} is too short: {place.name} has {size:,} bytes, {length:,} from byte {offset:,} on are asked for"
        )
    try:
        with place.open("rb") as file:
            file.seek(offset)
            tensor.raw_data = file.read(length)
    except OSError as error:
        raise ModelFileError(f"{what} cannot be read: {_why(error)}") from None
    del tensor.external_data[:]
    tensor.ClearField("data_location")


# -- writing -------------------------------------------------------------------------------------------------


def _without_data(model: ModelProto, location: str, file: BinaryIO) -> ModelProto:
    """The model with the data of its larger initializers in `file`; the given one stays as it is."""
    light = ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _set(light, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _set(light.graph, field.name, value)
    position = 0
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < _EXTERNAL_TENSOR_BYTES:
            light.graph.initializer.append(tensor)
            continue
        padding = -position % _ALIGNMENT
        file.write(bytes(padding))
        position += padding
        length = file.write(tensor.raw_data)
        moved = light.graph.initializer.add()
        for field, value in tensor.ListFields():
            if field.name not in ("raw_data", "external_data", "data_location"):
                _set(moved, field.name, value)
        moved.data_location = TensorProto.EXTERNAL
        for key, entry in (("location", location), ("offset", position), ("length", length)):
            moved.external_data.add(key=key, value=str(entry))
        position += length
    return light


def _set(message: object, name: str, value: object) -> None:
    target = getattr(message, name)
    if isinstance(value, (bool, int, float, str, bytes)):
        setattr(message, name, value)
    elif hasattr(target, "extend"):
        target.extend(value)
    else:
        target.CopyFrom(value)


def _serialised(model: ModelProto) -> bytes:
    try:
        payload: bytes = model.SerializeToString()
        return payload
    except (EncodeError, ValueError) as error:
        raise ModelFileError(f"the model cannot be serialised: {_why(error)}") from None


def _beside(place: Path) -> Path:
    return place.with_name(f".{place.name}.{os.getpid()}.part")


def _created(place: Path) -> BinaryIO:
    return open(place, "xb")  # noqa: SIM115 - the callers close it


def _settle(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _is_special(place: Path) -> bool:
    """Whether something is there that is neither file nor folder: a pipe, a terminal, the null device."""
    try:
        mode = place.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _called(name: str) -> str:
    return "standard output" if name == STREAM else name


def _why(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
