"""Models above 2 GB: compiled, verified, written and loaded again; seconds and peak memory of each.

    python -m benchmarks.large [--gigabytes G] [--forms A,B] [--folder DIR] [-o FILE]

writes one table, a row for each form of the model, and ends with 1 where a row fails.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from reptran_compiler.model.writing import write_bytes

_ROOT = Path(__file__).parents[1]

LAYERS = 14
#: Height and width of the image.
IMAGE = 4
CLASSES = 1000

Draw = Callable[[int, tuple[int, ...]], NDArray[np.float32]]


def latent(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Real-valued weights whose signs are the layer's."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def stored(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Weights of one magnitude per filter, as exporters store binary ones."""
    draw = np.random.default_rng(seed)
    signs = draw.integers(0, 2, shape, dtype=np.int8).astype(np.float32)
    signs *= 2
    signs -= 1
    scales = draw.uniform(0.01, 0.1, (shape[0], *[1] * (len(shape) - 1))).astype(np.float32)
    signs *= scales
    return signs


#: The forms of a model: how its weights are drawn, and whether their signs are taken in the graph.
FORMS: dict[str, tuple[Draw, bool]] = {"latent weights": (latent, True), "stored binary weights": (stored, False)}


class _Weights:
    """A file with tensors, which is written as they are drawn."""

    def __init__(self, path: Path, graph: GraphProto) -> None:
        self._path, self._graph = path, graph

    def add(self, name: str, values: NDArray[np.float32]) -> str:
        """Store a tensor, outside of the model where it is large; its name."""
        if values.nbytes < 1 << 16:
            self._graph.initializer.append(numpy_helper.from_array(values, name))
            return name
        with self._path.open("ab") as file:
            offset = file.tell()
            values.tofile(file)
        tensor = self._graph.initializer.add(name=name, data_type=TensorProto.FLOAT, dims=values.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self._path.name), ("offset", offset), ("length", values.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        return name


def build(path: Path, gigabytes: float, form: str) -> int:
    """Write a binary network of a size, with external data; the number of bytes.

    A real-valued stem, `LAYERS` binary 3x3 convolutions of one width with BatchNormalization and shortcuts, and a
    classifier, on images of `IMAGE` x `IMAGE`.

    Args:
        path: the model's file; its data is beside it.
        gigabytes: how much its weights take, about.
        form: one of `FORMS`.
    """
    draw, signs = FORMS[form]
    width = 16 * max(1, round(math.sqrt(gigabytes * 1e9 / (4 * 9 * LAYERS)) / 16))
    graph = GraphProto(name="large")
    data = path.with_name(path.name + ".weights")
    data.unlink(missing_ok=True)
    weights = _Weights(data, graph)
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, IMAGE, IMAGE]))
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES]))
    stem = weights.add("stem.weight", latent(0, (width, 3, 3, 3)))
    graph.node.append(helper.make_node("Conv", ["image", stem], ["map0"], "stem", pads=[1] * 4))
    for number in range(1, LAYERS + 1):
        weight = weights.add(f"layer{number}.weight", draw(number, (width, width, 3, 3)))
        nodes = [helper.make_node("Sign", [f"map{number - 1}"], [f"signs{number}"], f"sign{number}")]
        if signs:
            nodes.append(helper.make_node("Sign", [weight], [f"binary{number}"], f"binarise{number}"))
            weight = f"binary{number}"
        read, made = [f"signs{number}", weight], [f"sum{number}"]
        nodes.append(helper.make_node("Conv", read, made, f"layer{number}", pads=[1] * 4))
        random = np.random.default_rng(1000 + number)
        norm = {"scale": (0.5, 1.5), "bias": (-0.5, 0.5), "mean": (-5, 5), "variance": (500, 1500)}
        names = [
            weights.add(f"norm{number}.{what}", random.uniform(*span, width).astype(np.float32))
            for what, span in norm.items()
        ]
        nodes.append(helper.make_node("BatchNormalization", [*made, *names], [f"norm{number}"], f"norm{number}"))
        nodes.append(helper.make_node("Add", [f"norm{number}", f"map{number - 1}"], [f"map{number}"], f"add{number}"))
        graph.node.extend(nodes)
    classifier = weights.add("classifier.weight", latent(2000, (CLASSES, width)))
    graph.node.append(helper.make_node("GlobalAveragePool", [f"map{LAYERS}"], ["pooled"], "pool"))
    graph.node.append(helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"))
    graph.node.append(helper.make_node("Gemm", ["flat", classifier], ["logits"], "classifier", transB=1))
    model = ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)], graph=graph)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path.stat().st_size + data.stat().st_size


@dataclass(frozen=True)
class Measured:
    """A process that ended: its exit code, wall-clock seconds, peak resident bytes, and what it said last."""

    code: int
    seconds: float
    peak: int
    said: str


def measure(words: Sequence[str], folder: Path) -> Measured:
    """Run a command in a folder."""
    paths = os.pathsep.join(str(_ROOT / name) for name in (".", "passes"))
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, cwd=folder, stdout=said, stderr=said, env={**os.environ, "PYTHONPATH": paths})
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
    return Measured(os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss * 1024, lines[-1] if lines else "")


