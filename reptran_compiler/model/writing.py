"""Writing files: each appears whole or not at all, and those that belong together appear together."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Collection, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from google.protobuf.message import EncodeError  # type: ignore[import-untyped,unused-ignore]
from onnx import ModelProto

from reptran_compiler.model.external import data_file, data_files, remove_unused, store, without_data
from reptran_compiler.model.io import EMBEDDED_LIMIT, STREAM, ModelFileError, tensor_bytes, why
from reptran_compiler.model.parts import Part, alone, settle_folder
from reptran_compiler.model.referred import referred
from reptran_compiler.model.wire import serialised


@dataclass(frozen=True)
class _File:
    """A file that is written; `weights` is where the data goes of a model that has some besides."""

    part: Part
    place: Path
    is_model: bool = False
    weights: tuple[Part, Path] | None = None


class Writing:
    """Files that appear together: `with Writing() as files: files.add(...); files.commit()`.

    What is added is written beside its place. `commit` moves it there, models last; without, nothing is left of
    it. Standard output and devices are written to by `commit`, first of all, in the order that they were added in.

    The weights that a model has in a file of their own are named by their content, so that those of a model that
    is replaced stay whole until the new one is there. Then they go, unless another ONNX file in the folder refers
    to them. Of several processes that write to one folder, one commits at a time.

    Methods raise `ModelFileError` where something cannot be written.

    Args:
        keep: files, resolved, that stay whatever refers to them.
        limit: how many bytes of tensors a model may embed.
    """

    def __init__(self, keep: Collection[Path] = (), limit: int = EMBEDDED_LIMIT) -> None:
        self._keep, self._limit = keep, limit
        self._parts: list[Part] = []
        self._files: list[_File] = []
        self._direct: list[tuple[str, bytes]] = []

    def __enter__(self) -> Writing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for part in self._parts:
            part.vanish()

    def add(self, payload: bytes, path: str | os.PathLike[str], *, is_model: bool = False) -> None:
        """Add bytes for a file, or for standard output where `path` is "-"; those of a model appear last."""
        self._add((payload,), path, is_model)

    def _add(self, pieces: Iterable[bytes | memoryview], path: str | os.PathLike[str], is_model: bool) -> None:
        name = os.fspath(path)
        place = Path(name).resolve()
        if is_stream(name):
            self._direct.append((name, b"".join(pieces)))
            return
        try:
            self._files.append(_File(self._written(pieces, place), place, is_model))
        except OSError as error:
            raise ModelFileError(f"cannot write {name}: {why(error)}") from None

    def add_model(self, model: ModelProto, path: str | os.PathLike[str], *, external: bool = False) -> None:
        """Add a model for a file, or for standard output where `path` is "-".

        With `external`, and where the tensors exceed what may be embedded, they go to a file beside it that is
        named as this one, with the first 16 digits of the content's sha256 and ".data" behind it.
        """
        name = os.fspath(path)
        if not external and tensor_bytes(model) <= self._limit:
            self._add(serialised(model) if any(referred(model)) else (_serialised(model),), name, True)
            return
        check_room_beside(name)
        place = Path(name).resolve()
        try:
            part = self._begun(place)
            part.begin()
            stored = store(model, part)
            part.settle()
            weights = data_file(place, stored.digest)
            light = _serialised(without_data(model, stored, weights.name))
            self._files.append(_File(self._written((light,), place), place, True, (part, weights)))
        except OSError as error:
            raise ModelFileError(f"cannot write {name}: {why(error)}") from None

    def commit(self) -> None:
        """Let the files appear."""
        for name, payload in self._direct:
            _stream(payload, name)
        models = [file for file in self._files if file.is_model]
        texts = [file for file in self._files if not file.is_model]
        with ExitStack() as held:
            locked = {folder: held.enter_context(alone(folder)) for folder in sorted({m.place.parent for m in models})}
            before = {file.place: _content(file.place) for file in texts}
            try:
                for file in texts:
                    _appear(file.part, file.place)
                for file in models:
                    _replace(file, self._keep if locked[file.place.parent] else None)
            except BaseException:
                if all(file.part.is_there for file in models):
                    for file in texts:
                        if not file.part.is_there:
                            _put_back(before[file.place], file.place)
                raise

    def _begun(self, place: Path) -> Part:
        part = Part(place)
        self._parts.append(part)
        return part

    def _written(self, pieces: Iterable[bytes | memoryview], place: Path) -> Part:
        part = self._begun(place)
        part.begin()
        for piece in pieces:
            part.write(piece)
        part.settle()
        return part


def _replace(file: _File, keep: Collection[Path] | None) -> None:
    """Let a model appear, its weights before it; those of the one in its place go, unless `keep` is None."""
    unsure = data_files(file.place)
    if file.weights is not None and not os.path.lexists(file.weights[1]):
        unsure.append(file.weights[1])
    try:
        if file.weights is not None:
            _appear(*file.weights)
            settle_folder(file.place.parent)  # no model ahead of its weights, even where the power fails
        _appear(file.part, file.place)
        settle_folder(file.place.parent)
    finally:
        if keep is not None:
            remove_unused(unsure, file.place, keep)


def _content(place: Path) -> bytes | None:
    try:
        return place.read_bytes()
    except OSError:
        return None


def _put_back(content: bytes | None, place: Path) -> None:
    """Undo the appearance of a file, as far as possible."""
    with suppress(OSError, ModelFileError):
        if content is None:
            place.unlink()
        else:
            write_bytes(content, place)


def _appear(part: Part, place: Path) -> None:
    try:
        part.appear(place)
    except OSError as error:
        raise ModelFileError(f"cannot write {place}: {why(error)}") from None


def _stream(payload: bytes, name: str) -> None:
    try:
        if name == STREAM:
            sys.stdout.buffer.write(payload)
            sys.stdout.buffer.flush()
        else:
            Path(name).write_bytes(payload)
    except OSError as error:
        raise ModelFileError(f"cannot write {_called(name)}: {why(error)}") from None


def write_model(model: ModelProto, path: str | os.PathLike[str], *, external: bool = False) -> None:
    """Write a model to a file, whole or not at all, or to standard output where `path` is "-".

    With `external`, and where the tensors exceed what protobuf holds, they go to a file beside it (see `Writing`).

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
        if not is_stream(name):
            part = Part(place)
            try:
                part.begin()
            finally:
                part.vanish()
    except OSError as error:
        raise ModelFileError(f"cannot write {name}: {why(error)}") from None


