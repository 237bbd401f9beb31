"""Every network of the zoo, from every export, at every beta: compiled, verified, and compared with torch.

    python -m benchmarks.zoo [--networks A,B] [--variants V,W] [--betas 2,4] [--image N] [--jobs N] [-o FILE]

writes one table, a row for each compilation, and ends with 1 where a row fails.  Networks have their papers'
widths; their images are small.  What "agrees with torch" means is said in `benchmarks/agreement.py`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch

import models
from benchmarks.agreement import Agreement, agree
from reptran_compiler.compiler import CompileError, CompileResult, Refusal, VerificationFailed, compile_model
from reptran_compiler.model.writing import write_bytes
from reptran_compiler.reporting import Summary


@dataclass(frozen=True)
class Task:
    """One export and the compilations of it; `image` is the image's height and width, None for the default."""

    network: str
    variant: str
    betas: tuple[int, ...]
    image: int | None = None


@dataclass(frozen=True)
class Row:
    """One compilation: what was asked for, what came of it, and why it fails ("" where it does not)."""

    network: str
    variant: str
    beta: int
    size: int = 0
    summary: Summary | None = None
    agreement: Agreement | None = None
    seconds: float = 0.0
    failure: str = ""


def perform(task: Task) -> list[Row]:
    """Export a network once, then compile and compare it at each beta; failures come back as rows."""
    torch.set_num_threads(1)
    blank = [Row(task.network, task.variant, beta) for beta in task.betas]
    with tempfile.TemporaryDirectory(prefix="reptran-zoo-") as folder:
        file = Path(folder, "network.onnx")
        try:
            size = None if task.image is None else max(task.image, models.ZOO[task.network].smallest)
            network = models.build(task.network, size=size)
            models.export(network, file, models.VARIANTS[task.variant])
        except Exception as error:  # noqa: BLE001 - torch's exporters raise whatever they please; the table shows it
            return [replace(row, failure=f"not exported: {_words(error)}") for row in blank]
        size = models.plan_of(network).size
        return [_row(replace(row, size=size), network, file) for row in blank]


def _row(row: Row, network: torch.nn.Module, file: Path) -> Row:
    start = time.perf_counter()
    try:
        result = compile_model(file, row.beta)
        row = replace(row, summary=result.summary, seconds=time.perf_counter() - start)
        agreement = agree(network, file, result.model, row.beta)
        failures = (*_unverified(result), *agreement.failures)
        return replace(row, agreement=agreement, failure="; ".join(failures))
    except VerificationFailed as error:
        return replace(row, summary=error.summary, seconds=time.perf_counter() - start, failure=_words(error))
    except (CompileError, Refusal) as error:
        return replace(row, seconds=time.perf_counter() - start, failure=f"refused: {_words(error)}")
    except Exception as error:  # noqa: BLE001 - a bug of the compiler is a failing row, and the other rows go on
        return replace(row, seconds=time.perf_counter() - start, failure=_words(error))


def _unverified(result: CompileResult) -> list[str]:
    found = result.summary.verification
    if not (result.verified and found.passed):
        return ["not verified"]
    if not found.pairs_required or found.pairs_compared != found.pairs_required:
        return [f"{found.pairs_compared} of {found.pairs_required} required pairs compared"]
    return []


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def run_apart(task: Task) -> list[Row]:
    """`perform` in a process of its own, so that no task leaves memory behind or takes the others with it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(perform, task).result()
        except BrokenProcessPool:
            return [Row(task.network, task.variant, beta, failure="its process died") for beta in task.betas]


# -- the table -----------------------------------------------------------------------------------------------

HEAD = (
    "network",
    "export",
    "image",
    "beta",
    "layers rewritten",
    "boundaries",
    "trainable parameters",
    "MACs",
    "OPs",
    "pairs",
    "law, worst",
    "torch, worst",
    "decisions",
    "differing",
    "their largest input",
    "free run",
    "seconds",
    "result",
)

EXPLANATION = """\
*trainable parameters*: before -> after; *MACs*, *OPs*: after / before. *pairs*: tensors that the judge compared, of
those it had to; *law, worst*: the largest difference there, of the tensor's largest value. *torch, worst*: the same
against the independent form in torch, over every tensor that enters a binarisation and the output, fed
onnxruntime's binarised maps (limit 1e-4). *differing*: of the single *decisions*, those that torch takes
otherwise when it reaches them under onnxruntime's earlier decisions, and *their largest input*, of its tensor's
largest value (limit 1e-5); *free run*: those that differ when nothing is forced, with all that follows from them.
"""


def table(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown, with what its columns mean."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    failed = sum(bool(row.failure) for row in rows)
    head = f"{len(rows)} compilations, {len(rows) - failed} pass, {failed} fail."
    return "\n".join(["# The zoo", "", head, "", EXPLANATION, *lines, ""])


def _cells(row: Row) -> list[str]:
    cells = [row.network, row.variant, str(row.size), str(row.beta)]
    cells += [""] * 7 if row.summary is None else _compiled(row.summary)
    cells += [""] * 5 if row.agreement is None else _agreement(row.agreement)
    return [*cells, f"{row.seconds:.1f}", row.failure.replace("|", "\\|") or "ok"]


def _compiled(summary: Summary) -> list[str]:
    rewritten = sum(layer.rewritten for layer in summary.layers)
    boundaries = sum(layer.role == "boundary" for layer in summary.layers)
    found = summary.verification
    worst = "" if found.worst_error is None else f"{found.worst_error:.1e}"
    costs = summary.costs
    counted = ["not counted"] * 3
    if costs is not None:
        counted = [
            f"{costs.before.trainable:,} -> {costs.after.trainable:,}",
            f"{costs.after.total_macs / costs.before.total_macs:.3f}",
            f"{costs.after.ops / costs.before.ops:.3f}",
        ]
    pairs = f"{found.pairs_compared}/{found.pairs_required}"
    return [str(rewritten), str(boundaries), *counted, pairs, worst]


def _agreement(found: Agreement) -> list[str]:
    largest = f"{found.largest_input:.1e}" if found.differing else "-"
    return [f"{found.worst:.1e}", f"{found.decisions:,}", str(found.differing), largest, str(found.free_flips)]


# -- the program ---------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where a row fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(models.ZOO), metavar="A,B", help="default: all")
    parser.add_argument("--variants", default=",".join(models.VARIANTS), metavar="V,W", help="default: all")
    parser.add_argument("--betas", default="2,4", metavar="B,C", help="default: 2,4")
    parser.add_argument("--image", type=int, metavar="N", help="height and width, or the least that a network takes")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="exports at a time (default: 1)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    options = parser.parse_args(arguments)
    networks, variants = options.networks.split(","), options.variants.split(",")
    for names, known in ((networks, list(models.ZOO)), (variants, list(models.VARIANTS))):
        for name in names:
            if name not in known:
                parser.error(f"there is no {name!r}: choose from {', '.join(known)}")
    betas = tuple(int(beta) for beta in options.betas.split(","))
    tasks = [Task(network, variant, betas, options.image) for network in networks for variant in variants]
    rows: list[Row] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for found in pool.map(run_apart, tasks):
            rows += found
            for row in found:
                state = f"{row.seconds:.1f} s, {row.failure or 'ok'}"
                print(f"{row.network} {row.variant} beta {row.beta}: {state}", file=sys.stderr, flush=True)
            if options.output is not None:
                # Whole after every task: an interrupted run keeps the rows that it has.
                write_bytes(table(rows).encode(), options.output)
    if options.output is None:
        print(table(rows))
    return int(any(row.failure for row in rows))


if __name__ == "__main__":
    sys.exit(main())
