"""How often the judge refuses what is right: the zoo under other weights, inputs and ways to run.

    python -m benchmarks.false_alarms [--networks A,B] [--seeds 20] [--paper 2] [--dtype float32] [--jobs N] [-o FILE]

compiles and judges every network of the zoo once a seed, and ends with 1 where one compilation is refused or a
pair differs by 1e-4 (float32) or more.  The seed draws weights, statistics, inputs and what is fed behind cuts.  Of 20
seeds, each level of onnxruntime occurs with 1 and 2 threads and with batch 1 and 3; exports and beta are cycled.
Images are small; `--paper` further
compilations have images as in the network's paper."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnx
import torch

import models
from benchmarks.journal import Journal
from benchmarks.retyping import DTYPES, retyped
from reptran_compiler.annotations import carry_annotations
from reptran_compiler.compilation import transform_source
from reptran_compiler.errors import CompileError
from reptran_compiler.judging import Judgement, judge
from reptran_compiler.model.writing import write_bytes
from reptran_compiler.pipeline import Options, Refusal
from reptran_compiler.runtime import Level, tolerance
from reptran_compiler.trial import try_source

#: Exports that cost little are made more often.
EXPORTS = ("dynamo", "torchscript", "torchscript-unfolded", "torchscript-preserve", "dynamo-unoptimized")
_EXPORTS_LATER = ("torchscript-unfolded", "torchscript-preserve", "torchscript")


@dataclass(frozen=True)
class Setting:
    """One compilation and how it is judged; `image` is the image's height and width."""

    network: str
    seed: int
    image: int
    dtype: str = "float32"

    @property
    def export(self) -> str:
        """How the network is exported."""
        return EXPORTS[self.seed] if self.seed < len(EXPORTS) else _EXPORTS_LATER[self.seed % len(_EXPORTS_LATER)]

    @property
    def level(self) -> Level:
        """What onnxruntime may do to the graphs."""
        return list(Level)[self.seed % len(Level)]

    @property
    def threads(self) -> int:
        """Threads of onnxruntime."""
        return 1 + self.seed // len(Level) % 2

    @property
    def batch(self) -> int:
        """The batch size."""
        return (3, 1)[self.seed // (2 * len(Level)) % 2]

    @property
    def beta(self) -> int:
        """The replication factor."""
        return (2, 4, 2)[self.seed % 3]


@dataclass(frozen=True)
class Row:
    """One setting, the distances of its pairs, and why it fails ("" where it does not)."""

    setting: Setting
    relative: tuple[float, ...] = ()
    strains: tuple[float, ...] = ()
    worst: str = ""
    seconds: float = 0.0
    failure: str = ""


def perform(setting: Setting) -> Row:
    """Build, export, compile and judge; whatever goes wrong comes back as the row's failure."""
    torch.set_num_threads(1)
    row = Row(setting)
    try:
        model = _exported(setting)
    except Exception as error:  # noqa: BLE001 - torch's exporters raise whatever they please; the table shows it
        return replace(row, failure=f"not exported: {_words(error)}")
    start = time.process_time()
    try:
        row = _judged(row, model)
    except (CompileError, Refusal) as error:
        row = replace(row, failure=f"refused: {_words(error)}")
    except Exception as error:  # noqa: BLE001 - a bug of the compiler is a failing row, and the other rows go on
        row = replace(row, failure=_words(error))
    return replace(row, seconds=time.process_time() - start)


def _exported(setting: Setting) -> onnx.ModelProto:
    network = models.build(setting.network, seed=setting.seed, size=setting.image)
    with tempfile.TemporaryDirectory(prefix="reptran-alarms-") as folder:
        file = Path(folder, "network.onnx")
        models.export(network, file, models.VARIANTS[setting.export])
        return retyped(onnx.load(str(file)), setting.dtype)


def _judged(row: Row, model: onnx.ModelProto) -> Row:
    setting, options = row.setting, Options(row.setting.beta)
    trial = try_source(model, batches=[setting.batch], threads=setting.threads)
    made = transform_source(model, options, trial)
    carry_annotations(model, made.result, trial, threads=setting.threads)
    found: Judgement = judge(
        model,
        made,
        options,
        batches=trial.batches,
        threads=setting.threads,
        seed=setting.seed,
        level=setting.level,
        retransform=lambda copy, _: transform_source(copy, options, trial),
    )
    distances = [each for report in found.reports for each in report.distances.values()]
    relative = tuple(each.relative for each in distances)
    missing = [name for report in found.reports for name in report.coverage.missing]
    failures = [*found.failures[:1], *(f"{name} was not compared" for name in missing[:1])]
    if setting.dtype == "float32" and max(relative, default=0.0) >= tolerance(np.float32):
        failures.append(f"{found.summary().worst_tensor}: off by {max(relative):.1e} of its largest value")
    strains = tuple(each.strain for each in distances if each.strain)
    return replace(row, relative=relative, strains=strains, failure="; ".join(failures))


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def run_apart(setting: Setting) -> Row:
    """`perform` in a process of its own, so that no setting leaves memory behind or takes the others with it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(perform, setting).result()
        except BrokenProcessPool:
            return Row(setting, failure="its process died")


def settings(networks: Sequence[str], seeds: int, paper: int, dtype: str = "float32") -> Iterator[Setting]:
    """All settings, network by network; small images as in `benchmarks.zoo --image 32`."""
    for name in networks:
        entry = models.ZOO[name]
        small = max(min(32, entry.size), entry.smallest)
        yield from (Setting(name, seed, small, dtype) for seed in range(seeds))
        if entry.paper_size != small:
            # Seeds of their own, so that levels, threads and batches are others, and never both batch 3.
            yield from (Setting(name, seed, entry.paper_size, dtype) for seed in _paper_seeds(paper))


def _paper_seeds(count: int) -> Iterator[int]:
    """Seeds of the second half of a covering design, which have batch 1, the first of them with every optimisation."""
    span = 4 * len(Level)
    yield from (span * (place // 10 + 1) - 1 - place % 10 for place in range(count))


# -- the table -----------------------------------------------------------------------------------------------

HEAD = ("network", "images", "judged", "refused", "pairs", "99 %", "worst", "strain, 99 %", "worst", "seconds")

EXPLANATION = """\
*judged*: compilations, each with weights, inputs, export, level of onnxruntime, threads and batch of its own;
*refused*: false alarms. *pairs*: tensors that were compared. *99 %*, *worst*: how far pairs are apart, of the tensor's
largest value; *strain*: the largest difference over what rounding may do at the element (docs/tolerances.md; more than
1 is refused), of pairs that are not equal to the bit. *seconds*: of one core, compiling and judging.
"""


def table(rows: Sequence[Row], command: str) -> str:
    """The rows in Markdown, a line for each network and one for all; refusals are listed below."""
    names = list(dict.fromkeys(row.setting.network for row in rows))
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for name in names:
        lines.append(_line(name, [row for row in rows if row.setting.network == name]))
    lines.append(_line("all", rows))
    failed = [row for row in rows if row.failure]
    refusals = [f"- {_title(row.setting)}: {row.failure}" for row in failed]
    head = f"{len(rows)} correct compilations judged, {len(failed)} refused. Made by `{command}`."
    return "\n".join(["# False alarms", "", head, "", EXPLANATION, *lines, "", _coverage(rows), "", *refusals, ""])


def _line(name: str, rows: Sequence[Row]) -> str:
    relative = [value for row in rows for value in row.relative]
    strains = [value for row in rows for value in row.strains]
    cells = [
        name,
        ", ".join(str(size) for size in sorted({row.setting.image for row in rows})),
        str(len(rows)),
        str(sum(bool(row.failure) for row in rows)),
        f"{len(relative):,}",
        *([f"{np.quantile(relative, 0.99):.1e}", f"{max(relative):.1e}"] if relative else ["", ""]),
        *([f"{np.quantile(strains, 0.99):.2f}", f"{max(strains):.2f}"] if strains else ["", ""]),
        f"{sum(row.seconds for row in rows):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _coverage(rows: Sequence[Row]) -> str:
    """How often what occurred."""
    columns = ("level", "threads", "batch", "export", "beta")
    parts = []
    for column in columns:
        values = [getattr(row.setting, column) for row in rows]
        texts = [value.value if isinstance(value, Level) else str(value) for value in values]
        parts.append(f"{column}: " + ", ".join(f"{text} {texts.count(text)}" for text in dict.fromkeys(texts)))
    return "Compilations by " + "; ".join(parts) + "."


def _title(setting: Setting) -> str:
    return (
        f"{setting.network} seed {setting.seed} ({setting.export}, image {setting.image}, beta {setting.beta}, "
        f"{setting.level.value}, {setting.threads} threads, batch {setting.batch})"
    )


# -- the program ---------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where a compilation is refused."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.false_alarms", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(models.ZOO), metavar="A,B", help="default: all")
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="with small images (default: 20)")
    parser.add_argument("--paper", type=int, default=2, metavar="N", help="with images as in the paper (default: 2)")
    parser.add_argument("--dtype", default="float32", choices=DTYPES, help="of all numbers (default: float32)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="compilations at a time (default: 1)")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="where rows are kept, for a run that goes on")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    options = parser.parse_args(words)
    networks = options.networks.split(",")
    for name in networks:
        if name not in models.ZOO:
            parser.error(f"there is no {name!r}: choose from {', '.join(models.ZOO)}")
    command = " ".join(["python -m benchmarks.false_alarms", *words])
    todo = list(settings(networks, options.seeds, options.paper, options.dtype))
    journal: Journal[Setting, Row] = Journal(options.resume)
    rows = [journal.rows[each] for each in todo if each in journal.rows]
    todo = [each for each in todo if each not in journal.rows]
    known, start = len(rows), time.perf_counter()
    with ThreadPoolExecutor(options.jobs) as pool:
        for row in pool.map(run_apart, todo):
            rows.append(row)
            journal.add(row.setting, row)
            left = (time.perf_counter() - start) / (len(rows) - known) * (known + len(todo) - len(rows)) / 60
            state = f"{_title(row.setting)}: {row.seconds:.1f} s, {row.failure or 'ok'}"
            print(f"{len(rows)}/{known + len(todo)} {state}; {left:.0f} min left", file=sys.stderr, flush=True)
            if options.output is not None:
                # Whole after every row: an interrupted run keeps what it has.
                write_bytes(table(rows, command).encode(), options.output)
    if options.output is None:
        print(table(rows, command))
    return int(any(row.failure for row in rows))


if __name__ == "__main__":
    sys.exit(main())
