"""A folder with the outputs of a compilation, and whether they are whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from reptran_compiler.model.hashing import known
from reptran_compiler.model.io import Source
from reptran_compiler.outputs import Outputs
from reptran_compiler.runtime import random_feeds

MODEL, MAP, REPORT = "out.onnx", "map.json", "report.json"
Files = dict[str, bytes]
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Content:
    """What one compilation writes."""

    model: ModelProto
    map: str
    report: str


@dataclass(frozen=True)
class Form:
    """How a result is written, and how the one in its place was; each a bool that says whether with external data.

    `before` is None where there was none.
    """

    name: str
    before: bool | None
    after: bool


FORMS = (
    Form("embedded", False, False),
    Form("external data", True, True),
    Form("embedded over external data", True, False),
    Form("external data over embedded", False, True),
    Form("embedded, the first", None, False),
    Form("external data, the first", None, True),
)


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        model: "old" or "new" for a model that is whole with its data, else what is wrong with it.
        texts: the same for the map and the report.
        parts: how many half-written files lie there.
        strays: how many files with weights that the model does not refer to.
    """

    model: str
    texts: tuple[str, str]
    parts: int
    strays: int

    @property
    def whole(self) -> bool:
        """Whether nothing is mixed or half."""
        return {self.model, *self.texts} <= {"old", "new"}

    @property
    def all_new(self) -> bool:
        """Whether everything is as after an undisturbed run, but for weights that nothing refers to."""
        return {self.model, *self.texts} == {"new"} and not self.parts


@dataclass
class Room:
    """A folder in which `new` is written over `old` in some form."""

    folder: Path
    form: Form
    old: Content
    new: Content
    _known: dict[str, Files] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.prepare()
        self._known["old"] = self._files()
        self.write()
        self._known["new"] = self._files()
        for which, content in (("old", self.old), ("new", self.new)):
            self._see_that_it_runs(which, content.model)

    @property
    def largest(self) -> int:
        """The size in bytes of the largest new file."""
        return max(len(content) for content in self._known["new"].values())

    def prepare(self) -> None:
        """Let the folder hold what was there before, and nothing else."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if self.form.before is not None:
            self._write(self.old, self.form.before)

    def write(self) -> None:
        """Write the new outputs."""
        self._write(self.new, self.form.after)

    def look(self) -> Found:
        """What is there, read byte for byte."""
        files = self._files()
        parts = sum(name.endswith(".part") for name in files)
        which = self._which(files, MODEL)
        known = self._known.get(which, {})
        strays = sum(name.endswith(".data") and name not in known for name in files)
        for name, content in known.items():
            if name.startswith(MODEL) and files.get(name) != content:
                which = f"{which}, but not its data"
        return Found(which, (self._which(files, MAP), self._which(files, REPORT)), parts, strays)

    def _which(self, files: Files, name: str) -> str:
        same = [which for which, known in self._known.items() if files.get(name) == known.get(name)]
        return same[0] if same else f"neither the old nor the new {name}"

    def write_old(self) -> None:
        """Write the old outputs, as they were written before."""
        self._write(self.old, bool(self.form.before))

    def _write(self, content: Content, external: bool) -> None:
        outputs = Outputs(self.folder / MODEL, self.folder / MAP, self.folder / REPORT, external_data=external)
        outputs.write(content.model, Source(content.model, "in.onnx", known("")), content.map, content.report)

    def _files(self) -> Files:
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def _see_that_it_runs(self, which: str, model: ModelProto) -> None:
        """Once for these bytes: onnxruntime loads the files, and they compute what the model in memory does."""
        if MODEL not in self._known[which]:
            return
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        for name, content in self._known[which].items():
            (self.folder / name).write_bytes(content)
        if not same_results(self.folder / MODEL, model):
            raise RuntimeError(f"the {which} files of form {self.form.name!r} do not compute what their model does")


def same_results(path: Path, model: ModelProto) -> bool:
    """Whether a file computes in onnxruntime what a model does, bit for bit."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    feeds = random_feeds(model, batch=1)
    found = [
        onnxruntime.InferenceSession(each, settings, providers=["CPUExecutionProvider"]).run(None, feeds)
        for each in (str(path), model.SerializeToString())
    ]
    return all(np.array_equal(here, there) for here, there in zip(*found, strict=True))


def command(beta: int, *flags: str) -> list[str]:
    """The command that compiles `in.onnx`, to be run in its folder, without verification."""
    outputs = ("-o", MODEL, "--map", MAP, "--json", REPORT)
    return [sys.executable, "-m", "reptran_compiler", "in.onnx", "--beta", str(beta), "--no-verify", *outputs, *flags]


def run(words: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a command in a folder."""
    paths = os.pathsep.join(str(_ROOT / name) for name in (".", "passes"))
    silent = subprocess.DEVNULL
    return subprocess.Popen(words, cwd=folder, env={**os.environ, "PYTHONPATH": paths}, stdout=silent, stderr=silent)


def compiled(model: Path, beta: int, folder: Path) -> Content:
    """What the command writes for a model, made in a scratch folder."""
    shutil.copy(model, folder / "in.onnx")
    if run(command(beta), folder).wait():
        raise RuntimeError(f"{model} is not compiled with beta {beta}")
    texts = [(folder / name).read_text().removesuffix("\n") for name in (MAP, REPORT)]
    return Content(onnx.load(str(folder / MODEL)), *texts)
