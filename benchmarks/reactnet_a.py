"""ReactNet-A against the published table, to the unit: THEORY section 1, kind by kind, both columns.

    python -m benchmarks.reactnet_a [--variants V,W]

exports the network at 224 px from the two exports that fuse nothing, compiles each with `--bn keep` at beta 2, and
compares the numbers of the JSON report with the table, which was counted from the authors' code. It ends with 1
where one differs."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import models
from reptran_compiler.compiler import CompileError, Refusal, compile_model

#: The exports in which every number of the table is still to be seen.
UNFUSED = ("dynamo-unoptimized", "torchscript-unfolded")


@dataclass(frozen=True)
class Expected:
    """One number of the table: where the report has it, and what it is before and after.

    `section` is a key of a side of the report's costs; `kind` a key in there, None where the section is a number.
    """

    what: str
    section: str
    kind: str | None
    before: int
    after: int

    def found(self, side: dict[str, Any]) -> int | float | None:
        """The number on one side ("before" or "after") of the report's costs; None where there is none."""
        value: Any = side[self.section] if self.kind is None else side[self.section].get(self.kind)
        return value if isinstance(value, (int, float)) else None


TABLE = (
    Expected("stem convolution", "parameters", "stem_weights", 864, 864),
    Expected("BN affine behind the stem", "parameters", "stem_affine", 64, 64),
    Expected("BN statistics behind the stem", "parameters", "stem_statistics", 64, 64),
    Expected("binary 3x3 weights", "parameters", "binary_weights_3x3", 25_113_600, 25_113_600),
    Expected("binary 1x1 weights", "parameters", "binary_weights_1x1", 3_139_584, 3_139_584),
    Expected("body BN affine", "parameters", "bn_affine", 21_824, 43_648),
    Expected("body BN statistics", "parameters", "bn_statistics", 21_824, 43_648),
    Expected("PRelu slopes", "parameters", "prelu_slopes", 10_912, 21_824),
    Expected("learnable biases", "parameters", "learnable_biases", 31_744, 63_488),
    Expected("classifier weights", "parameters", "classifier_weights", 1_024_000, 2_048_000),
    Expected("classifier bias", "parameters", "classifier_bias", 1_000, 1_000),
    Expected("trainable, in all", "trainable", None, 29_343_592, 30_432_072),
    Expected("binary 3x3 MACs", "macs", "binary_3x3", 4_277_403_648, 4_277_403_648),
    Expected("binary 1x1 MACs", "macs", "binary_1x1", 539_492_352, 539_492_352),
    Expected("stem MACs", "macs", "stem", 10_838_016, 10_838_016),
    Expected("classifier MACs", "macs", "classifier", 1_024_000, 2_048_000),
    Expected("OPs", "ops", None, 87_126_016, 88_150_016),
    Expected("per-element work", "per_element_work", None, 29_378_048, 58_354_688),
)

#: ReActNet-A's binary layers: a 3x3 in each of 13 blocks, and a 1x1, or two in the 5 that double the width.
REPCONVS = 13 + 8 + 2 * 5

#: Counted in the report, and no part of the table: the source derives these from the weights.
DERIVED = frozenset({"factored_scales"})


@dataclass(frozen=True)
class Comparison:
    """One line of the answer: `expected` is None where the table does not know what was found."""

    what: str
    side: str
    expected: int | None
    found: int | float | None

    @property
    def ok(self) -> bool:
        """Whether it is the same number."""
        return self.expected == self.found


def compare(costs: dict[str, Any]) -> Iterator[Comparison]:
    """The costs of a JSON report against the table, both columns; then every kind that the table lacks."""
    known = {(row.section, row.kind) for row in TABLE}
    for side in ("before", "after"):
        for row in TABLE:
            yield Comparison(row.what, side, getattr(row, side), row.found(costs[side]))
        for section in ("parameters", "macs"):
            for kind, number in costs[side][section].items():
                if (section, kind) not in known and kind not in DERIVED:
                    yield Comparison(f"{section}: {kind}", side, None, number)


def invariance(document: dict[str, Any]) -> Iterator[Comparison]:
    """How many RepConvs there are, and how many have their own weights in rule 1's order and as many MACs."""
    layers = [row for row in document["layers"] if row["role"] == "repconv"]
    yield Comparison("RepConvs", "after", REPCONVS, len(layers))
    moved = sum(bool(row["rearranged"]) for row in layers)
    yield Comparison("  weights moved, none changed", "after", REPCONVS, moved)
    for what, key in (("  equal number of weights", "weights"), ("  equal MACs", "macs")):
        equal = sum(row[f"source_{key}"] == row[f"result_{key}"] is not None for row in layers)
        yield Comparison(what, "after", REPCONVS, equal)


def report_of(variant: str) -> dict[str, Any]:
    """Export ReactNet-A, compile it, and read the JSON report.

    Raises:
        CompileError, Refusal: the compiler does not take the export, or its result is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="reptran-reactnet-a-") as folder:
        file, report = Path(folder, "reactnet-a.onnx"), Path(folder, "report.json")
        models.export(models.build("reactnet-a", size=224), file, models.VARIANTS[variant])
        compile_model(file, 2, bn="keep", report_file=report)
        document: dict[str, Any] = json.loads(report.read_text())
    return document


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where a number is not the table's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reactnet_a", description=__doc__.splitlines()[0])
    parser.add_argument("--variants", default=",".join(UNFUSED), metavar="V,W", help="default: %(default)s")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    wrong = 0
    for variant in options.variants.split(","):
        print(f"ReactNet-A, {variant}, 224 px, beta 2, --bn keep")
        try:
            document = report_of(variant)
        except (CompileError, Refusal) as error:
            print(f"  FAILED  {error}\n")
            wrong += 1
            continue
        found = document["verification"]
        print(f"  verified: {found['pairs_compared']} of {found['pairs_required']} pairs, {found['worst_error']:.1e}")
        for line in (*compare(document["costs"]), *invariance(document)):
            wrong += not line.ok
            state = "ok" if line.ok else "DIFFERS"
            expected, number = _words(line.expected), _words(line.found)
            print(f"  {state:8}{line.what:34}{line.side:7} expected {expected:>14}  found {number:>14}")
        print()
    print("every number is the table's" if not wrong else f"{wrong} differ")
    return int(wrong > 0)


def _words(number: int | float | None) -> str:
    return "none" if number is None else f"{number:,}"


if __name__ == "__main__":
    sys.exit(main())