def check_room_beside(path: str | os.PathLike[str]) -> None:
    """See that a model's weights can lie beside it and are found there.

    Raises:
        ModelFileError: they cannot, or are not.
    """
    name = os.fspath(path)
    if is_stream(name):
        raise ModelFileError(f"cannot write to {_called(name)}: the weights need a file of their own")
    place = Path(name).resolve()
    if place.parent != Path(name).parent.resolve():
        raise ModelFileError(f"cannot write {name}: it is a link, and weights beside {place} are not found through it")
    try:
        place.name.encode()
    except UnicodeEncodeError:
        raise ModelFileError(f"cannot write {place!a}: weights are referred to by a name in UTF-8") from None


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether a path is standard output ("-"), or neither file nor folder: a pipe, a terminal, the null device."""
    name = os.fspath(path)
    if name == STREAM:
        return True
    try:
        mode = _mode(Path(name).resolve())
    except OSError:
        return False
    return bool(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _serialised(model: ModelProto) -> bytes:
    try:
        payload: bytes = model.SerializeToString()
        return payload
    except (EncodeError, ValueError) as error:
        raise ModelFileError(f"the model cannot be serialised: {why(error)}") from None


def _mode(place: Path) -> int:
    """What kind of file is there; 0 where none is. Raises `OSError` where none can be."""
    try:
        return place.stat().st_mode
    except FileNotFoundError:
        return 0


def _called(name: str) -> str:
    return "standard output" if name == STREAM else name
