"""The command as a user runs it: a model in a folder, flags, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
from onnx import ModelProto

from reptran_compiler.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """What a run of the command left.

    Attributes:
        code: its exit code.
        out, err: what it printed.
        written: names of the files that appeared in its folder, sorted.
        folder: where it ran.
    """

    code: int
    out: str
    err: str
    written: tuple[str, ...]
    folder: Path

    @property
    def model(self) -> ModelProto:
        """The model that was written."""
        return onnx.load(str(self.folder / "out.onnx"))


def compile_file(
    model: ModelProto | bytes | None, folder: Path, capsys: pytest.CaptureFixture[str], *flags: str
) -> Outcome:
    """Run `reptran-compile in.onnx -o out.onnx FLAGS` in a folder, hidden leftovers included in what is found.

    Args:
        model: what `in.onnx` holds; None for no such file.
        folder: an empty folder.
        capsys: pytest's capture.
        flags: further flags; they come last, so that another `-o` wins.
    """
    source = folder / "in.onnx"
    if model is not None:
        source.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    before = {entry.name for entry in folder.iterdir()}
    content = source.read_bytes() if source.is_file() else b""
    capsys.readouterr()
    code = main([str(source), "-o", str(folder / "out.onnx"), *flags])
    captured = capsys.readouterr()
    assert (source.read_bytes() if source.is_file() else b"") == content, "the input was changed"
    written = sorted({entry.name for entry in folder.iterdir()} - before)
    return Outcome(code, captured.out, captured.err, tuple(written), folder)
