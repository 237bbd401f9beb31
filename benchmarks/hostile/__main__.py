"""Mutated ONNX files given to `reptran-compile`: none crashes, hangs, or leaves anything but a whole result.

    python -m benchmarks.hostile [--count 10000] [--seed 0] [--jobs N] [--keep DIR] [-o FILE]

writes one table and ends with 1 where a file fails.  A file passes that ends in exit code 0 with a result that runs,
or in 1 or 2 with one line of message and no file; in limited time and memory."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.hostile.campaign import Attempt, campaign
from benchmarks.hostile.seeds import seeds
from benchmarks.hostile.table import table
from reptran_compiler.model.writing import write_bytes

_EVERY = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where a file fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, metavar="N", help="files (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of every draw (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="files at a time (default: 1)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where files that fail are kept")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    options = parser.parse_args(arguments)
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    command = f"python -m benchmarks.hostile --count {options.count} --seed {options.seed}"
    attempts: list[Attempt] = []
    begin = time.monotonic()
    for attempt in campaign(seeds(), options.count, options.seed, options.jobs, options.keep):
        attempts.append(attempt)
        if attempt.outcome.failure:
            print(
                f"{attempt.number} ({attempt.original}; {', '.join(attempt.kinds)}): {attempt.outcome.failure}: "
                f"{attempt.outcome.message}",
                file=sys.stderr,
                flush=True,
            )
        if len(attempts) % _EVERY == 0:
            left = (time.monotonic() - begin) / len(attempts) * (options.count - len(attempts))
            failed = sum(bool(each.outcome.failure) for each in attempts)
            print(
                f"{len(attempts):,} of {options.count:,}, {failed} fail, {left / 60:.0f} min left",
                file=sys.stderr,
                flush=True,
            )
    written = table(attempts, command)
    if options.output is None:
        print(written)
    else:
        write_bytes(written.encode(), options.output)
    return int(any(attempt.outcome.failure for attempt in attempts))


if __name__ == "__main__":
    sys.exit(main())
