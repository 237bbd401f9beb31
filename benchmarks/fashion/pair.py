"""The trained pair that is kept: how many of the 10,000 test images each of its forms has right, by onnxruntime.

    python -m benchmarks.fashion.pair [--data DIR] [-o FILE]

The original and the Rep network that was compiled from it and trained are `models/files/fashion-recu.onnx` and
`fashion-recu-rep.onnx`.  What is between them is made anew: the original is compiled, its statistics are measured by
`reptran-calibrate`; and the trained Rep network is lowered, its weights packed to a bit each.  Everything that is
written is verified.  Nothing is downloaded."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto

from benchmarks.fashion.runs import DATA, accuracy, images
from benchmarks.fashion.settings import Budget
from reptran_compiler import compile_model
from reptran_compiler.cli.calibrate import main as calibrate
from reptran_compiler.costs import CostReport, count
from reptran_compiler.errors import BadInput
from reptran_compiler.model.writing import write_bytes
from reptran_compiler.provenance import recorded_beta
from reptran_compiler.training.data import Dataset

_FILES = Path(__file__).resolve().parents[2] / "models" / "files"
#: The original, as it was trained, and the Rep network that was compiled from it and trained.
ORIGINAL, REP = _FILES / "fashion-recu.onnx", _FILES / "fashion-recu-rep.onnx"


@dataclass(frozen=True)
class Form:
    """A network on the way from the original to what is deployed.

    Attributes:
        words: what it is.
        accuracy: the share of the test images that onnxruntime has right.
        costs: parameters and multiply-accumulates; None of one that was lowered, which are those of what it came from.
        size: bytes of the file.
    """

    words: str
    accuracy: float
    costs: CostReport | None
    size: int

    @classmethod
    def of(cls, words: str, model: ModelProto, data: Dataset, lowered: bool = False) -> Form:
        """A network, measured."""
        return cls(words, accuracy(model, data), None if lowered else count(model), len(model.SerializeToString()))


def forms(folder: Path) -> list[Form]:
    """The pair, and what is made of it, in the order in which one comes of the other.

    Args:
        folder: where the data set is.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    data = images(folder, Budget())
    original, trained = onnx.load(str(ORIGINAL)), onnx.load(str(REP))
    beta = int(recorded_beta(trained) or 1)
    found = [Form.of("original", original, data)]
    with tempfile.TemporaryDirectory(prefix="reptran-pair-") as place:
        compiled, measured = Path(place, "compiled.onnx"), Path(place, "calibrated.onnx")
        found.append(Form.of(f"compiled, beta {beta}", compile_model(original, beta, output=compiled).model, data))
        code = calibrate([str(compiled), "--data", str(folder), "-o", str(measured), "-q"])
        if code:
            raise BadInput(f"reptran-calibrate ended with {code}")
        found.append(Form.of("calibrated", onnx.load(str(measured)), data))
    found.append(Form.of("trained", trained, data))
    deployed = compile_model(trained, 1, optimize="auto", weights="packed").model
    found.append(Form.of("trained, lowered and packed", deployed, data, lowered=True))
    return found


def table(found: Sequence[Form]) -> str:
    """Forms of the pair, in Markdown."""
    lines = [
        "# A trained original and its Rep network on Fashion-MNIST",
        "",
        "Made by `python -m benchmarks.fashion.pair`: per cent of the 10,000 test images that onnxruntime has right.",
        "",
        "| network | right | weights of convolutions | their MACs | bytes of the file |",
        f"|{'---|' * 5}",
    ]
    for form in found:
        layers = [each for each in form.costs.layers if each.op == "Conv"] if form.costs else []
        costs = [f"{sum(counts):,}" for counts in ([e.weights for e in layers], [e.macs for e in layers])]
        cells = [form.words, f"{100 * form.accuracy:.2f}", *(costs if layers else ["", ""]), f"{form.size:,}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 where the data cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fashion.pair", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="default: %(default)s")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    options = parser.parse_args(arguments)
    try:
        text = table(forms(options.data))
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    if options.output is None:
        print(text, end="")
    else:
        write_bytes(text.encode(), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
