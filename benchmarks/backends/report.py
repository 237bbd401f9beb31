"""What the backends answered, as tables in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.backends.calling import Array
from benchmarks.backends.catalogue import Backend
from benchmarks.backends.jobs import Answer, Answers
from benchmarks.backends.networks import BATCHES, WAYS, Network
from benchmarks.backends.probes import POINTS, PROBES

#: How far an output may be off, of the largest one, to be called equal.
TOLERANCE = 1e-4

EXPLANATION = f"""\
*tile*, *concat*, *expand*: what a backend makes of the result of `--beta 2 --weights binary --repeat WAY`. A number: it
runs, and its output is that of onnxruntime (no optimisation), with this largest difference, of the largest value; more
than {TOLERANCE:g} is WRONG. *static*: batch 1. *dynamic*: the batch's size left open, the model loaded once and run at
batch sizes {" and ".join(map(str, BATCHES["dynamic"]))}. *concat/tile*, *expand/tile*: how long a run takes of what it
takes with Tile (with the first way that runs, where Tile does not), batch 1, one thread, rounds interleaved: the median
and, in brackets, the quartiles; *noise* is the same for a way against itself. Inputs are chosen on which no sign is a
matter of rounding.
"""


@dataclass
class Row:
    """A backend, and what it answered; `answers` by network and batch."""

    backend: Backend
    version: str = ""
    answers: dict[tuple[str, str], Answers] = field(default_factory=dict)
    probes: dict[str, Answer] = field(default_factory=dict)


def report(rows: Sequence[Row], known: Sequence[Network], command: str) -> str:
    """All tables."""
    here = [row for row in rows if row.version]
    margins = ", ".join(f"{network.name} {network.margin:.1e}" for network in known)
    lines = ["# Inference backends", "", f"Made by `{command}`.", "", EXPLANATION]
    lines += [f"Sign arguments, the smallest of the largest: {margins}.", ""]
    for network in known:
        lines += [f"## {network.name}", "", *_networks(here, network), ""]
    lines += ["## Binarisations", "", _PROBES, *_probes(here), ""]
    lines += ["## Versions", "", *_table(("backend", "requirement", "installed"), map(_version, rows)), ""]
    return "\n".join(lines)


def _version(row: Row) -> list[str]:
    return [row.backend.name, f"`{row.backend.requirement}`", row.version or "not installed"]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]


def _networks(rows: Sequence[Row], network: Network) -> list[str]:
    head = ("backend", "batch", *WAYS, "concat/tile", "expand/tile", "noise")
    cells = []
    for row in rows:
        for batch in BATCHES:
            answers = row.answers[network.name, batch]
            found = [verdict(answer, network.outputs[batch]) for answer in answers.steps]
            cells.append([row.backend.name, batch, *found, *ratios(answers)])
    return _table(head, cells)


def verdict(answer: Answer, expected: Sequence[Array]) -> str:
    """What became of one file, in a word or a message."""
    worst = 0.0
    for found, right in zip(answer.outputs, expected, strict=False):
        if found.shape != right.shape:
            return f"WRONG: shape {list(found.shape)} instead of {list(right.shape)}"
        worst = float(np.max([worst, np.abs(found - right).max() / np.abs(right).max()]))  # NaN stays NaN
    if not worst <= TOLERANCE:
        return f"WRONG: {worst:.1e}"
    size = f"{worst:.0e}" if worst else "0"
    if not answer.error:
        return size
    return (f"{size}; the first batch size only: " if answer.outputs else "refused: ") + short(answer.error)


def sound(row: Row, known: Sequence[Network]) -> bool:
    """Whether a backend ran every file of every network, and computed what it should."""
    every = ((row.answers[network.name, batch], network.outputs[batch]) for network in known for batch in BATCHES)
    verdicts = [verdict(answer, expected) for answers, expected in every for answer in answers.steps]
    return not any(word in each for each in verdicts for word in ("WRONG", "refused", "only"))


def short(message: str, length: int = 160) -> str:
    """A message for a cell: no colours, no paths, not too long."""
    message = re.sub(r"\x1b\[[0-9;]*m", "", message)
    message = re.sub(r"(?<![\w.])/[\w.+-]+(/[\w.+-]+)+/", "", message)
    message = re.sub(r"\s+", " ", re.sub(r"^(RuntimeError|Refused): ", "", message))
    return message if len(message) <= length else message[: length - 3] + "..."


def ratios(answers: Answers) -> list[str]:
    """Times of concat and expand over those of tile, and of the first way over itself."""
    if not answers.times:
        return ["", "", ""]
    times = np.array(answers.times) / np.array(answers.times)[:, :1]
    cells = ["1" if answers.timed[0] == way else _spread(times, answers.timed, way) for way in (1, 2)]
    return [*cells, _quartiles(times[:, -1])]


def _spread(times: Array, timed: Sequence[int], way: int) -> str:
    return _quartiles(times[:, list(timed).index(way)]) if way in timed else ""


def _quartiles(values: Array) -> str:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


_PROBES = f"""\
Each spelling alone in a file; what it gives for {", ".join(POINTS)} (1e-40 is denormal). The
compiler writes `Sign`, 0 at 0, and `GreaterOrEqual, Where`, +1 at 0.
"""


def _probes(rows: Sequence[Row]) -> list[str]:
    cells = [[row.backend.name, *(_values(row.probes[spelling]) for spelling in PROBES)] for row in rows]
    return _table(("backend", *PROBES), cells)


def _values(answer: Answer) -> str:
    if answer.error:
        return "refused: " + short(answer.error)
    return " ".join(f"{value:g}" for value in answer.outputs[0].ravel() + 0.0)
