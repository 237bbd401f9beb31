"""How long a binary layer takes in onnxruntime, in floats and in integers, and what `--optimize auto` takes it for.

    python -m benchmarks.layers [--rounds 15] [--threads 1,2] [-o FILE]

compiles small residual networks of binary convolutions, of many sizes, with `--optimize float` and with `int8` in each
form that layers have in integers, and measures what one more block of them takes: the layer, and what turns its maps
from one form into the other.  It fits `reptran_compiler.lowering.latency.Speed` to the times, prints the coefficients
to ship, and judges the ones that are shipped for such a machine: how much longer the layers take that they choose than
the best choice of each."""

from __future__ import annotations

import argparse
import importlib
import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.machine import cpu, machine
from reptran_compiler import compile_model
from reptran_compiler.lowering.choice import FORMS, faster_in_integers
from reptran_compiler.lowering.latency import MACHINES, Convolution, Machine, Speed, Speeds
from reptran_compiler.replication import IntegerForm

Array = NDArray[np.float64]

_BLOCKS = 4
#: Larger layers tell nothing new, and take long.
_MOST_MACS = 2e8
#: Fewer are stored twice where they compute in floats, which hides the block that they are computed in.
_LEAST_FILTERS = 16
#: Where lowering reads its table (the package's attribute of this name is a function).
_LOWER = importlib.import_module("reptran_compiler.lowering.lower")
#: What takes less in floats is not faster in integers by enough to be chosen.
_LEAST_MICROSECONDS = 60.0
#: One in which every layer takes the same, as the one form of a machine, and one without blocks.
_ONE = Speed(1.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Timing:
    """A layer, and the microseconds that a block of it takes in floats and in each form in integers, each with every
    number of threads."""

    layer: Convolution
    floats: tuple[float, ...]
    integers: Mapping[IntegerForm, tuple[float, ...]]

    @property
    def best(self) -> tuple[float, ...]:
        """The shortest."""
        return tuple(map(min, self.floats, *self.integers.values()))

    def chosen(self, model: Machine) -> tuple[float, ...]:
        """Those of the choice by a model."""
        form = faster_in_integers(self.layer, model)
        return self.floats if form is None else self.integers[form]


def residual_network(channels: int, kernel: int, extent: int) -> onnx.ModelProto:
    """A stem, blocks of Sign, binary Conv, BatchNormalization and an Add around them, pooling, a classifier."""
    random = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []

    def node(op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"

    def parameter(name: str, values: NDArray[np.floating]) -> str:
        stored.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    x = node("Conv", ["x", parameter("stem.w", random.standard_normal((channels, 3, 1, 1)))], "stem")
    for place in range(_BLOCKS):
        weight = np.sign(random.standard_normal((channels, channels, kernel, kernel)))
        sign = node("Sign", [x], f"sign{place}")
        y = node("Conv", [sign, parameter(f"w{place}", weight)], f"conv{place}", pads=[kernel // 2] * 4)
        parts = [random.uniform(0.5, 1.5, channels) for _ in range(4)]
        norm = node(
            "BatchNormalization", [y, *(parameter(f"n{place}.{k}", v) for k, v in enumerate(parts))], f"n{place}"
        )
        x = node("Add", [norm, x], f"add{place}")
    x = node("Flatten", [node("GlobalAveragePool", [x], "pool")], "flat")
    nodes.append(helper.make_node("Gemm", [x, parameter("fc", random.standard_normal((channels, 2)))], ["o"], "fc"))
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, extent, extent])
    scores = helper.make_tensor_value_info("o", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(nodes, "residual", [image], [scores], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def sizes() -> Iterator[tuple[int, int, int, int]]:
    """Channels, kernel, image and beta of what is measured."""
    channels, extents = (16, 32, 48, 64, 128, 256, 512, 1024), (1, 2, 4, 7, 14, 28, 56)
    for count, kernel, extent, beta in itertools.product(channels, (1, 3), extents, (1, 2)):
        macs = count * count * kernel * kernel * extent * extent
        if macs <= _MOST_MACS and count // beta >= _LEAST_FILTERS:
            yield count, kernel, extent, beta


def measure(channels: int, kernel: int, extent: int, beta: int, rounds: int, threads: Sequence[int]) -> Timing:
    """The shortest of some rounds, in which all forms take turns."""
    source = residual_network(channels, kernel, extent)
    image = np.random.default_rng(1).standard_normal((1, 3, extent, extent)).astype(np.float32)
    files = [compile_model(source, beta, optimize="float", verify=False).model]
    for form in FORMS:
        only = Machine((Speeds(_ONE, {form: _ONE}),), 0.0)
        with mock.patch.object(_LOWER, "MACHINES", {"vnni": only}):
            files.append(compile_model(source, beta, optimize="int8", verify=False).model)
    runs = [_runner(file, image, number) for file in files for number in threads]
    times = 1e6 / _BLOCKS * np.array([[_timed(run) for run in runs] for _ in range(rounds)]).min(0)
    layer = Convolution(beta * channels, channels // beta, kernel * kernel, extent * extent)
    floats, *integers = (tuple(some.tolist()) for some in np.split(times, len(files)))
    return Timing(layer, floats, dict(zip(FORMS, integers, strict=True)))


def _runner(model: onnx.ModelProto, image: NDArray[np.float32], threads: int) -> Callable[[], object]:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # sessions take turns
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": image})


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def fit(layers: Sequence[Convolution], times: Sequence[float], like: Speed) -> Speed:
    """The coefficients, none below 0, whose relative errors have the least squares; blocks are those of another."""

    def speed(values: Iterable[float]) -> Speed:
        return Speed(*values, filters=like.filters, pixels=like.pixels)

    units = [speed(float(place == other) for other in range(5)) for place in range(5)]
    scaled = np.array([[unit.microseconds(layer) for unit in units] for layer in layers]) / np.array(times)[:, None]
    kept = list(range(5))
    while True:
        found, *_ = np.linalg.lstsq(scaled[:, kept], np.ones(len(times)), rcond=None)
        if (found >= 0).all():
            values = dict(zip(kept, found.tolist(), strict=True))
            return speed(values.get(place, 0.0) for place in range(5))
        kept.pop(int(np.argmin(found)))


def fitted(timings: Sequence[Timing], like: Machine) -> Machine:
    """A machine's coefficients, by the layers that take long enough to be chosen for integers."""
    known = [each for each in timings if each.floats[0] >= _LEAST_MICROSECONDS]
    layers, shipped = [each.layer for each in known], like.speeds[0]
    speeds = []
    for place in range(len(known[0].floats)):
        floats = fit(layers, [each.floats[place] for each in known], shipped.floats)
        integers = {}
        for form in FORMS:
            blocks = shipped.integers.get(form, _ONE)
            integers[form] = fit(layers, [each.integers[form][place] for each in known], blocks)
        speeds.append(Speeds(floats, integers))
    return Machine(tuple(speeds), like.share)


def regret(timings: Sequence[Timing], model: Machine, place: int) -> tuple[float, float, float]:
    """With one of the numbers of threads: how much longer the chosen layers take than the best choice of each, all
    together and at the worst, and the worst of those in integers by its time in floats."""
    chosen, best = [each.chosen(model)[place] for each in timings], [each.best[place] for each in timings]
    ratios = [took / each.floats[place] for took, each in zip(chosen, timings, strict=True)]
    worst = max((took / least for took, least in zip(chosen, best, strict=True)))
    return sum(chosen) / sum(best) - 1, worst - 1, max((ratio for ratio in ratios if ratio != 1), default=1.0)


def table(timings: Sequence[Timing], models: Mapping[str, Machine], threads: Sequence[int], command: str) -> str:
    """Coefficients, regrets, and the times, in Markdown."""
    lines = ["# Binary layers", "", f"Made by `{command}` on {machine()}.", "", "Microseconds a block.", ""]
    head = ["model", *(field.name for field in fields(Speed))]
    lines += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, model in models.items():
        for number, speeds in zip(threads, model.speeds, strict=False):
            for kind, speed in (("floats", speeds.floats), *speeds.integers.items()):
                cells = " | ".join(f"{value:.3g}" for value in astuple(speed))
                lines.append(f"| {name}, {kind}, {number} threads | {cells} |")
    for name, model in models.items():
        for place, number in enumerate(threads):
            whole, worst, ratio = regret(timings, model, place)
            lines += [
                "",
                f"Chosen by the {name} model, with {number} threads all layers take {100 * whole:.1f} % longer",
            ]
            lines[-1] += (
                f" than by the best choice of each, the worst of them {100 * worst:.0f} %; of those in integers"
            )
            lines[-1] += f" the worst takes {ratio:.2f} of its time in floats."
    kinds = [f"{kind}, {number}" for number in threads for kind in ("floats", *FORMS)]
    lines += ["", f"| channels in | out | taps | pixels | {' | '.join(kinds)} |", f"|{'---|' * (4 + len(kinds))}"]
    for each in timings:
        columns = [each.floats, *(each.integers[form] for form in FORMS)]
        times = [f"{column[place]:.0f}" for place in range(len(threads)) for column in columns]
        lines.append(f"| {' | '.join([*map(str, astuple(each.layer)), *times])} |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, metavar="R", help="default: %(default)s")
    parser.add_argument("--threads", default="1,2", metavar="N,M", help="default: %(default)s")
    parser.add_argument("-o", "--output", metavar="FILE", help="where the table goes (default: stdout)")
    options = parser.parse_args(arguments)
    threads = [int(number) for number in options.threads.split(",")]
    timings = []
    for size in sizes():
        timings.append(measure(*size, options.rounds, threads))
        print(timings[-1], file=sys.stderr, flush=True)
    shipped = MACHINES[cpu()]
    models = {"fitted": fitted(timings, shipped), f"shipped for {cpu()}": shipped}
    given = " ".join(sys.argv[1:] if arguments is None else arguments)
    text = table(timings, models, threads, f"python -m benchmarks.layers {given}".strip())
    if options.output:
        Path(options.output).write_text(text)
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
