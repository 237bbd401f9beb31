"""A verification where GitHub Actions shows it: annotations of a file, and the summary of a job."""

from __future__ import annotations

from reptran_compiler.text import printable

from .escaping import cell
from .verified import Verification

#: So many failures become annotations: GitHub shows ten errors a step.
_SHOWN = 10


def error_annotations(verification: Verification) -> list[str]:
    """One workflow command for each failed check, to be printed on lines of their own."""
    return [
        annotation(verification.rep, f"reptran-verify: {check.name}", check.failures[0])
        for check in verification.failed[:_SHOWN]
    ]


def annotation(file: str, title: str, message: str) -> str:
    """The workflow command that annotates a file with an error; nothing in its parts can end it or begin another."""
    return f"::error file={_property(file)},title={_property(title)}::{_data(message)}"


def to_markdown(verification: Verification) -> str:
    """The verification as Markdown: a line that says how it ended, a table of its checks, notes."""
    done = "passed" if verification.passed else "FAILED"
    lines = [
        f"### reptran-verify: {done}",
        "",
        f"{cell(verification.rep)} against {cell(verification.original)}, beta {verification.beta}",
        "",
        "| check | | |",
        "|---|---|---|",
    ]
    layers = [check for check in verification.checks if check.kind == "layer"]
    if layers and all(check.passed for check in layers):
        lines.append(f"| {len(layers)} layers | passed | |")
    for check in verification.checks:
        if check.kind == "layer" and check.passed:
            continue
        words = check.failures[0] if check.failures else check.detail
        name = f"{check.kind} {check.name}" if check.kind in ("layer", "budget") else check.name
        lines.append(f"| {cell(name)} | {'**failed**' if check.failures else check.word} | {cell(words)} |")
    lines += ["", *(f"- {cell(note)}" for note in verification.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _data(text: str) -> str:
    return printable(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
