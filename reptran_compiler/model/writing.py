"""Writing files: each appears whole or not at all, and those that belong together appear together."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from google.protobuf.message import EncodeError  # type: ignore[import-untyped,unused-ignore]
from onnx import ModelProto, TensorProto

from reptran_compiler.model.io import EMBEDDED_LIMIT, STREAM, ModelFileError, tensor_bytes, why

_EXTERNAL_TENSOR_BYTES = 1024
_ALIGNMENT = 4096


class Writing:
    """Files that appear together: `with Writing() as files: files.add(...); files.commit()`.

    What is added is written beside its place. `commit` moves it there; without, nothing is left of it. Standard
    output and devices are written to by `commit`, first of all, in the order that they were added in.

    Methods raise `ModelFileError` where something cannot be written.
    """

    def __init__(self) -> None:
        self._halves: list[tuple[Path, Path]] = []
        self._direct: list[tuple[str, bytes]] = []

    def __enter__(self) -> Writing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for half, _ in self._halves:
            with suppress(OSError):
                half.unlink()

    def add(self, payload: bytes, path: str | os.PathLike[str]) -> None:
        """Add bytes for a file, or for standard output where `path` is "-"."""
        name = os.fspath(path)
        place = Path(name).resolve()
        if name == STREAM or _is_special(place):
            self._direct.append((name, payload))
            return
        try:
            with self._begun(place) as file:
                file.write(payload)
                _settle(file)
        except OSError as error:
            raise ModelFileError(f"cannot write {name}: {why(error)}") from None

    def add_model(self, model: ModelProto, path: str | os.PathLike[str], *, external: bool = False) -> None:
        """Add a model for a file, or for standard output where `path` is "-".

        With `external`, and where the tensors exceed what protobuf holds, they go to a file named as this one
        with ".data" behind it.
        """
        name = os.fspath(path)
        if not external and tensor_bytes(model) <= EMBEDDED_LIMIT:
            self.add(_serialised(model), name)
            return
        if name == STREAM or _is_special(Path(name)):
            raise ModelFileError(f"cannot write to {_called(name)}: the weights need a file of their own")
        weights = external_file(Path(name).resolve())
        try:
            with self._begun(weights) as file:
                light = _without_data(model, weights.name, file)
                _settle(file)
        except OSError as error:
            raise ModelFileError(f"cannot write {weights}: {why(error)}") from None
        self.add(_serialised(light), name)

    def commit(self) -> None:
        """Let the files appear."""
        for name, payload in self._direct:
            try:
                if name == STREAM:
                    sys.stdout.buffer.write(payload)
                    sys.stdout.buffer.flush()
                else:
                    Path(name).write_bytes(payload)
            except OSError as error:
                raise ModelFileError(f"cannot write {_called(name)}: {why(error)}") from None
        for half, place in self._halves:
            try:
                os.replace(half, place)
            except OSError as error:
                raise ModelFileError(f"cannot write {place}: {why(error)}") from None

    def _begun(self, place: Path) -> BinaryIO:
        half = _beside(place)
        file = _created(half)
        self._halves.append((half, place))
        return file


def write_model(model: ModelProto, path: str | os.PathLike[str], *, external: bool = False) -> None:
    """Write a model to a file, whole or not at all, or to standard output where `path` is "-".

    With `external`, and where the tensors exceed what protobuf holds, they go to a file named as this one with
    ".data" behind it.

    Raises:
        ModelFileError: it cannot be written. What was there before is still there.
    """
    with Writing() as files:
        files.add_model(model, path, external=external)
        files.commit()


def write_bytes(payload: bytes, path: str | os.PathLike[str]) -> None:
    """Write bytes to a file, whole or not at all, or to standard output where `path` is "-".

    Raises:
        ModelFileError: it cannot be written. What was there before is still there.
    """
    with Writing() as files:
        files.add(payload, path)
        files.commit()


def check_writable(path: str | os.PathLike[str]) -> None:
    """See that a file can be written, before work is spent on its content. Nothing is left behind.

    Raises:
        ModelFileError: it cannot.
    """
    name = os.fspath(path)
    if name == STREAM:
        return
    place = Path(name).resolve()
    try:
        if stat.S_ISDIR(_mode(place)):
            raise ModelFileError(f"cannot write {name}: it is a folder")
        if not _is_special(place):
            half = _beside(place)
            _created(half).close()
            half.unlink()
    except OSError as error:
        raise ModelFileError(f"cannot write {name}: {why(error)}") from None


def external_file(path: str | os.PathLike[str]) -> Path:
    """Where the weights of a model go that is written to `path` with external data."""
    place = Path(path)
    return place.with_name(place.name + ".data")


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
        raise ModelFileError(f"the model cannot be serialised: {why(error)}") from None


def _beside(place: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(place.name)).hexdigest()[:12]
    return place.with_name(f".{digest}.{os.getpid()}.part")


def _created(place: Path) -> BinaryIO:
    return open(place, "xb")  # noqa: SIM115 - the callers close it


def _settle(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _is_special(place: Path) -> bool:
    """Whether something is there that is neither file nor folder: a pipe, a terminal, the null device."""
    try:
        mode = _mode(place)
    except OSError:
        return False
    return bool(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _mode(place: Path) -> int:
    """What kind of file is there; 0 where none is. Raises `OSError` where none can be."""
    try:
        return place.stat().st_mode
    except FileNotFoundError:
        return 0


def _called(name: str) -> str:
    return "standard output" if name == STREAM else name
