"""Every fixture of another toolchain, at every beta: compiled, verified, and compared with its own framework.

    python -m benchmarks.frameworks [--fixtures A,B] [--folder DIR] [--betas 2,4] [--jobs N] [-o FILE]

writes one table, a row for each compilation, and ends with 1 where a row fails.  Fixtures are called
TOOLCHAIN/NAME, and are made by the scripts in `models/toolchains/`; a toolchain's name stands for all of its own."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from benchmarks.spellings import spellings
from models.toolchains.fixtures import FILES, Fixture, fixtures, load
from reptran_compiler.compiler import CompileResult, compile_model
from reptran_compiler.model.writing import write_bytes
from reptran_compiler.reporting import VerificationSummary
from reptran_compiler.runtime import run
from reptran_compiler.runtime.tolerance import compare


@dataclass(frozen=True)
class Task:
    """One fixture and the compilations of it."""

    fixture: str
    folder: Path
    betas: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One compilation.

    Attributes:
        fixture: its name, TOOLCHAIN/NAME.
        beta: the replication factor.
        nodes: how many the file has.
        spellings: what its binarisations are written in.
        expected: how many binary layers behind another layer the framework knows of.
        found: how many of them the compiler calls binary; None where it gave no result.
        rewritten: how many of these became RepConvs, or the classifier.
        real: how many real-valued layers were rewritten besides.
        boundaries: the operators that carry no replication, with the reason.
        agreement: the largest difference between the canonical graph's outputs and the framework's, of the largest.
        verification: what the judge says; None where it did not come to that.
        seconds: how long the compilation took.
        failure: what is not as it has to be; "" where everything is.
    """

    fixture: str
    beta: int
    nodes: int = 0
    spellings: str = ""
    expected: int = 0
    found: int | None = None
    rewritten: int = 0
    real: int = 0
    boundaries: tuple[str, ...] = ()
    agreement: float | None = None
    verification: VerificationSummary | None = None
    seconds: float = 0.0
    failure: str = ""


def perform(task: Task) -> list[Row]:
    """Compile a fixture at each beta, and compare its canonical form with what the framework computed."""
    fixture = load(task.fixture, task.folder)
    nodes, written = len(fixture.model.graph.node), ", ".join(spellings(fixture.model))
    return [_row(Row(task.fixture, beta, nodes, written, fixture.binary_layers), fixture) for beta in task.betas]


def _row(row: Row, fixture: Fixture) -> Row:
    start = time.perf_counter()
    try:
        result = compile_model(fixture.model, row.beta)
    except Exception as error:  # noqa: BLE001 - a refusal or a bug is a failing row, and the other rows go on
        return replace(row, seconds=time.perf_counter() - start, failure=f"{type(error).__name__}: {_line(error)}")
    row = replace(row, seconds=time.perf_counter() - start, verification=result.summary.verification)
    transformation = result.transformation
    assert transformation is not None, "only with beta 1"
    binary = [layer for layer in transformation.layers if layer.binary]
    wide = [layer for layer in transformation.layers if layer.role in ("repconv", "classifier")]
    agreements = [
        compare(found, fixture.outputs[name], "float32")
        for name, found in run(transformation.canonical, fixture.inputs, list(fixture.outputs)).items()
    ]
    blocked = [(layer.name, layer.reason) for layer in transformation.layers if layer.role == "boundary"]
    row = replace(
        row,
        found=len(binary),
        rewritten=sum(layer in wide for layer in binary),
        real=sum(not layer.binary for layer in wide),
        boundaries=tuple(f"{name}: {reason}" for name, reason in (*blocked, *transformation.boundaries)),
        agreement=max(each.relative for each in agreements),
    )
    failures = [*_wrong(row, result), *(f"output {each.detail}" for each in agreements if not each.ok)]
    return replace(row, failure="; ".join(failures))


