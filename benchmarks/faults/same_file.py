"""Outputs that are files that were read, by whatever name: refused, and nothing is changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import onnx

from benchmarks.faults.room import command, run
from benchmarks.faults.rows import Row
from reptran_compiler.model.writing import write_model


def same_file(model: Path, folder: Path, external: bool) -> Row:
    """Name the input as an output, in every way."""
    made = Row("an output is the input", "external data" if external else "embedded")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_model(onnx.load(str(model)), folder / "in.onnx", external=external)
    read = [path for path in folder.iterdir() if path.name.startswith("in.onnx")]
    names: list[str] = []
    for number, path in enumerate(sorted(read)):
        (folder / f"link{number}").symlink_to(path.name)
        (folder / f"far{number}").symlink_to(folder / f"link{number}")
        os.link(path, folder / f"hard{number}")
        names += [path.name, f"link{number}", f"far{number}", f"hard{number}", f"../{folder.name}/{path.name}"]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    flags = ("--external-data",) if external else ()
    for name in names:
        for option in ("-o", "--map", "--json"):
            code = run([*command(2), *flags, option, name], folder).wait()
            after = {path.name: path.read_bytes() for path in folder.iterdir()}
            made.times += 1
            made.endings[code] += 1
            made.old += after == before
            made.see(code == 2 and after == before, f"{option} {name}: exit code {code}, unchanged: {after == before}")
    return made
