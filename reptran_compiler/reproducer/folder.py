"""The folder of a reproducer: the model, its inputs, options and versions, and a script that shows the fault."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from reptran_compiler.compilation import Compilation
from reptran_compiler.model.io import read_model
from reptran_compiler.model.writing import write_model
from reptran_compiler.outputs import PathLike
from reptran_compiler.pipeline import Options, Refusal
from reptran_compiler.reproducer.faults import Fault, fault_in, fault_of
from reptran_compiler.reproducer.place import FAULT, INPUTS, SCRIPT, versions, whole_folder, write_json
from reptran_compiler.reproducer.shrinking import Shrunk, shrink
from reptran_compiler.rewriting import Rule
from reptran_compiler.runtime import CannotFeed, random_feeds

_MODEL = "model.onnx"
_TEXT = '''"""Shows a fault of reptran-compile: ends with 1 while it is there, with 0 once it is mended.

    python reproduce.py [FILE.py ...]

Files are taken for the rules that lie here."""

import sys
from pathlib import Path

from reptran_compiler.reproducer import reproduce

sys.exit(reproduce(Path(__file__).resolve().parent, sys.argv[1:]))
'''


@dataclass(frozen=True)
class Reproducer:
    """A reproducer that was written.

    Attributes:
        folder: where.
        fault: what it shows.
        shrunk: its model, and how much of the source that is.
        again: whether the fault came again when the source was compiled once more.
    """

    folder: Path
    fault: Fault
    shrunk: Shrunk
    again: bool

    def __str__(self) -> str:
        """One line for people."""
        if not self.again:
            return f"reproducer: {self.folder} (the whole model: the fault did not come again)"
        more = "" if self.shrunk.ended else ", as small as the time allowed"
        return f"reproducer: {self.folder} ({self.shrunk.nodes} of {self.shrunk.of} nodes{more})"


def write_reproducer(
    compilation: Compilation, error: BaseException, folder: PathLike, *, seconds: float = 60.0
) -> Reproducer | None:
    """Write the smallest model that a failed compilation fails with, and all that shows it, to a folder.

    The folder appears whole.

    Args:
        compilation: what failed. Its model is read again where it is a file.
        error: how it failed.
        folder: a new or empty folder.
        seconds: how long smaller models are looked for.

    Returns:
        What was written; None where the error shows no fault (see `fault_of`).

    Raises:
        BadInput: the folder cannot be written.
    """
    fault = fault_of(error)
    if fault is None:
        return None
    given = compilation.model
    model = given if isinstance(given, ModelProto) else read_model(given).model
    by_rules = fault.kind == Refusal.__name__ and fault.same(fault_in(model, compilation, judged=False))
    again = by_rules or fault.same(fault_in(model, compilation))
    count = len(model.graph.node)
    shrunk = Shrunk(model, count, count, 0, True)
    if again:
        shrunk = shrink(
            model,
            lambda part: fault.same(fault_in(part, compilation, judged=not by_rules)),
            near=fault.names,
            dims=compilation.dims,
            seconds=seconds,
        )
    found = Reproducer(Path(folder), fault, shrunk, again)
    _write(found, compilation)
    return found


def reproduce(folder: PathLike, rules: Sequence[str] = ()) -> int:
    """Compile a reproducer's model, and say whether its fault is still there.

    Args:
        folder: the folder.
        rules: files of rules that take the place of those in the folder.

    Returns:
        1 while the fault, or another one, is there; 0 where there is none.
    """
    place = Path(folder)
    stored = json.loads((place / FAULT).read_text(encoding="utf-8"))
    missing = [] if rules else stored["rules_without_a_file"]
    if missing:
        print(f"the rules {', '.join(missing)} were given as objects: name the file that defines them")
        return 1
    given = stored["options"].items()
    options: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given}
    options["rules"] = tuple(rules) or tuple(str(place / name) for name in options["rules"])
    batches = stored["batches"]
    compilation = Compilation(
        model=read_model(place / _MODEL).model,
        options=Options(**options),
        dims=stored["dims"],
        batches=None if batches is None else tuple(batches),
        verify=stored["verify"],
        quick=stored.get("quick", False),
    )
    assert isinstance(compilation.model, ModelProto), "it was read"
    wanted, found = Fault(**stored["fault"]), fault_in(compilation.model, compilation)
    if found is None:
        print(f"mended: {wanted.place} ({wanted.kind})")
        return 0
    print(f"{'still there' if wanted.same(found) else 'another fault'}: {found.kind}: {found.message}")
    return 1


def _write(found: Reproducer, compilation: Compilation) -> None:
    with whole_folder(found.folder) as half:
        write_model(found.shrunk.model, half / _MODEL)
        try:
            inputs = random_feeds(found.shrunk.model, batch=2, dims=compilation.dims)
        except CannotFeed:
            inputs = {}
        with (half / INPUTS).open("wb") as file:
            np.savez(file, **inputs)  # type: ignore[arg-type,unused-ignore]
        write_json(_stored(found, compilation, half), half / FAULT)
        (half / SCRIPT).write_text(_TEXT, encoding="utf-8")


def _stored(found: Reproducer, compilation: Compilation, folder: Path) -> dict[str, Any]:
    """What `fault.json` says; files of rules are copied to the folder."""
    files = [each for each in compilation.options.rules if not isinstance(each, Rule)]
    names = []
    for number, file in enumerate(files, 1):
        names.append(f"rules-{number}-{os.path.basename(file)}")
        shutil.copyfile(file, folder / names[-1])
    options = replace(compilation.options, rules=tuple(names), dims=(), stages=False)
    return {
        "fault": asdict(found.fault),
        "options": {each.name: getattr(options, each.name) for each in fields(options)},
        "rules_without_a_file": [each.name for each in compilation.options.rules if isinstance(each, Rule)],
        "dims": dict(compilation.dims or {}),
        "batches": None if compilation.batches is None else list(compilation.batches),
        "verify": compilation.verify,
        "quick": compilation.quick,
        "nodes": found.shrunk.nodes,
        "nodes_of_the_source": found.shrunk.of,
        "attempts": found.shrunk.attempts,
        "versions": versions(),
    }
