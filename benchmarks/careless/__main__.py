"""Careless rules: each let loose on a small network, in an engine and through `reptran-compile --rules FILE.py`.

    python -m benchmarks.careless [--only A,B] [--processes] [--jobs N] [-o FILE]

writes one table, a row for each rule, and ends with 1 where one is not refused as it should be, or leaves something
behind.  What is refused says in one or two lines which rule and why."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks.careless.catalogue import CATALOGUE
from benchmarks.careless.rows import Row, perform, perform_package
from benchmarks.careless.running import SECONDS, Ended
from reptran_compiler.model.writing import write_bytes

HEAD = ("kind", "rule", "what it does wrong", "normal mode", "test mode", "as before", "result")

EXPLANATION = f"""\
Made by `python -m benchmarks.careless -o benchmarks/results/careless.md`, which lets each rule loose on a small
binary network: in an engine, and with `reptran-compile --rules FILE.py`, without and with `--paranoid` (the *test
mode*; `--processes` gives each command a process of its own). *normal mode*, *test mode*: exit code and message.
*as before*: the graph of the engine is, byte for byte, what it was (or computes the same, where rewrites that hold
were committed before), no model was written, and the source and its folder are untouched. Rules that do not end were
given {SECONDS:g} s.
"""


def table(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in _cells(row))} |" for row in rows]
    failed = sum(not row.good for row in rows)
    refused = sum(row.rule.normal.code != 0 for row in rows)
    found = sum(row.rule.normal.code == 0 and row.rule.paranoid.code != 0 for row in rows)
    head = (
        f"{len(rows)} careless rules: {refused} refused, {found} more in the test mode, "
        f"{len(rows) - refused - found} harmless; {failed} not as they should be."
    )
    return "\n".join(["# Careless rules", "", head, "", EXPLANATION, *lines, ""])


def _cells(row: Row) -> list[str]:
    normal, paranoid = (_end(end, row.rule.note) for end in row.commands)
    same = paranoid == normal
    whole = all(end.as_before for end in (*row.commands, *row.engines) if end is not None)
    cells = [row.rule.kind, row.rule.name, row.rule.wrong, normal, "the same" if same else paranoid]
    return [*cells, "yes" if whole else "NO", "ok" if row.good else "FAILED"]


def _end(end: Ended, note: str) -> str:
    said = " ".join(line.removeprefix("reptran-compile: ") for line in end.message.strip().splitlines()[-1:])
    return f"{end.code}: {said}" if end.code else f"0: accepted; {note}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where a rule does not end as it should."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.careless", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="A,B", help="rules by name (default: all)")
    parser.add_argument("--processes", action="store_true", help="a process for every command, which takes longer")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at a time (default: 1)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",") if options.only else [rule.name for rule in CATALOGUE]
    rules = [rule for rule in CATALOGUE if rule.name in wanted]
    start, rows = time.perf_counter(), list[Row]()
    # What sleeps is woken in the main thread alone, which is where a process of the pool works.
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for row in pool.map(partial(perform, processes=options.processes), rules):
            rows.append(row)
            left = (time.perf_counter() - start) / len(rows) * (len(rules) - len(rows))
            state = "ok" if row.good else f"FAILED {row.commands} {row.engines}"
            print(f"{len(rows)}/{len(rules)}, {left:.0f} s left: {row.rule.name}: {state}", file=sys.stderr, flush=True)
    if options.only is None:
        rows.append(perform_package())
    if options.output is None:
        print(table(rows))
    else:
        write_bytes(table(rows).encode(), options.output)
    return int(not all(row.good for row in rows))


if __name__ == "__main__":
    sys.exit(main())
