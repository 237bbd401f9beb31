"""Compile time and memory by bytes: models above 2 GB and ReActNet-A, with and without verification, and bare copies.

    python -m benchmarks.large [--gigabytes G] [--forms A;B] [--folder DIR] [-o FILE]

writes one table, a row for each model and way, and ends with 1 where a row fails: every result is loaded again.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from benchmarks.machine import machine
from models import build as network
from models import export
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
    """A process that ended.

    Attributes:
        code: its exit code.
        seconds: wall-clock seconds.
        cpu: seconds of processor time.
        peak: the most resident bytes, pages of mapped files included.
        anonymous: the most resident bytes that no file has: what is beyond the page cache. Sampled; 0 where the system
            does not tell.
        said: the last line that it printed.
    """

    code: int
    seconds: float
    cpu: float
    peak: int
    anonymous: int
    said: str


def measure(words: Sequence[str], folder: Path) -> Measured:
    """Run a command in a folder."""
    paths = os.pathsep.join(str(_ROOT / name) for name in (".", "passes"))
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, cwd=folder, stdout=said, stderr=said, env={**os.environ, "PYTHONPATH": paths})
        ended, anonymous = threading.Event(), [0]
        watcher = threading.Thread(target=_watch, args=(process.pid, ended, anonymous))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        ended.set()
        watcher.join()
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
    cpu = usage.ru_utime + usage.ru_stime
    last = lines[-1] if lines else ""
    return Measured(os.waitstatus_to_exitcode(status), seconds, cpu, usage.ru_maxrss * 1024, max(anonymous), last)


def _watch(process: int, ended: threading.Event, anonymous: list[int]) -> None:
    """Note how many resident bytes of a process no file has, every few milliseconds until it has ended."""
    place = Path(f"/proc/{process}/status")
    while not ended.wait(_INTERVAL):
        with suppress(OSError, ValueError, KeyError):
            lines = (line.split(":") for line in place.read_text().splitlines() if line.startswith("Rss"))
            sizes = {key: 1024 * int(value.split()[0]) for key, value in lines}
            anonymous.append(sizes["RssAnon"] + sizes["RssShmem"])


@dataclass(frozen=True)
class Row:
    """One model, what was done with it, and what came of it.

    Attributes:
        form: of the model.
        way: one of `WAYS`.
        size: bytes of the model, external data included.
        measured: the process.
        net, waited: its processor time and its wall-clock seconds after imports.
        written: bytes of the result.
        failure: what was not as it has to be, "" where nothing.
    """

    form: str
    way: str
    size: int
    measured: Measured
    net: float
    waited: float
    written: int
    failure: str


#: Seconds between two looks at a process' memory.
_INTERVAL = 0.003
REACTNET = "ReActNet-A, 224 px"
_VERIFIED, _UNVERIFIED = "reptran-compile", "reptran-compile --no-verify"
_BARE, _FUNCTION = "onnx.load, onnx.save", "compile_model(ModelProto)"
_BEGIN = """\
import sys, time, onnx, onnxruntime
from reptran_compiler.cli import main as command, options
from reptran_compiler.compiler import Options, compile_model
from reptran_compiler.pipeline import available_rules
available_rules(Options())
external = "--external-data" in sys.argv
begun = time.process_time(), time.perf_counter()
"""
_COMMAND = """\
code = command.main(["in.onnx", "-o", "out.onnx", "--quiet", *sys.argv[1:]])
"""
_END = """\
print(time.process_time() - begun[0], time.perf_counter() - begun[1])
sys.exit(code)
"""
#: What is done with a model, as a program whose arguments are flags of the command.
WAYS: dict[str, tuple[str, tuple[str, ...]]] = {
    _BARE: ('onnx.save(onnx.load("in.onnx"), "out.onnx", save_as_external_data=external)\ncode = 0\n', ()),
    _UNVERIFIED: (_COMMAND, ("--no-verify",)),
    _VERIFIED: (_COMMAND, ()),
    _FUNCTION: (
        'code = int(not compile_model(onnx.load("in.onnx"), output="out.onnx", external_data=external).verified)\n',
        (),
    ),
}
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
    """Build a model, do something with it in a process of its own, and load the result in onnxruntime.

    Args:
        folder: an empty folder.
        form: one of `FORMS`, or `REACTNET`.
        way: one of `WAYS`.
        gigabytes: the size; ReActNet-A has its own, and holds its weights itself.
    """
    if form == REACTNET:
        size = export(network("reactnet-a", size=224), folder / "in.onnx").stat().st_size
    else:
        size = build(folder / "in.onnx", gigabytes, form)
    program, flags = WAYS[way]
    given = [*flags, *(() if form == REACTNET else ("--external-data",))]
    found = measure([sys.executable, "-c", _BEGIN + program + _END, *given], folder)
    made = [path for path in folder.iterdir() if path.name not in ("in.onnx", "in.onnx.weights")]
    failure = f"exit code {found.code}: {found.said}" if found.code else ""
    if not failure and len(made) != (1 if form == REACTNET else 2):
        failure = f"files: {sorted(path.name for path in folder.iterdir())}"
    if not failure:
        loaded = measure([sys.executable, "-c", _LOADING], folder)
        failure = f"the result is not loaded: {loaded.said}" if loaded.code else ""
    net, waited = (float("nan"),) * 2 if found.code else (float(number) for number in found.said.split())
    return Row(form, way, size, found, net, waited, sum(path.stat().st_size for path in made), failure)


HEAD = (
    "model",
    "what is done",
    "its GB",
    "CPU s",
    "after imports",
    "wall s",
    "after imports",
    "peak GB",
    "anonymous GB",
    "result GB",
    "result",
)

EXPLANATION = f"""\
Binary networks of {LAYERS} wide 3x3 convolutions on {IMAGE} x {IMAGE} images, all weights in external data, and
ReActNet-A, which holds its weights in its file; beta 2, written as they came (with external data, or without), and
loaded again in onnxruntime. *latent weights*: real-valued, their signs are taken in the graph. *stored binary
weights*: one magnitude per filter in the file, factored out by the compiler. *CPU s*: processor time of the process,
and what of it came after its imports; *wall s* likewise: data is hashed, and given to the disk, by threads of their
own. *peak GB*: the largest resident memory of the process (`ru_maxrss`), pages of
mapped files included, which the system can take back. *anonymous GB*: the largest that is in no file (`RssAnon` and
`RssShmem` of /proc, looked at every {1000 * _INTERVAL:.0f} ms): memory beyond the page cache, imports included. With a
model in memory, that model and the result that is given back are part of both. GB are 10^9 bytes.
"""


def table(rows: Sequence[Row], command: str) -> str:
    """The rows in Markdown."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for row in rows:
        found = row.measured
        sizes = [found.peak / 1e9, found.anonymous / 1e9, row.written / 1e9]
        cells = [f"{number:.2f}" for number in (row.size / 1e9, found.cpu, row.net, found.seconds, row.waited, *sizes)]
        lines.append(f"| {' | '.join([row.form, row.way, *cells, row.failure.replace('|', ' ') or 'ok'])} |")
    made = f"Made by `{command}` on {machine()}."
    return "\n".join(["# Large models", "", made, "", EXPLANATION, *lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where a row fails."""
    names = [*FORMS, REACTNET]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.2, metavar="G", help="size of the models (default: 2.2)")
    parser.add_argument("--forms", default=";".join(names), metavar="A;B", help="default: all of %(default)r")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where there is room for about 5 times the size")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    options = parser.parse_args(arguments)
    forms = options.forms.split(";")
    for form in forms:
        if form not in names:
            parser.error(f"there is no {form!r}: choose from {'; '.join(names)}")
    tasks = [(form, way) for form in forms for way in (_BARE, _UNVERIFIED, _VERIFIED)] + [(forms[0], _FUNCTION)]
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
