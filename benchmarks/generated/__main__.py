"""Thousands of generated networks: compiled, judged, compiled again, with other options, in another process.

    python -m benchmarks.generated [--count N] [--seed S] [--jobs N] [-o FILE]
    python -m benchmarks.generated --only SEED [--save FILE.onnx]

The first writes one table and ends with 1 where a graph fails or a share is below its limit; the second repeats the
graph of one seed and says what is wrong with it."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.generated.cases import draw_case
from benchmarks.generated.sweep import Row, sweep
from benchmarks.generated.table import ENOUGH, shortcomings, table
from benchmarks.journal import Journal
from reptran_compiler.model.writing import write_bytes

#: The table is written whole after so many graphs: an interrupted run keeps what it has.
_EVERY = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where something is not as it has to be."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generated", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="how many graphs (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the first one's number (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="graphs at a time (default: 1)")
    parser.add_argument("--only", type=int, metavar="SEED", help="this graph alone, with all that is wrong with it")
    parser.add_argument("--save", type=Path, metavar="FILE", help="with --only: where the graph goes")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="where rows are kept, for a run that goes on")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    options = parser.parse_args(words)
    if options.only is not None:
        return _only(options.only, options.save)
    command = shlex.join(["python", "-m", "benchmarks.generated", *words])
    journal: Journal[int, Row] = Journal(options.resume)
    seeds = range(options.seed, options.seed + options.count)
    rows = [journal.rows[seed] for seed in seeds if seed in journal.rows]
    known, start = len(rows), time.monotonic()
    for row in sweep([seed for seed in seeds if seed not in journal.rows], options.jobs):
        rows.append(row)
        journal.add(row.seed, row)
        _tell(row, len(rows) - known, options.count - known, time.monotonic() - start)
        if options.output is not None and len(rows) % _EVERY == 0:
            write_bytes(table(sorted(rows, key=_place), command).encode(), options.output)
    rows.sort(key=_place)
    if options.output is None:
        print(table(rows, command))
    else:
        write_bytes(table(rows, command).encode(), options.output)
    wrong = shortcomings(rows)
    for line in wrong:
        print(line, file=sys.stderr)
    if len(rows) < ENOUGH:
        print(f"shares are held to their limits from {ENOUGH:,} graphs on", file=sys.stderr)
    return int(bool(wrong))


def _only(seed: int, save: Path | None) -> int:
    """Examine one seed; the exit code."""
    case = draw_case(seed)
    if save is not None:
        write_bytes(case.model.SerializeToString(deterministic=True), save)
    (row,) = sweep([seed], 1)
    print(f"seed {seed}: {row.nodes} nodes, {' '.join(row.options)}")
    print("options:", case.options, case.dims or "")
    print("constructs:", ", ".join(sorted(row.constructs)))
    for failure in row.outcome.failures:
        print("FAILED:", failure)
    if not row.outcome.failures:
        print(f"refused, as it has to be: {row.outcome.refusal}" if row.outcome.refusal else "compiled, all holds")
    return int(bool(row.outcome.failures))


def _place(row: Row) -> int:
    return row.seed


def _tell(row: Row, done: int, count: int, seconds: float) -> None:
    """Progress on standard error, and at once what fails."""
    if row.outcome.failures:
        again = f"python -m benchmarks.generated --only {row.seed}"
        said = f"seed {row.seed} FAILS: {row.outcome.failures[0]}\n  repeat it with: {again}"
        print(said, file=sys.stderr, flush=True)
    if done % 20 == 0 or done == count:
        left = seconds / done * (count - done)
        print(f"{done} of {count}, {seconds:.0f} s, {left:.0f} s to go", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
