"""Bugs planted in correct results and in the rules: does the judge see them, and does it name the place?

    python -m benchmarks.planted [--networks N] [--kinds TEXT] [--jobs N] [-o FILE]

plants every kind of `tests/planted` in N networks (from 3 on as many more as it takes to have copies that are equal and
copies that differ where it is planted); writes a table, a row for each kind, and ends with 1 where the judge misses one
or refuses a harmless change.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

from reptran_compiler.model.writing import write_bytes
from tests.planted.catalogue import KINDS, THEMES
from tests.planted.gate import Outcome, Subject, try_kind
from tests.planted.harmless import HARMLESS
from tests.planted.kinds import Theme
from tests.planted.subjects import subjects

#: The committed table.
DOCUMENT = Path(__file__).parents[1] / "docs" / "planted-bugs.md"
#: How many networks a kind has to be planted in.
LEAST = 3
#: The part of the mistakes whose place has to be named.
NAMED = 0.9


@dataclass(frozen=True)
class Row:
    """What became of a kind of mistake, by network; how many networks it has to be planted in; what went wrong."""

    kind: str
    planted: tuple[tuple[str, Outcome], ...] = ()
    asked: int = LEAST
    crash: str = ""

    @property
    def networks(self) -> int:
        """In how many networks it was planted."""
        return len({network for network, _ in self.planted})

    @property
    def missed(self) -> int:
        """How often the gate said nothing."""
        return sum(not outcome.first for _, outcome in self.planted)

    @property
    def failure(self) -> str:
        """Why the row fails; "" where it does not."""
        if self.crash:
            return self.crash
        if self.missed:
            return f"missed in {', '.join(network for network, outcome in self.planted if not outcome.first)}"
        if self.networks < self.asked:
            return f"planted in {self.networks} networks only"
        equal = any(outcome.equal for _, outcome in self.planted)
        return "" if equal or self.asked < LEAST else "planted nowhere with equal copies"


@cache
def _subjects(quick: bool = False) -> tuple[Subject, ...]:
    return tuple(replace(subject, quick=quick) for subject in subjects())


def plant(number: int, networks: int) -> Row:
    """Plant a kind (by its place in the catalogue) in as many networks as asked for."""
    kind, found = KINDS[number], list[tuple[str, Outcome]]()
    for subject, quickly in zip(_subjects(), _subjects(quick=True), strict=True):
        names, states = {network for network, _ in found}, {outcome.equal for _, outcome in found}
        enough = len(names) >= networks and (len(states) == 2 or networks < LEAST)
        if enough or (len(states) == 2 and subject.network in names):
            continue
        try:
            outcome = try_kind(kind, subject)
        except Exception as error:  # noqa: BLE001 - whatever the gate raises is no verdict, and a row that fails
            return Row(kind.name, tuple(found), crash=f"{subject.network}: {type(error).__name__}: {error}")
        new = subject.network not in names and len(names) < networks
        if outcome is not None and (new or outcome.equal not in states):
            again = try_kind(kind, quickly, engine=False)
            found.append((subject.network, replace(outcome, quick=again is not None and bool(again.first))))
    return Row(kind.name, tuple(found), min(networks, LEAST))


def accept(name: str) -> tuple[str, ...]:
    """The networks in which the gate refuses a harmless change, with what it says."""
    refused = []
    for subject in _subjects():
        said = subject.refusals(HARMLESS[name])
        if said:
            refused.append(f"{subject.network}: {said[0]}")
    return tuple(refused)


# -- the table -----------------------------------------------------------------------------------------------

HEAD = ("mistake", "networks", "equal", "differing", "caught", "place named", "first message", "engine", "quick")
EXPLANATION = """\
*networks*: in how many it was planted; *equal*, *differing*: in how many compilations the copies that are read at the
place of the mistake are equal, or differ, with the file's own parameters. *caught*: how often the command would have
refused to write the result; *place named*: how often the first message names the node or the tensor at which the
mistake was planted, or the first tensor behind it. *engine*: of mistakes in rules, how often executing the rule's own
effect catches it as well; the judge is asked with that switched off. *quick*: how often `--verify quick` catches it. A
mistake counts as planted where it changes what the network computes (with other parameters than today's, if need be),
or what the file promises.
"""


def table(rows: Sequence[Row], refusals: Sequence[tuple[str, tuple[str, ...]]], command: str) -> str:
    """The document."""
    outcomes = [outcome for row in rows for _, outcome in row.planted]
    caught, right = sum(bool(each.first) for each in outcomes), sum(each.right for each in outcomes)
    share = 100 * right / max(1, len(outcomes))
    checked = len(refusals) * len(_subjects())
    lines = [
        "# Planted bugs",
        "",
        f"Made by `{command}`.",
        "",
        f"{len(rows)} kinds of mistakes, planted {len(outcomes)} times: {caught} caught, {right} with the place named "
        f"({share:.1f} %), {sum(bool(each.quick) for each in outcomes)} caught by `--verify quick`. {len(refusals)} "
        f"harmless changes, made in {checked} compilations: "
        f"{sum(len(said) for _, said in refusals)} refused.",
        "",
        EXPLANATION,
    ]
    by_name = {row.kind: row for row in rows}
    for theme in THEMES:
        lines += _section(theme, by_name)
    return "\n".join([*lines, "## Harmless changes", "", *(f"- {name}" for name in HARMLESS), ""])


def _section(theme: Theme, rows: dict[str, Row]) -> Iterator[str]:
    found = [rows[kind.name] for kind in theme.kinds if kind.name in rows]
    if found:
        yield from (f"## {theme.title}", "", f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}")
        yield from (f"| {' | '.join(_cells(row))} |" for row in found)
        yield ""


def _cells(row: Row) -> Iterator[str]:
    outcomes = [outcome for _, outcome in row.planted]
    engine = [outcome.engine for outcome in outcomes if outcome.engine is not None]
    yield from (row.kind, str(row.networks))
    yield from (str(sum(outcome.equal == state for outcome in outcomes)) for state in (True, False))
    yield f"{len(outcomes) - row.missed} of {len(outcomes)}"
    yield f"{sum(outcome.right for outcome in outcomes)} of {len(outcomes)}"
    first = row.crash or next((outcome.first for outcome in outcomes if outcome.first), "")
    short = first if len(first) <= 120 else f"{first[:120]}..."
    yield short.replace("|", "\\|").replace("\n", " ")
    yield f"{sum(engine)} of {len(engine)}" if engine else ""
    yield f"{sum(bool(outcome.quick) for outcome in outcomes)} of {len(outcomes)}"


def listed_kinds(text: str) -> list[tuple[str, str]]:
    """The heading and the name of every kind that a document lists."""
    found, heading = [], ""
    for line in text.splitlines():
        if line.startswith("## "):
            heading = line[3:]
        row = re.match(r"\| (?!mistake \|)(.+?) \| \d+ \|", line)
        if row:
            found.append((heading, row[1]))
    return found


# -- the program ---------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where a row fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=4, metavar="N", help="for each kind, at least (default: 4)")
    parser.add_argument("--kinds", default="", metavar="TEXT", help="those whose name has this in it (default: all)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="kinds at a time (default: 1)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    options = parser.parse_args(arguments)
    numbers = [number for number, kind in enumerate(KINDS) if options.kinds in kind.name]
    if not numbers:
        parser.error(f"no kind has {options.kinds!r} in its name")
    given = sys.argv[1:] if arguments is None else arguments
    command = " ".join(["python -m benchmarks.planted", *given])
    rows = list(_progress(_mapped(partial(plant, networks=options.networks), numbers, options.jobs), len(numbers)))
    changes = [] if options.kinds else list(HARMLESS)
    refusals = list(zip(changes, _mapped(accept, changes, options.jobs), strict=True))
    for name, said in refusals:
        for each in said:
            print(f"refused though harmless: {name}: {each}", file=sys.stderr)
    text = table(rows, refusals, command)
    if options.output is None:
        print(text)
    else:
        write_bytes(text.encode(), options.output)
    outcomes = [outcome for row in rows for _, outcome in row.planted]
    named = sum(outcome.right for outcome in outcomes) >= NAMED * len(outcomes)
    return int(any(row.failure for row in rows) or any(said for _, said in refusals) or not named)


def _mapped(work: Callable, items: Sequence, jobs: int) -> Iterable:  # type: ignore[type-arg]
    """The results in order, in this process or in some others."""
    if jobs == 1:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, items)


def _progress(rows: Iterable[Row], count: int) -> Iterator[Row]:
    start = time.perf_counter()
    for number, row in enumerate(rows, 1):
        left = (time.perf_counter() - start) / number * (count - number)
        state = row.failure or f"caught in {row.networks} networks"
        print(f"{number} of {count}, {left:.0f} s left: {row.kind}: {state}", file=sys.stderr, flush=True)
        yield row


if __name__ == "__main__":
    sys.exit(main())
