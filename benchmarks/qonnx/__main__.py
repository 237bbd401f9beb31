"""QONNX networks, compiled and written as QONNX: executed and counted by qonnx itself.

    benchmarks/qonnx/run [--fixtures A,B] [--beta 2] [-o FILE]

makes qonnx' environment, writes one table, and ends with 1 where a row fails: qonnx' executor has to agree with
onnxruntime to 1e-5 of the largest output, and to count for every layer but the classifier the multiply-accumulates of
the source's, at no more bits: with fewer where the source's signs carry a scale, which qonnx counts as 32 bits."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from models.toolchains.fixtures import fixtures, load
from reptran_compiler.compiler import compile_model
from reptran_compiler.model.writing import write_bytes
from reptran_compiler.qonnx import standard_operators
from reptran_compiler.runtime import run

Array = NDArray[Any]

_SCRIPT = Path(__file__).with_name("executing.py")
#: How far qonnx' executor may be from onnxruntime, of the largest output.
_LIMIT = 1e-5


@dataclass(frozen=True)
class Layer:
    """What a layer costs: multiply-accumulates by operand types, and bit operations."""

    by_types: Mapping[str, int]
    bops: int

    @property
    def macs(self) -> int:
        """The multiply-accumulates of all types."""
        return sum(self.by_types.values())


@dataclass(frozen=True)
class Counted:
    """What qonnx says of one file.

    Attributes:
        error: how far its executor is from onnxruntime, of the largest output; the worse of as written and cleaned.
        layers: the layers in order.
    """

    error: float
    layers: tuple[Layer, ...]

    @property
    def bops(self) -> int:
        """The bit operations of all layers."""
        return sum(layer.bops for layer in self.layers)

    @property
    def types(self) -> str:
        """The operand types of all layers, each with its multiply-accumulates."""
        total: dict[str, int] = {}
        for layer in self.layers:
            for kind, count in layer.by_types.items():
                total[kind] = total.get(kind, 0) + count
        return ", ".join(f"{kind} {count:,}" for kind, count in total.items())


@dataclass(frozen=True)
class Row:
    """One file: the source, or what the compiler makes of it."""

    fixture: str
    form: str
    counted: Counted
    failure: str = ""


def rows(name: str, beta: int, python: str) -> list[Row]:
    """A fixture, and its compilations with either classifier."""
    fixture = load(name)
    (values,) = fixture.inputs.values()
    source = _counted(fixture.model, values, python)
    found = [Row(name, "source", source, _far(source))]
    for fc in ("widen", "fold"):
        made = compile_model(fixture.model, beta, fc=fc, emit="qonnx")
        counted = _counted(made.model, values, python)
        # The classifier is the last layer.
        pairs = enumerate(zip(source.layers[:-1], counted.layers[:-1], strict=True))
        dearer = [place for place, (old, new) in pairs if new.macs != old.macs or new.bops > old.bops]
        said = f"layers {dearer} cost more" if dearer else ""
        found.append(Row(name, f"beta {beta}, {fc}", counted, "; ".join(filter(None, (_far(counted), said)))))
    return found


def _far(counted: Counted) -> str:
    return "" if counted.error <= _LIMIT else f"qonnx differs from onnxruntime by {counted.error:.1e}"


def _counted(model: onnx.ModelProto, values: Array, python: str) -> Counted:
    with tempfile.TemporaryDirectory() as folder:
        place, inputs, result = Path(folder, "model.onnx"), Path(folder, "inputs.npz"), Path(folder, "result.json")
        onnx.save(model, place)
        np.savez(inputs, values)
        subprocess.run([python, _SCRIPT, place, inputs, result], check=True, capture_output=True)
        found = json.loads(result.read_text())
    plain = standard_operators(model)
    stored = {tensor.name for tensor in plain.graph.initializer}
    (name,) = (value.name for value in plain.graph.input if value.name not in stored)
    (expected,) = run(plain, {name: values}).values()
    error = max(float(np.abs(np.array(found[key]) - expected).max()) for key in ("outputs", "cleaned"))
    layers = tuple(Layer(_by_types(each), int(each["total_bops"])) for each in found["layers"])
    return Counted(error / float(np.abs(expected).max()), layers)


def _by_types(costs: Mapping[str, Any]) -> dict[str, int]:
    prefix = "op_mac_"
    return {key[len(prefix) :]: int(count) for key, count in costs.items() if key.startswith(prefix)}


def table(found: Sequence[Row], command: str) -> str:
    """A Markdown table, and the command that makes it."""
    head = [
        "network",
        "file",
        "qonnx' executor against onnxruntime",
        "MACs by operand types, as qonnx counts",
        "BOPs of the classifier",
        "BOPs of all other layers",
        "as it has to be",
    ]
    lines = [f"Made by `{command}`.", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in found:
        last = row.counted.layers[-1].bops
        error, rest = f"{row.counted.error:.1e}", f"{row.counted.bops - last:,}"
        cells = [row.fixture, row.form, error, row.counted.types, f"{last:,}", rest, row.failure or "yes"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where a row fails."""
    parser = argparse.ArgumentParser(prog="benchmarks/qonnx/run", description=__doc__.splitlines()[0])
    parser.add_argument("--python", required=True, metavar="FILE", help="the interpreter that has qonnx")
    parser.add_argument("--fixtures", metavar="A,B", help="default: all of Brevitas")
    parser.add_argument("--beta", type=int, default=2, metavar="B", help="the replication factor (default: 2)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    options = parser.parse_args(arguments)
    known = [name for name in fixtures() if name.startswith("brevitas/")]
    names = options.fixtures.split(",") if options.fixtures else known
    found = []
    for name in names:
        found += rows(name, options.beta, options.python)
        print(f"{name}: {'; '.join(row.failure for row in found[-3:] if row.failure) or 'ok'}", file=sys.stderr)
    written = table(found, f"benchmarks/qonnx/run --beta {options.beta}")
    if options.output is None:
        print(written)
    else:
        write_bytes(written.encode(), options.output)
    return int(any(row.failure for row in found))


if __name__ == "__main__":
    sys.exit(main())
