"""How small a mistake the judge sees: one number of one parameter, off by less and less of itself.

    python -m benchmarks.sensitivity [--network NAME] [--dtype float32] [--parameters 12] [--seed 0] [-o FILE]

compiles a network of the zoo, takes parameters of the result by chance (every per-channel operator and the classifier
alike), multiplies one of their numbers by 1 + d, and looks for the smallest d = 2^-k at which the judge still refuses
the result.  Ends with 1 where a number that is twice what it should be is accepted.  What such a number may do to a
tensor is small where its channel is; so the table says how large the number is, of the parameter's largest."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, numpy_helper

import models
from benchmarks.retyping import DTYPES, retyped
from reptran_compiler.model.writing import write_bytes
from reptran_compiler.pipeline import Options, transform
from reptran_compiler.verification import SpecOptions, check_law

BETA = 2
#: Mistakes are at most 2^0 and at least 2^-SMALLEST of a number.
SMALLEST = 24
_OPERATORS = ("Mul", "Add", "Sub", "PRelu", "Gemm", "MatMul", "BatchNormalization")


@dataclass(frozen=True)
class Row:
    """One number of a parameter.

    Attributes:
        parameter: the stored tensor.
        op: the operator that reads it.
        share: how large the number is, of the parameter's largest.
        seen: the smallest k for which a number off by 2^-k of itself is seen, by how far one gets; None where even a
            number twice as large is not.
    """

    parameter: str
    op: str
    share: float
    seen: int | None


def measure(network: str, dtype: str, count: int, seed: int) -> list[Row]:
    """The rows of a network of the zoo."""
    with tempfile.TemporaryDirectory(prefix="reptran-sensitivity-") as folder:
        file = Path(folder, "network.onnx")
        models.export(models.build(network, seed=seed), file, models.VARIANTS["torchscript"])
        made = transform(retyped(onnx.load(str(file)), dtype), Options(BETA))
    rows = []
    random = np.random.default_rng(seed)
    places = _parameters(made.result)
    for number, chosen in enumerate(random.permutation(len(places))[:count]):
        name, op = places[int(chosen)]
        rows.append(_row(made.canonical, made.result, name, op, random))
        print(f"{number + 1}/{min(count, len(places))} {op} {name}: 2^-{rows[-1].seen}", file=sys.stderr, flush=True)
    return rows


def _parameters(model: ModelProto) -> list[tuple[str, str]]:
    """The stored parameters of the operators concerned, with more than one number, and who reads them."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, str] = {}
    for node in model.graph.node:
        for name in node.input:
            tensor = stored.get(name)
            if node.op_type in _OPERATORS and tensor is not None and int(np.prod(tensor.dims)) > 1:
                found.setdefault(name, node.op_type)
    return list(found.items())


def _row(canonical: ModelProto, result: ModelProto, name: str, op: str, random: np.random.Generator) -> Row:
    place = next(number for number, tensor in enumerate(result.graph.initializer) if tensor.name == name)
    values = numpy_helper.to_array(result.graph.initializer[place])
    at = int(random.integers(values.size))
    share = float(np.abs(values.reshape(-1)[at]) / np.abs(values).max())
    low, high = -1, SMALLEST + 1  # 2^-low is seen (or nothing is known), 2^-high is not
    while high - low > 1:
        middle = (low + high) // 2
        wrong = ModelProto()
        wrong.CopyFrom(result)
        changed = values.copy()
        changed.reshape(-1)[at] *= 1 + 2.0**-middle
        wrong.graph.initializer[place].CopyFrom(numpy_helper.from_array(changed, name))
        seen = not check_law(canonical, wrong, SpecOptions(BETA), batches=[2]).ok
        low, high = (middle, high) if seen else (low, middle)
    return Row(name, op, share, low if low >= 0 else None)


def table(rows: Sequence[Row], command: str) -> str:
    """The rows in Markdown, the largest mistake that passes first."""
    lines = ["| parameter | operator | its number, of the largest | smallest mistake seen |", "|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: (-1 if row.seen is None else row.seen, row.parameter)):
        seen = "none" if row.seen is None else f"{2.0**-row.seen:.1e} of it"
        lines.append(f"| {row.parameter} | {row.op} | {row.share:.2g} | {seen} |")
    return "\n".join(["# The smallest mistakes that are seen", "", f"Made by `{command}`.", "", *lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where a number twice what it should be is accepted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sensitivity", description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="reactnet-tiny", choices=list(models.ZOO))
    parser.add_argument("--dtype", default="float32", choices=DTYPES, help="of all numbers (default: float32)")
    parser.add_argument("--parameters", type=int, default=12, metavar="N", help="how many (default: 12)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and choices (default: 0)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    rows = measure(options.network, options.dtype, options.parameters, options.seed)
    text = table(rows, " ".join(["python -m benchmarks.sensitivity", *words]))
    if options.output is None:
        print(text)
    else:
        write_bytes(text.encode(), options.output)
    return int(any(row.seen is None for row in rows))


if __name__ == "__main__":
    sys.exit(main())