@dataclass(frozen=True)
class Row:
    """One model, how it was compiled, and what came of it.

    Attributes:
        form: of the model.
        way: the command, or the function with a model in memory.
        size: bytes of the model, external data included.
        measured: the process that compiled it.
        written: bytes of the result.
        failure: what was not as it has to be, "" where nothing.
    """

    form: str
    way: str
    size: int
    measured: Measured
    written: int
    failure: str


_COMMAND = "reptran-compile --external-data"
_FUNCTION = "compile_model(ModelProto)"
_PROGRAM = """\
import onnx
from reptran_compiler import compile_model
assert compile_model(onnx.load("in.onnx"), output="out.onnx", external_data=True).verified
"""
_LOADING = """\
import sys, numpy, onnxruntime
settings = onnxruntime.SessionOptions()
settings.intra_op_num_threads = 1
settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
session = onnxruntime.InferenceSession("out.onnx", settings, providers=["CPUExecutionProvider"])
(value,) = session.get_inputs()
(found,) = session.run(None, {value.name: numpy.ones([1, *value.shape[1:]], numpy.float32)})
assert found.size and numpy.isfinite(found).all() and found.std() > 0, found
"""


def perform(folder: Path, form: str, way: str, gigabytes: float) -> Row:
    """Build a model, compile it in a process of its own with verification, and load the result in onnxruntime.

    Args:
        folder: an empty folder.
        form: one of `FORMS`.
        way: the command or the function, by name.
        gigabytes: the size.
    """
    size = build(folder / "in.onnx", gigabytes, form)
    words = ["-m", "reptran_compiler", "in.onnx", "-o", "out.onnx", "--external-data"]
    found = measure([sys.executable, *(words if way == _COMMAND else ("-c", _PROGRAM))], folder)
    made = [path for path in folder.iterdir() if path.name.startswith("out.onnx")]
    failure = f"exit code {found.code}: {found.said}" if found.code else ""
    if not failure and (len(made) != 2 or len(list(folder.iterdir())) != 4):
        failure = f"files: {sorted(path.name for path in folder.iterdir())}"
    if not failure:
        loaded = measure([sys.executable, "-c", _LOADING], folder)
        failure = f"the result is not loaded: {loaded.said}" if loaded.code else ""
    return Row(form, way, size, found, sum(path.stat().st_size for path in made), failure)


HEAD = ("model", "compiled by", "its GB", "seconds", "peak GB", "peak / size", "result GB", "result")

EXPLANATION = f"""\
Binary networks of {LAYERS} wide 3x3 convolutions on {IMAGE} x {IMAGE} images, all weights in external data; beta 2,
verified, written with external data, and loaded again in onnxruntime. *latent weights*: real-valued, their signs are
taken in the graph. *stored binary weights*: one magnitude per filter in the file, factored out by the compiler.
*peak GB*: the largest resident memory of the process that compiled (`ru_maxrss`), pages of mapped files included,
which the system can take back; with a model in memory, that model and the result that is given back are part of it.
GB are 10^9 bytes.
"""


def table(rows: Sequence[Row], command: str) -> str:
    """The rows in Markdown."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for row in rows:
        found = row.measured
        numbers = [row.size / 1e9, found.seconds, found.peak / 1e9, found.peak / row.size, row.written / 1e9]
        cells = [f"{number:.2f}" for number in numbers]
        lines.append(f"| {' | '.join([row.form, row.way, *cells, row.failure.replace('|', ' ') or 'ok'])} |")
    return "\n".join(["# Large models", "", f"Made by `{command}`.", "", EXPLANATION, *lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where a row fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.2, metavar="G", help="size of the models (default: 2.2)")
    parser.add_argument("--forms", default=",".join(FORMS), metavar="A,B", help="default: all")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where there is room for about 5 times the size")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    options = parser.parse_args(arguments)
    forms = options.forms.split(",")
    for form in forms:
        if form not in FORMS:
            parser.error(f"there is no {form!r}: choose from {', '.join(FORMS)}")
    tasks = [(form, _COMMAND) for form in forms] + [(forms[0], _FUNCTION)]
    words = sys.argv[1:] if arguments is None else list(arguments)
    title = shlex.join(["python", "-m", "benchmarks.large", *words])
    rows: list[Row] = []
    begun = time.perf_counter()
    for number, (form, way) in enumerate(tasks, 1):
        with tempfile.TemporaryDirectory(prefix="reptran-large-", dir=options.folder) as folder:
            rows.append(perform(Path(folder), form, way, options.gigabytes))
        left = (time.perf_counter() - begun) / number * (len(tasks) - number)
        state = f"{rows[-1].measured.seconds:.0f} s, {rows[-1].failure or 'ok'}"
        print(f"[{number}/{len(tasks)}, {left:.0f} s left] {form}, {way}: {state}", file=sys.stderr, flush=True)
    if options.output is None:
        print(table(rows, title))
    else:
        write_bytes(table(rows, title).encode(), options.output)
    return int(any(row.failure for row in rows))


if __name__ == "__main__":
    sys.exit(main())
