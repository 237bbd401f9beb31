"""Weights in a file of their own, which is named by its content."""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

from onnx import ModelProto, TensorProto

from reptran_compiler.model.hashing import beside
from reptran_compiler.model.protos import copy_fields
from reptran_compiler.model.referred import byte_count, pieces_of

_EXTERNAL_TENSOR_BYTES = 1024
_ALIGNMENT = 4096
_DIGITS = 16


@dataclass(frozen=True)
class Stored:
    """Weights that were written to a file.

    Attributes:
        digest: the first hexadecimal digits of the content's sha256.
        places: by the initializer's position in the graph, the offset and the length in bytes of its data.
    """

    digest: str
    places: dict[int, tuple[int, int]]


class Sink(Protocol):
    """What bytes are written to: a file, or a part of one."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Add bytes."""


def store(model: ModelProto, file: Sink) -> Stored:
    """Write the data of a model's larger initializers to a file, a piece at a time."""
    digest, position = hashlib.sha256(), 0
    places: dict[int, tuple[int, int]] = {}
    with beside(digest) as hashed:
        for index, tensor in enumerate(model.graph.initializer):
            if byte_count(tensor) < _EXTERNAL_TENSOR_BYTES:
                continue
            padding = bytes(-position % _ALIGNMENT)
            begun = position = position + len(padding)
            for piece in chain((memoryview(padding),), pieces_of(tensor)):
                hashed.update(piece)
                file.write(piece)
            position += byte_count(tensor)
            places[index] = (begun, position - begun)
    return Stored(digest.hexdigest()[:_DIGITS], places)


def without_data(model: ModelProto, stored: Stored, location: str) -> ModelProto:
    """A model whose larger initializers refer to the file at `location`; the given one stays as it is."""
    light = ModelProto()
    copy_fields(model, light, without=("graph",))
    copy_fields(model.graph, light.graph, without=("initializer",))
    for index, tensor in enumerate(model.graph.initializer):
        if index not in stored.places:
            light.graph.initializer.append(tensor)
            continue
        moved = light.graph.initializer.add()
        copy_fields(tensor, moved, without=("raw_data", "external_data", "data_location"))
        moved.data_location = TensorProto.EXTERNAL
        offset, length = stored.places[index]
        for key, entry in (("location", location), ("offset", offset), ("length", length)):
            moved.external_data.add(key=key, value=str(entry))
    return light


def data_file(place: Path, digest: str) -> Path:
    """Where the weights of the model at `place` lie."""
    return place.with_name(f"{place.name}.{digest}.data")


def data_files(place: Path) -> list[Path]:
    """The files beside a model that are named like its weights, and that it refers to."""
    like = re.compile(re.escape(place.name) + rf"\.[0-9a-f]{{{_DIGITS}}}\.data")
    try:
        beside = [path for path in place.parent.iterdir() if like.fullmatch(path.name)]
    except OSError:
        return []
    return [path for path in beside if _names(place, path.name)]


def remove_unused(files: Collection[Path], model: Path, keep: Collection[Path]) -> None:
    """Remove files of weights, as far as possible, that no model in their folder refers to.

    Args:
        files: the files, beside `model`.
        model: a model that may refer to them; others are known by ".onnx" or the suffix that this one has.
        keep: files that stay, whatever refers to them.
    """
    with suppress(OSError):
        like = (".onnx", model.suffix or ".onnx")
        models = [model, *(path for path in model.parent.iterdir() if path.suffix in like)] if files else []
        for path in files:
            if path not in keep and not any(_names(each, path.name) for each in models):
                path.unlink()


def _names(model: Path, name: str) -> bool:
    """Whether a file holds a name; where it cannot be read, it is taken to."""
    try:
        if not model.is_file() or not model.stat().st_size:
            return False
        with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(name.encode()) >= 0
    except OSError:
        return True
