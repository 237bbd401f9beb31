"""What verification costs: networks compiled without it, quickly verified, and in full.

    python -m benchmarks.verification [--networks A,B] [--size N] [--rounds 2] [-o FILE]

exports each network at its paper's image size and compiles it at beta 2 in every mode, each time in a process of its
own that keeps the memory it frees, as the command does. Of some rounds the one that took the least processor time
counts, so that what else the machine does counts for little. A name that ends in `.onnx` is a file of one's own."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from reptran_compiler import compile_model
from reptran_compiler.model.writing import write_bytes
from reptran_compiler.runtime.memory import keep_freed

NETWORKS = ("reactnet-a", "reactnet-18", "recu-resnet20", "reactnet-tiny")
#: How a compilation may be verified.
MODES = ("none", "quick", "full")


@dataclass(frozen=True)
class Row:
    """A network compiled in a mode: seconds of processor and clock, of all and of judging alone; peak memory in MB.

    `pairs` says how many required pairs were compared, of how many.
    """

    network: str
    mode: str
    cpu: float
    wall: float
    judging_cpu: float
    judging_wall: float
    peak: int
    pairs: str


class _Watch:
    """Told of a compilation's steps, it keeps when the judge begins and when it is done."""

    def __init__(self) -> None:
        self.begun: tuple[float, float] | None = None
        self.spent = (0.0, 0.0)

    def __call__(self, step: str, *_: object) -> None:
        now = time.process_time(), time.perf_counter()
        if step.startswith("verifying") and self.begun is None:
            self.begun = now
        elif step == "writing" and self.begun is not None:
            self.spent = now[0] - self.begun[0], now[1] - self.begun[1]


def compiled(file: str, mode: str) -> dict[str, Any]:
    """Compile a file in this process; the fields of a `Row` but for its names."""
    keep_freed()
    watch, start = _Watch(), (time.process_time(), time.perf_counter())
    with tempfile.TemporaryDirectory(prefix="reptran-verification-") as folder:
        target, verify = Path(folder, "rep.onnx"), mode != "none"
        made = compile_model(file, 2, output=target, progress=watch, verify=verify, quick=mode == "quick")
    cpu, wall = time.process_time() - start[0], time.perf_counter() - start[1]
    found = made.summary.verification
    return {
        "cpu": cpu,
        "wall": wall,
        "judging_cpu": watch.spent[0],
        "judging_wall": watch.spent[1],
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "pairs": f"{found.pairs_compared} of {found.pairs_required}" if found.performed else "",
    }


def measured(network: str, size: int | None, rounds: int) -> Iterator[Row]:
    """The rows of a network."""
    with tempfile.TemporaryDirectory(prefix="reptran-verification-") as folder:
        file = network if network.endswith(".onnx") else str(Path(folder, "network.onnx"))
        if file != network:
            _export(network, file, size)
        found: dict[str, list[Row]] = {mode: [] for mode in MODES}
        for _ in range(rounds):
            for mode, rows in found.items():
                words = [sys.executable, "-m", "benchmarks.verification", "--compile", file, mode]
                done = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True)
                rows.append(Row(network, mode, **json.loads(done.stdout)))
        yield from (min(rows, key=lambda row: row.cpu) for rows in found.values())


def _export(network: str, file: str, size: int | None) -> None:
    """Export a network in a process of its own: torch's memory is none of the compiler's."""
    script = (
        "import models, sys; name, file, size = sys.argv[1:]; entry = models.ZOO[name]; "
        "built = models.build(name, size=int(size) or entry.paper_size, classes=entry.classes); "
        "models.export(built, file, models.VARIANTS['dynamo'])"
    )
    subprocess.run([sys.executable, "-c", script, network, file, str(size or 0)], stdout=subprocess.DEVNULL, check=True)


def table(rows: Sequence[Row], command: str) -> str:
    """The rows in Markdown."""
    head = ("network", "verified", "CPU, s", "wall, s", "judging: CPU, s", "judging: wall, s", "peak, MB", "pairs")
    lines = ["# What verification costs", "", f"Made by `{command}` on {machine()}.", ""]
    lines += [
        "Compiling at beta 2, imports left out, one thread. *Judging* is what `verification.seconds` reports; in full,",
        "the effects of rules are executed besides, while they are applied.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
    ]
    for row in rows:
        times = (row.cpu, row.wall, row.judging_cpu, row.judging_wall)
        cells = (row.network, row.mode, *(f"{seconds:.2f}" for seconds in times), f"{row.peak:,}", row.pairs)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verification", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(NETWORKS), metavar="A,B", help="default: %(default)s")
    parser.add_argument("--size", type=int, metavar="N", help="of images (default: the paper's)")
    parser.add_argument("--rounds", type=int, default=2, metavar="R", help="default: %(default)s")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    parser.add_argument("--compile", nargs=2, metavar=("FILE", "MODE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.compile:
        print(json.dumps(compiled(*options.compile)))
        return 0
    rows: list[Row] = []
    for network in options.networks.split(","):
        for row in measured(network, options.size, options.rounds):
            rows.append(row)
            print(f"{row.network}, {row.mode}: {row.cpu:.2f} s, judging {row.judging_cpu:.2f} s", file=sys.stderr)
    given = sys.argv[1:] if arguments is None else arguments
    text = table(rows, " ".join(["python -m benchmarks.verification", *given]))
    if options.output is None:
        print(text)
    else:
        write_bytes(text.encode(), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
