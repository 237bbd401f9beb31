"""Rep networks against their originals on Fashion-MNIST, with the same recipe and the same budget.

    python -m benchmarks.fashion [--networks A,B] [--betas 2,4] [--seeds 3] [--epochs N] [--width W] [--jobs N]
        [--data DIR] [--folder RUNS] [-o FILE] [--plot FILE]

Each original is exported to ONNX with fresh parameters.  It, and what the compiler makes of it, are read with
`to_torch`, trained, written, verified with `verify_pair`, and measured by onnxruntime on the test images.  A second
table begins with the trained original instead.  An interrupted study goes on where it was when the same command is
given again: each run has a checkpoint in RUNS, and those that are finished are not run again.  The table is written
after every run.  A plot needs matplotlib, of the extra `bench`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from benchmarks.fashion.networks import NETWORKS
from benchmarks.fashion.report import plot, table
from benchmarks.fashion.runs import DATA
from benchmarks.fashion.settings import Budget, Result, settings_of
from benchmarks.fashion.study import Place, study
from reptran_compiler.errors import BadInput
from reptran_compiler.model.writing import write_bytes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 where the data or the folder cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fashion", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(NETWORKS), metavar="A,B", help="default: %(default)s")
    parser.add_argument("--betas", default="2,4", metavar="B,C", help="besides 1, the originals (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--trained", type=int, default=1, metavar="N", help="seeds with Rep networks of trained originals, too"
    )
    for field in fields(Budget):
        kind = type(field.default)
        parser.add_argument(
            f"--{field.name}", type=kind, default=field.default, metavar="N", help="default: %(default)s"
        )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (%(default)s)")
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="default: %(default)s")
    parser.add_argument(
        "--folder", type=Path, default=Path("fashion-runs"), metavar="RUNS", help="default: %(default)s"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a picture of the curves: .svg or .png")
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(given)
    networks = options.networks.split(",")
    for name in networks:
        if name not in NETWORKS:
            parser.error(f"there is no {name!r}: choose from {', '.join(NETWORKS)}")
    budget = Budget(**{field.name: getattr(options, field.name) for field in fields(Budget)})
    betas = [int(beta) for beta in options.betas.split(",")]
    settings = settings_of(networks, betas, options.seeds, options.trained)
    options.folder.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python -m benchmarks.fashion", *given])

    def report(results: Sequence[Result]) -> None:
        if options.output is not None:
            write_bytes(table(results, len(settings), budget, command).encode(), options.output)
        if options.plot is not None:
            plot(results, options.plot)

    try:
        results = study(settings, budget, Place(options.data, options.folder), options.jobs, report)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    if options.output is None:
        print(table(results, len(settings), budget, command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
