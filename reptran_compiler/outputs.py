"""What a compilation writes, and where: checked before the work, written after it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto

from reptran_compiler.errors import BadInput
from reptran_compiler.model.io import EMBEDDED_LIMIT, STREAM, Source
from reptran_compiler.model.referred import Scratch
from reptran_compiler.model.writing import (
    Writing,
    check_room_beside,
    check_writable,
    is_stream,
    write_bytes,
)

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Outputs:
    """The files that a compilation writes; None for what is not wanted, "-" for standard output.

    Attributes:
        model: the result.
        map: where each weight went, as JSON.
        report: what happened, as JSON.
        dump_dir: a folder for the canonical source, the specification and the graph after each pass.
        external_data: whether the result's weights go to a file of their own.
        dry_run: whether the result is not written after all.
    """

    model: PathLike | None = None
    map: PathLike | None = None
    report: PathLike | None = None
    dump_dir: PathLike | None = None
    external_data: bool = False
    dry_run: bool = False

    @property
    def target(self) -> str | None:
        """Where the result goes; None where it is not written."""
        return None if self.model is None or self.dry_run else os.fspath(self.model)

    def check_writable(self) -> None:
        """See that every file can be written, that no two are one, and make the folder.

        Raises:
            BadInput: one cannot, or two are.
        """
        files = [os.fspath(path) for path in (self.target, self.map, self.report) if path is not None]
        for path in files:
            check_writable(path)
        if self.target is not None and self.external_data:
            check_room_beside(self.target)
        places = [path if path == STREAM else str(Path(path).resolve()) for path in files]
        for index, place in enumerate(places):
            if place in places[:index]:
                raise BadInput(f"{files[index]} cannot hold two outputs: choose another file for one")
        if self.dump_dir is not None:
            try:
                Path(self.dump_dir).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise BadInput(f"cannot write to {self.dump_dir}: {error.strerror or error}") from None

    def check_source(self, source: Source) -> None:
        """See that no file that is written is one that was read, and that a model of its size can be written.

        Raises:
            BadInput: one is, or it cannot.
        """
        for path in (self.target, self.map, self.report):
            if path is not None and os.fspath(path) != STREAM:
                _apart(Path(path), source)
        if self.target is not None and source.size > EMBEDDED_LIMIT:
            check_room_beside(self.target)

    def scratch(self, *, derives: bool = False) -> Scratch:
        """A file for large tensors: in the folder of the result, where there will have to be room for it anyway.

        Args:
            derives: as for `Scratch`.

        Raises:
            BadInput: it cannot be made.
        """
        beside = None if self.target is None or is_stream(self.target) else Path(self.target).resolve().parent
        return Scratch(beside, derives=derives)

    def write(self, model: ModelProto, source: Source, map_text: str, report_text: str) -> None:
        """Write what is wanted of a result of a source, its map and its report: all of it or nothing.

        Raises:
            BadInput: something cannot be written.
        """
        with Writing(source.files) as files:
            if self.target is not None:
                files.add_model(model, self.target, external=self.external_data)
            self._add_texts(files, map_text, report_text)
            source.require_unchanged()
            files.commit()

    def write_unchanged(self, source: Source, map_text: str, report_text: str) -> None:
        """As `write`, for the source itself: its very bytes where they are in one file."""
        with Writing(source.files) as files:
            if self.target is not None and source.payload is not None and not self.external_data:
                files.add(source.payload, self.target, is_model=True)
            elif self.target is not None:
                apart = self.external_data or (len(source.files) > 1 and not is_stream(self.target))
                files.add_model(source.model, self.target, external=apart)
            self._add_texts(files, map_text, report_text)
            source.require_unchanged()
            files.commit()

    def write_report(self, text: str) -> None:
        """Write the report alone, where one is wanted."""
        if self.report is not None:
            write_bytes(text.encode() + b"\n", self.report)

    def _add_texts(self, files: Writing, map_text: str, report_text: str) -> None:
        for text, path in ((map_text, self.map), (report_text, self.report)):
            if path is not None:
                files.add(text.encode() + b"\n", path)

    def write_stages(self, stages: Iterable[tuple[str, ModelProto | str]], source: Source) -> None:
        """Write models, or a text in the place of one, to the folder, where one is wanted.

        Raises:
            BadInput: one would go over a file that was read, or cannot be written.
        """
        if self.dump_dir is None:
            return
        for name, content in stages:
            if isinstance(content, str):
                write_bytes(f"{content}\n".encode(), Path(self.dump_dir) / f"{_file_name(name)}.txt")
                continue
            place = Path(self.dump_dir) / f"{_file_name(name)}.onnx"
            _apart(place, source)
            with Writing(source.files) as files:
                files.add_model(content, place)
                files.commit()


def numbered(stages: Iterable[tuple[str, ModelProto]]) -> Iterator[tuple[str, ModelProto]]:
    """Stages with their place in front of their names."""
    for number, (name, model) in enumerate(stages, 1):
        yield f"{number:02}-{name}", model


def _apart(place: Path, source: Source) -> None:
    for read in source.files:
        if place.resolve() == read or (place.exists() and read.exists() and place.samefile(read)):
            raise BadInput(f"{place} is read and cannot be written as well: choose another output")


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text)
