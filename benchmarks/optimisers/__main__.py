"""Compile time and memory by node count, beside other tools that rewrite ONNX graphs, on the same files.

    benchmarks/optimisers/run [--nodes 1000,5000,10000,50000] [--seconds 60] [-o FILE]

makes the tools' environment and writes one table of processor time and one of memory.  Each tool works on each file in
a process of its own.  The command ends with 1 where the compiler itself fails."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.optimisers.working import TOOLS
from benchmarks.speed import residual_network
from reptran_compiler.model.writing import write_bytes, write_model

_ROOT = Path(__file__).parents[2]
_SCRIPT = Path(__file__).with_name("working.py")
#: How much longer than its processor time a process may take.
_PATIENCE = 5

_EXPLANATION = """\
Residual binary networks of ReActNet's kind (`benchmarks.speed`), 5 nodes a block, beta 2. Each cell is one process that
loads the file, works, and saves. *Seconds* are its processor time without imports, of all its threads; *MB* (10^6
bytes) is the largest resident memory of the process, imports included. The tools do different work: they are here to
show what a graph of that size costs. `--no-verify` runs neither the judge nor the declared effects of rules."""


@dataclass(frozen=True)
class Cell:
    """One tool on one file.

    Attributes:
        seconds: of processor time; None where it did not end well.
        peak: bytes; None likewise.
        reason: why it did not end well.
    """

    seconds: float | None = None
    peak: int | None = None
    reason: str = ""


def measured(tool: str, python: str, source: Path, limit: int) -> Cell:
    """Run a tool on a file.

    Args:
        tool: one of `TOOLS`.
        python: the interpreter that it runs in.
        source: the file; what it becomes is written beside it.
        limit: how many seconds of processor time it may take.
    """
    words = [python, str(_SCRIPT), tool, str(source), str(source.with_suffix(".out.onnx"))]
    paths = os.pathsep.join(str(_ROOT / name) for name in (".", "passes")) if python == sys.executable else ""
    try:
        ended = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=_PATIENCE * limit,
            cwd=source.parent,
            env={**os.environ, "PYTHONPATH": paths},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1)),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Cell(reason=f"over {limit} s")
    if ended.returncode < 0 and not ended.stderr.strip():
        return Cell(reason=f"over {limit} s")
    if ended.returncode:
        said = [line for line in ended.stderr.splitlines() if line.strip()]
        last = said[-1].strip() if said else f"exit code {ended.returncode}"
        return Cell(reason="not installed" if last.startswith("ModuleNotFoundError") else f"fails: {last[:60]}")
    found: Mapping[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return Cell(found["seconds"], int(found["peak"]))


def table(cells: Mapping[tuple[int, str], Cell], command: str) -> str:
    """Processor time and memory in Markdown, a row for each number of nodes."""
    sizes = sorted({nodes for nodes, _ in cells})
    lines = ["# Compile time and memory", "", f"Made by `{command}` on {machine()}.", "", _EXPLANATION]
    for title, text in (("Seconds", _seconds), ("MB", _megabytes)):
        lines += ["", f"| {title} | {' | '.join(TOOLS)} |", f"|{'---|' * (len(TOOLS) + 1)}"]
        for nodes in sizes:
            row = [text(cells[nodes, tool]) for tool in TOOLS]
            lines.append(f"| {nodes:,} nodes | {' | '.join(row)} |")
    return "\n".join([*lines, ""])


def _seconds(cell: Cell) -> str:
    return cell.reason.replace("|", " ") if cell.seconds is None else f"{cell.seconds:.2f}"


def _megabytes(cell: Cell) -> str:
    return "-" if cell.peak is None else f"{cell.peak / 1e6:.0f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where the compiler fails on a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimisers", description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, metavar="FILE", help="where the other tools are installed")
    parser.add_argument("--nodes", default="1000,5000,10000,50000", metavar="N,M", help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=60, metavar="S", help="a tool's limit (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the tables go (default: stdout)")
    options = parser.parse_args(arguments)
    theirs = os.path.abspath(options.python)
    words = list(sys.argv[1:] if arguments is None else arguments)
    words = words[2:] if words[:1] == ["--python"] else words  # that is what the script says in front of its own
    title = shlex.join(["benchmarks/optimisers/run", *words])
    cells: dict[tuple[int, str], Cell] = {}
    for size in sorted(int(word) for word in options.nodes.split(",")):
        with tempfile.TemporaryDirectory(prefix="reptran-nodes-") as folder:
            source = Path(folder, "in.onnx")
            write_model(residual_network(size), source)
            for tool in TOOLS:
                python = sys.executable if tool.startswith("reptran") or tool == "load + save" else theirs
                smaller = [cell for (_, other), cell in cells.items() if other == tool]
                late = bool(smaller) and smaller[-1].reason.startswith("over")
                cell = smaller[-1] if late else measured(tool, python, source, options.seconds)
                cells[size, tool] = cell
                print(f"{size:,} nodes, {tool}: {_seconds(cell)}", file=sys.stderr, flush=True)
        if options.output is not None:  # whole after each size: an interrupted run keeps what it has
            write_bytes(table(cells, title).encode(), options.output)
    if options.output is None:
        print(table(cells, title))
    return int(any(cell.reason.startswith("fails") for (_, tool), cell in cells.items() if tool.startswith("reptran")))


if __name__ == "__main__":
    sys.exit(main())
