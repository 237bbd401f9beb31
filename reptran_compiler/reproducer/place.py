"""Where a reproducer is written: a folder that appears whole, and what every reproducer has in it."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from reptran_compiler.errors import BadInput
from reptran_compiler.outputs import PathLike
from reptran_compiler.version import __version__

INPUTS, FAULT, SCRIPT = "inputs.npz", "fault.json", "reproduce.py"
_PACKAGES = ("onnx", "onnxruntime", "onnx-graphsurgeon", "numpy", "protobuf")


def check_folder(folder: PathLike) -> None:
    """See that a reproducer can be written to a folder: it is new or empty.

    Raises:
        BadInput: it is not.
    """
    place = Path(folder)
    if place.is_dir() and any(place.iterdir()):
        raise BadInput(f"{place} is not empty: name a new folder for the reproducer")
    if place.exists() and not place.is_dir():
        raise BadInput(f"{place} is a file: name a new folder for the reproducer")


@contextmanager
def whole_folder(folder: PathLike) -> Iterator[Path]:
    """A folder beside another one, to be filled: it takes that one's place at the end, and leaves nothing if it fails.

    Raises:
        BadInput: it cannot be written.
    """
    place = Path(folder).resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-"))
        try:
            half.chmod(0o755)
            yield half
            if place.is_dir():
                place.rmdir()
            half.rename(place)
        except BaseException:
            shutil.rmtree(half, ignore_errors=True)
            raise
    except OSError as problem:
        raise BadInput(f"cannot write the reproducer to {folder}: {problem.strerror or problem}") from None


def write_json(entries: Mapping[str, Any], file: Path) -> None:
    """Write entries for people and programs."""
    file.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    """The versions of what takes part in a compilation."""
    found = {"reptran-compiler": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
