"""ONNX to torch and back: every network of the zoo and every file of another toolchain, as it is and as Rep networks.

    python -m benchmarks.round_trip [--networks A,B] [--beta 2] [--variant V] [--jobs N]
        [--resume FILE] [-o FILE]

reads each with `to_torch`, compares the torch network with onnxruntime tensor by tensor, writes it with `to_onnx`, and
compares again.  A Rep network that was written has to pass `reptran-verify`, with its values and as a retrained one; an
original is compiled again, and the result verified against the file that it came from.  Costs have to be equal to the
unit.  It ends with 1 where a row fails; an interrupted run goes on from the rows that `--resume` keeps."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import onnx
from onnx import ModelProto

from benchmarks.journal import Journal
from models import VARIANTS, ZOO, build, export
from models.toolchains.fixtures import fixtures, load
from reptran_compiler import compile_model
from reptran_compiler.costs import count
from reptran_compiler.gate import verify_pair
from reptran_compiler.model.writing import write_bytes
from reptran_compiler.training import Agreement, agreement, to_onnx, to_torch

#: The forms that are read and written: by name, the options of the compilation; None for the original.
FORMS: tuple[tuple[str, dict[str, str] | None], ...] = (
    ("original", None),
    ("Rep", {}),
    ("Rep, --bn keep", {"bn": "keep"}),
    ("Rep, --weights binary", {"weights": "binary"}),
    ("Rep, --scope layer", {"scope": "layer"}),
)


@dataclass(frozen=True)
class Row:
    """One form of one network.

    Attributes:
        network: its name.
        form: original or Rep, with the options.
        parameters: how many tensors are trained.
        tensors: how many were compared.
        read: how far torch is from onnxruntime on what was read, of the tensor's largest value.
        written: on what was written.
        failure: what is not as it has to be; "" where everything is.
    """

    network: str
    form: str
    parameters: int = 0
    tensors: int = 0
    read: float = 0.0
    written: float = 0.0
    failure: str = ""


def perform(network: str, beta: int, variant: str) -> list[Row]:
    """All forms of one network, one of the zoo exported as `models.VARIANTS` says."""
    model = _model(network, variant)
    return [_row(network, form, options, model, beta) for form, options in FORMS]


def _model(network: str, variant: str) -> ModelProto:
    if network in ZOO:
        with tempfile.TemporaryDirectory() as folder:
            return onnx.load(str(export(build(network), Path(folder) / "model.onnx", VARIANTS[variant])))
    return load(network).model


def _row(network: str, form: str, options: dict[str, str] | None, source: ModelProto, beta: int) -> Row:
    try:
        given = source if options is None else _compiled(source, beta, options)
        read = to_torch(given)
        there = agreement(read, read.blueprint.model)
        written = to_onnx(read)
        back = agreement(read, written)
        failures = [*_apart(there, back), *_costs(read.blueprint.model, written)]
        failures += _verified(source, written, options, beta)
        parameters = len(list(read.parameters()))
        return Row(network, form, parameters, there.compared, there.worst, back.worst, "; ".join(failures))
    except Exception as error:  # noqa: BLE001 - a refusal or a bug is a failing row, and the other rows go on
        return Row(network, form, failure=f"{type(error).__name__}: {' '.join(str(error).split())}")


def _compiled(source: ModelProto, beta: int, options: dict[str, str]) -> ModelProto:
    # Not verified yet: what it becomes in torch and back is.
    return compile_model(source, beta, verify=False, **options).model  # type: ignore[arg-type]


def _apart(*agreements: Agreement) -> Iterator[str]:
    for what, found in zip(("what was read", "what was written"), agreements, strict=True):
        if not found.share <= 1:
            yield f"torch and onnxruntime differ by {found.worst:.1e} on {what}, at {found.tensor!r}"


def _costs(before: ModelProto, after: ModelProto) -> Iterator[str]:
    if count(before) != count(after):
        yield "costs differ"


def _verified(source: ModelProto, written: ModelProto, options: dict[str, str] | None, beta: int) -> Iterator[str]:
    rep = _compiled(written, beta, {}) if options is None else written
    modes = (True,) if options is None else (False, True)
    for retrained in modes:
        checked = verify_pair(source, rep, retrained=retrained)
        if not checked.passed:
            yield f"reptran-verify{' --retrained' if retrained else ''}: {checked.failures[0]}"


def table(rows: Sequence[Row], command: str) -> str:
    """The rows in Markdown."""
    failed = sum(bool(row.failure) for row in rows)
    head = "| network | form | parameters | tensors compared | read | written | result |"
    lines = ["# From ONNX to torch and back", "", f"Made by `{command}`.", ""]
    lines += [f"{len(rows)} round trips, {len(rows) - failed} pass, {failed} fail.", ""]
    lines += ["*read*, *written*: how far torch is from onnxruntime on the file that was read and on the one that was"]
    lines += ["written, with the binarisations of one forced on the other, of a tensor's largest value.", ""]
    lines += [head, f"|{'---|' * 7}"]
    for row in rows:
        cells = astuple(row)
        shown = [*map(str, cells[:4]), f"{row.read:.1e}", f"{row.written:.1e}", row.failure.replace("|", "/") or "ok"]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where a row fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.round_trip", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default="", metavar="A,B", help="networks, or fixtures (default: all)")
    parser.add_argument("--beta", type=int, default=2, metavar="B", help="default: %(default)s")
    parser.add_argument(
        "--variant", choices=list(VARIANTS), default="dynamo", help="of the zoo's exports (%(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="networks at a time (%(default)s)")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="keep rows in FILE, and go on from there")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(given)
    known = [*ZOO, *fixtures()]
    chosen = options.networks.split(",") if options.networks else known
    for name in chosen:
        if name not in known:
            parser.error(f"there is no {name!r}: choose from {', '.join(known)}")
    one = partial(perform, beta=options.beta, variant=options.variant)
    journal: Journal[tuple[str, int, str], list[Row]] = Journal(options.resume)
    keys = {name: (name, options.beta, options.variant) for name in chosen}
    waiting = [name for name in chosen if keys[name] not in journal.rows]
    start = time.perf_counter()
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for number, (name, found) in enumerate(zip(waiting, pool.map(one, waiting), strict=True), 1):
            journal.add(keys[name], found)
            bad = [f"{row.form}: {row.failure}" for row in found if row.failure]
            left = (time.perf_counter() - start) / number * (len(waiting) - number) / 60
            state = f"{number}/{len(waiting)} {name}: {'; '.join(bad) or 'ok'}"
            print(f"{state}, about {left:.0f} min left", file=sys.stderr, flush=True)
    rows = [row for name in chosen for row in journal.rows[keys[name]]]
    text = table(rows, " ".join(["python -m benchmarks.round_trip", *given]))
    if options.output is None:
        print(text)
    else:
        write_bytes(text.encode(), options.output)
    return int(any(row.failure for row in rows))


if __name__ == "__main__":
    sys.exit(main())
