"""How long a binary layer takes in onnxruntime, in floats and in integers, and what `--optimize auto` takes it for.

    python -m benchmarks.layers [--rounds 15] [--threads 1] [-o FILE]

compiles small residual networks of binary convolutions, of many sizes, both with `--optimize float` and with
`int8`, and measures what one more block of them takes: the layer, and what turns its maps from one form into the
other.  It fits `reptran_compiler.lowering.latency.Speed` to the times, prints the coefficients to ship, and judges the
ones that are shipped for such a machine: how much longer the layers take that they choose than the better choice of
each."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.machine import cpu, machine
from reptran_compiler import compile_model
from reptran_compiler.lowering.choice import better_in_integers
from reptran_compiler.lowering.latency import MACHINES, Convolution, Machine, Speed

Array = NDArray[np.float64]

_BLOCKS = 4
#: Larger layers tell nothing new, and take long.
_MOST_MACS = 2e8
#: Fewer are stored twice where they compute in floats, which hides the block that they are computed in.
_LEAST_FILTERS = 16


@dataclass(frozen=True)
class Timing:
    """A layer, and the microseconds that a block of it takes in floats and in integers."""

    layer: Convolution
    floats: float
    integers: float

    @property
    def better(self) -> float:
        """The shorter of the two."""
        return min(self.floats, self.integers)


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


def measure(channels: int, kernel: int, extent: int, beta: int, rounds: int, threads: int) -> Timing:
    """The shortest of some rounds, in which both forms take turns."""
    source = residual_network(channels, kernel, extent)
    image = np.random.default_rng(1).standard_normal((1, 3, extent, extent)).astype(np.float32)
    runs = [
        _runner(compile_model(source, beta, optimize=way, verify=False).model, image, threads)
        for way in ("float", "int8")
    ]
    times = np.array([[_timed(run) for run in runs] for _ in range(rounds)]).min(0)
    layer = Convolution(beta * channels, channels // beta, kernel * kernel, extent * extent)
    return Timing(layer, *(1e6 * times / _BLOCKS))


def _runner(model: onnx.ModelProto, image: NDArray[np.float32], threads: int) -> Callable[[], object]:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
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


def regret(timings: Sequence[Timing], model: Machine) -> tuple[float, float]:
    """How much longer the chosen layers take than the better choice of each, all together and at the worst."""
    chosen = [each.integers if better_in_integers(each.layer, model) else each.floats for each in timings]
    better = [each.better for each in timings]
    return sum(chosen) / sum(better) - 1, max(a / b for a, b in zip(chosen, better, strict=True)) - 1


def table(timings: Sequence[Timing], fitted: Machine, shipped: Machine, command: str) -> str:
    """Coefficients, regrets, and the times, in Markdown."""
    lines = ["# Binary layers", "", f"Made by `{command}` on {machine()}.", "", "Microseconds a block.", ""]
    head = ["model", *(field.name for field in fields(Speed))]
    lines += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    models = {"fitted": fitted, f"shipped for {cpu()}": shipped}
    for name, model in models.items():
        for kind, speed in (("floats", model.floats), ("integers", model.integers)):
            lines.append(f"| {name}, {kind} | {' | '.join(f'{value:.3g}' for value in astuple(speed))} |")
    for name, model in models.items():
        whole, worst = regret(timings, model)
        lines += [
            "",
            f"Chosen by the {name} model, all layers take {100 * whole:.1f} % longer than by the better choice",
        ]
        lines[-1] += f" of each, the worst of them {100 * worst:.0f} %."
    lines += ["", "| channels in | out | taps | pixels | floats | integers | ratio |", "|---|---|---|---|---|---|---|"]
    for each in timings:
        cells = [*map(str, astuple(each.layer)), f"{each.floats:.0f}", f"{each.integers:.0f}"]
        lines.append(f"| {' | '.join(cells)} | {each.integers / each.floats:.2f} |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, metavar="R", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("-o", "--output", metavar="FILE", help="where the table goes (default: stdout)")
    options = parser.parse_args(arguments)
    timings = []
    for size in sizes():
        timings.append(measure(*size, options.rounds, options.threads))
        print(timings[-1], file=sys.stderr, flush=True)
    layers, shipped = [each.layer for each in timings], MACHINES[cpu()]
    fitted = Machine(
        floats=fit(layers, [each.floats for each in timings], shipped.floats),
        integers=fit(layers, [each.integers for each in timings], shipped.integers),
    )
    given = " ".join(sys.argv[1:] if arguments is None else arguments)
    text = table(timings, fitted, shipped, f"python -m benchmarks.layers {given}".strip())
    if options.output:
        Path(options.output).write_text(text)
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