def _wrong(row: Row, result: CompileResult) -> Iterator[str]:
    """What is wrong with a result, except for its agreement."""
    checked = result.summary.verification
    if not (result.verified and checked.passed):
        yield "not verified"
    if not checked.pairs_required or checked.pairs_compared != checked.pairs_required:
        yield f"{checked.pairs_compared} of {checked.pairs_required} required pairs compared"
    if row.found != row.expected:
        yield f"{row.found} binary layers found, the framework has {row.expected}"
    if row.rewritten != row.found:
        yield f"{row.rewritten} of {row.found} binary layers rewritten"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def run_apart(task: Task) -> list[Row]:
    """`perform` in a process of its own, so that no fixture leaves memory behind or takes the others with it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(perform, task).result()
        except BrokenProcessPool:
            return [Row(task.fixture, beta, failure="its process died") for beta in task.betas]


# -- the table -----------------------------------------------------------------------------------------------

HEAD = (
    "fixture",
    "nodes",
    "spellings",
    "beta",
    "binary layers: framework / found / rewritten",
    "real-valued rewritten",
    "boundaries",
    "canonical against framework",
    "pairs",
    "law, worst",
    "seconds",
    "result",
)

EXPLANATION = """\
*spellings*: how the file writes its binarisations, by their operators. *framework / found / rewritten*: layers behind
another layer that binarise input and weights, as the framework knows them, as the compiler finds them, and as it
rewrites them; *real-valued rewritten*: other layers that became wide. *canonical against framework*: the largest
difference between the canonical graph's outputs and those that the framework itself computed when the fixture was
made, of the largest value. *pairs*: tensors that the judge compared, of those it had to; *law, worst*: the largest
difference there, of the tensor's largest value.
"""


def table(rows: Sequence[Row], command: str) -> str:
    """The rows as a table in Markdown, with what its columns mean and the versions of the toolchains."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in _cells(row))} |" for row in rows]
    failed = sum(bool(row.failure) for row in rows)
    head = f"{len(rows)} compilations, {len(rows) - failed} pass, {failed} fail. Made by `{command}`."
    return "\n".join(["# Networks of other toolchains", "", head, "", EXPLANATION, *lines, ""])


def _cells(row: Row) -> list[str]:
    checked, found = row.verification, "-" if row.found is None else row.found
    worst = "" if checked is None or checked.worst_error is None else f"{checked.worst_error:.1e}"
    return [
        row.fixture,
        str(row.nodes),
        row.spellings,
        str(row.beta),
        f"{row.expected} / {found} / {row.rewritten}",
        str(row.real),
        "; ".join(row.boundaries) or "none",
        "" if row.agreement is None else f"{row.agreement:.1e}",
        "" if checked is None else f"{checked.pairs_compared}/{checked.pairs_required}",
        worst,
        f"{row.seconds:.1f}",
        row.failure or "ok",
    ]


# -- the program ---------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where a row fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frameworks", description=__doc__.splitlines()[0])
    parser.add_argument("--fixtures", default="", metavar="A,B", help="fixtures or toolchains (default: all)")
    parser.add_argument("--folder", type=Path, default=FILES, metavar="DIR", help="where they lie")
    parser.add_argument("--betas", default="2,4", metavar="B,C", help="default: 2,4")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="fixtures at a time (default: 1)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(given)
    known = fixtures(options.folder)
    asked = options.fixtures.split(",") if options.fixtures else known
    chosen = [name for name in known if name in asked or name.partition("/")[0] in asked]
    for name in asked:
        if not any(name in (each, each.partition("/")[0]) for each in chosen):
            parser.error(f"there is no {name!r}: choose from {', '.join(known)}")
    betas = tuple(int(beta) for beta in options.betas.split(","))
    command = " ".join(["python -m benchmarks.frameworks", *given])
    rows: list[Row] = []
    start = time.perf_counter()
    with ThreadPoolExecutor(options.jobs) as pool:
        for number, found in enumerate(pool.map(run_apart, [Task(n, options.folder, betas) for n in chosen]), 1):
            rows += found
            left = (time.perf_counter() - start) / number * (len(chosen) - number)
            for row in found:
                state = f"{row.seconds:.1f} s, {row.failure or 'ok'}"
                print(f"{number}/{len(chosen)} {row.fixture} beta {row.beta}: {state}", file=sys.stderr, flush=True)
            print(f"about {left / 60:.1f} min left", file=sys.stderr, flush=True)
            if options.output is not None:
                write_bytes(table(rows, command).encode(), options.output)
    if options.output is None:
        print(table(rows, command))
    return int(any(row.failure for row in rows))


if __name__ == "__main__":
    sys.exit(main())
