"""Rows of a long benchmark, kept in a file as they are made: an interrupted run goes on where it was."""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Hashable
from importlib.metadata import version
from pathlib import Path
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

_ROOT = Path(__file__).resolve().parent.parent
_CODE = ("reptran_compiler", "passes", "models", "benchmarks", "tests/planted")
_PACKAGES = ("onnx", "onnxruntime", "numpy", "onnx-graphsurgeon")


def code_digest() -> str:
    """sha256 of the code that makes rows, and of the versions of what it runs on."""
    found = hashlib.sha256(" ".join(f"{name} {version(name)}" for name in _PACKAGES).encode())
    for file in sorted(file for folder in _CODE for file in (_ROOT / folder).rglob("*.py")):
        found.update(str(file.relative_to(_ROOT)).encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


class Journal(Generic[K, R]):
    """Rows by key. Those that other code made, or other versions, are forgotten.

    Args:
        path: the file; None to keep nothing. It is read with pickle: give no file of somebody else's.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.rows: dict[K, R] = {}
        if path is None:
            return
        digest = code_digest()
        if path.exists():
            made_by, self.rows = _read(path)
            if made_by == digest:
                print(f"{path}: {len(self.rows)} rows are known", file=sys.stderr)
                return
            print(f"{path}: made by other code, begun anew", file=sys.stderr)
            self.rows = {}
        path.write_bytes(pickle.dumps(digest))

    def add(self, key: K, row: R) -> None:
        """Keep a row."""
        self.rows[key] = row
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(pickle.dumps((key, row)))


def _read(path: Path) -> tuple[str, dict[K, R]]:
    """The digest of the code, and the rows; a last one that was not written whole is left out."""
    rows: dict[K, R] = {}
    digest = ""
    with path.open("rb") as file:
        try:
            digest = str(pickle.load(file))
            while True:
                key, row = pickle.load(file)
                rows[key] = row
        except (EOFError, pickle.UnpicklingError, ValueError):
            return digest, rows
