"""Which backend takes which way of writing replication, and which binarisation.

    python -m benchmarks.backends [--backends A,B] [--environments DIR] [--seconds S] [-o FILE]

A backend without an environment (`benchmarks/backends/environment NAME` makes one) is told to be not installed. It
ends with 1 where onnxruntime itself refuses a file, or computes something else: what other backends do is theirs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.backends.catalogue import BACKENDS, Backend
from benchmarks.backends.jobs import ROOT, ask
from benchmarks.backends.networks import BATCHES, WAYS, Network, networks
from benchmarks.backends.probes import PROBES, write
from benchmarks.backends.report import Row, report, sound
from reptran_compiler.model.writing import write_bytes


def answered(backend: Backend, python: Path, files: Path, known: Sequence[Network], seconds: float) -> Row:
    """Have a backend run everything."""
    row = Row(backend)
    if not python.exists():
        return row
    for network in known:
        for batch in BATCHES:
            steps = [(network.files[batch][way], network.inputs[batch]) for way in WAYS]
            found = ask(backend, python, files, steps, seconds if batch == "static" else 0)
            row.answers[network.name, batch] = found
            row.version = found.version or row.version
    probes = write(files)
    found = ask(backend, python, files, [(probes[spelling], ["points.npz"]) for spelling in PROBES], 0)
    row.probes = dict(zip(PROBES, found.steps, strict=True))
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backends", description=__doc__.splitlines()[0])
    parser.add_argument("--backends", default="", metavar="A,B", help="which (default: all)")
    place = ROOT / ".venv-backends"
    parser.add_argument("--environments", type=Path, default=place, metavar="DIR", help="where the environments lie")
    parser.add_argument("--seconds", type=float, default=6.0, metavar="S", help="to measure a network for (default: 6)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the tables go (default: stdout)")
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(given)
    names = [backend.name for backend in BACKENDS]
    asked = options.backends.split(",") if options.backends else names
    for name in asked:
        if name not in names:
            parser.error(f"there is no {name!r}: choose from {', '.join(names)}")
    shown = [part for part in ("python -m benchmarks.backends", options.backends and f"--backends {options.backends}")]
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        known = list(networks(Path(folder)))
        for backend in (each for each in BACKENDS if each.name in asked):
            python = options.environments / backend.room / "bin" / "python"
            rows.append(answered(backend, python, Path(folder), known, options.seconds))
            print(f"{backend.name}: {rows[-1].version or 'not installed'}", file=sys.stderr, flush=True)
            if options.output is not None:
                write_bytes(report(rows, known, " ".join(filter(None, shown))).encode(), options.output)
    text = report(rows, known, " ".join(filter(None, shown)))
    if options.output is None:
        print(text)
    return int(any(row.backend.name == "onnxruntime" and not sound(row, known) for row in rows if row.version))


if __name__ == "__main__":
    sys.exit(main())
