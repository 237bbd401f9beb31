"""A verification on a console, and as JSON. The schema is described in docs/json-report.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reptran_compiler.text import printable

from .console import make_table
from .json_report import comparison_document, plain
from .verified import Check, Verification

#: Name and version of the schema: a key that goes or changes its meaning raises the number.
VERIFY_SCHEMA = "reptran-verify/1"

_STYLES = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


def print_verification(verification: Verification, console: Console, *, every_layer: bool = False) -> None:
    """Print the checks, one a line; layers that passed as one line, where each of them is not asked for."""
    for renderable in _renderables(verification, every_layer):
        console.print(renderable)


def _renderables(verification: Verification, every_layer: bool) -> Iterator[Text | Table]:
    heading = Text("reptran-verify ", style="bold").append(verification.version)
    heading.append(printable(f": {verification.original} -> {verification.rep}, beta {verification.beta}"))
    heading.append("" if verification.mode == "values" else f", {verification.mode}")
    yield heading
    table = make_table("check", "", "what was found")
    layers = [check for check in verification.checks if check.kind == "layer"]
    folded = not every_layer and all(check.passed for check in layers)
    for check in verification.checks:
        if check.kind != "layer" or not folded:
            table.add_row(*_cells(check))
        elif check is layers[0]:
            table.add_row(f"{len(layers)} layers", Text("passed", style="green"), "each has the compilation's form")
    yield table
    for note in verification.notes:
        yield Text(printable(f"note: {note}"))
    if verification.passed:
        yield Text(f"verified in {verification.seconds:.1f} s", style="green")


def _cells(check: Check) -> tuple[Text, Text, Text]:
    name = f"{check.kind} {check.name}" if check.kind in ("layer", "budget") else check.name
    words = check.failures[0] if check.failures else check.detail
    more = f" (and {len(check.failures) - 1} more)" if len(check.failures) > 1 else ""
    style = _STYLES[check.word]
    cells = Text(printable(name)), Text(check.word, style=style), Text(printable(words + more))
    for cell in (cells[0], cells[2]):
        cell.overflow = "fold"
    return cells


def verification_json(verification: Verification, *, indent: int | None = 2) -> str:
    """The verification as JSON text (no newline at its end)."""
    return json.dumps(plain(verification_document(verification)), indent=indent, allow_nan=False)


def verification_document(verification: Verification) -> dict[str, Any]:
    """The verification as nested dictionaries and lists."""
    return {
        "schema": VERIFY_SCHEMA,
        "version": verification.version,
        "passed": verification.passed,
        "exit_code": verification.exit_code,
        "original": verification.original,
        "rep": verification.rep,
        "beta": verification.beta,
        "mode": verification.mode,
        "options": dict(verification.options),
        "checks": [
            {
                "kind": check.kind,
                "name": check.name,
                "result": check.word,
                "failures": list(check.failures),
                "detail": check.detail,
            }
            for check in verification.checks
        ],
        "costs": None if verification.costs is None else comparison_document(verification.costs),
        "notes": list(verification.notes),
        "seconds": verification.seconds,
    }
