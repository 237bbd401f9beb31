"""How compile time grows with the graph: a residual binary network of 1,000 to 50,000 nodes.

    python -m benchmarks.speed [--nodes 1000,10000,50000] [--rounds 2] [--limit 1.2] [--profile]

compiles each without verification, in one run, and says with which power of the number of nodes the time has grown
since the first: processor time, the shortest of some rounds, so that what else the machine does counts for little.
It ends with 1 where that exponent is above `--limit` for the last.  `--profile` prints where the time of each goes."""

from __future__ import annotations

import argparse
import cProfile
import math
import pstats
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from reptran_compiler.compiler import compile_model

NODES_PER_BLOCK = 5
CHANNELS = 8
EXTENT = 4


def residual_network(nodes: int) -> onnx.ModelProto:
    """A binary network of about `nodes` nodes: a stem, blocks of ReActNet's kind, pooling and a classifier.

    A block is Sign, Conv with baked weights of +-alpha a filter, BatchNormalization, PRelu and an Add around
    them, at 8 channels of 4 x 4; parameters differ from block to block and none is degenerate.  The input `x` is
    float32 [N, 3, 4, 4], the output `y` float32 [N, 10].
    """
    random = np.random.default_rng(0)
    made: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []

    def parameter(name: str, values: np.typing.NDArray[np.floating]) -> str:
        stored.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        made.append(helper.make_node(op, inputs, [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"

    def block(x: str, name: str) -> str:
        signs = np.sign(random.standard_normal((CHANNELS, CHANNELS, 3, 3)))
        weight = parameter(f"{name}.weight", signs * random.uniform(0.01, 0.1, (CHANNELS, 1, 1, 1)))
        y = node("Conv", [node("Sign", [x], f"{name}.sign"), weight], f"{name}.conv", pads=[1] * 4)
        drawn = {
            "gamma": random.uniform(0.5, 1.5, CHANNELS),
            "shift": random.normal(0, 0.3, CHANNELS),
            "mean": random.normal(0, 0.3, CHANNELS),
            "var": random.uniform(0.5, 2.0, CHANNELS),
        }
        statistics = [parameter(f"{name}.{what}", values) for what, values in drawn.items()]
        y = node("BatchNormalization", [y, *statistics], f"{name}.bn")
        slope = parameter(f"{name}.slope", random.uniform(0.1, 0.5, (CHANNELS, 1, 1)))
        return node("Add", [node("PRelu", [y, slope], f"{name}.prelu"), x], f"{name}.add")

    stem = parameter("stem.weight", random.normal(0, 0.3, (CHANNELS, 3, 3, 3)))
    x = node("Conv", ["x", stem], "stem", pads=[1] * 4)
    for number in range((nodes - 4) // NODES_PER_BLOCK):
        x = block(x, f"block{number}")
    x = node("Flatten", [node("GlobalAveragePool", [x], "pool")], "flatten")
    weight, bias = random.normal(0, 0.3, (10, CHANNELS)), random.normal(0, 0.3, 10)
    made.append(
        helper.make_node("Gemm", [x, parameter("fc.weight", weight), parameter("fc.bias", bias)], ["y"], "fc", transB=1)
    )
    graph = helper.make_graph(
        made,
        "residual",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, EXTENT, EXTENT])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        stored,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@dataclass(frozen=True)
class Timing:
    """One compilation without verification: how many nodes, and how much processor time it took."""

    nodes: int
    seconds: float

    @property
    def per_node(self) -> float:
        """Seconds a node."""
        return self.seconds / self.nodes

    def exponent(self, first: Timing) -> float:
        """The power of the number of nodes with which time has grown since another timing; 1 at the same number."""
        more = self.nodes / first.nodes
        return math.log(self.seconds / first.seconds) / math.log(more) if more != 1 else 1.0


def timed(nodes: int, profile: cProfile.Profile | None = None) -> Timing:
    """Compile a network of about `nodes` nodes once, without verification, under `profile` where there is one.

    Raises:
        RuntimeError: a block was not rewritten, so that the time would say nothing.
    """
    model = residual_network(nodes)
    start = time.process_time()
    if profile is None:
        result = compile_model(model, 2, verify=False)
    else:
        result = profile.runcall(compile_model, model, 2, verify=False)
    seconds = time.process_time() - start
    blocks = (nodes - 4) // NODES_PER_BLOCK
    rewritten = sum(row.rewritten for row in result.summary.layers if row.role == "repconv")
    if rewritten != blocks:
        raise RuntimeError(f"{rewritten} of {blocks} binary layers were rewritten")
    return Timing(len(model.graph.node), seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where time grows beyond the limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", default="1000,10000,50000", metavar="N,M", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=2, metavar="R", help="default: %(default)s")
    parser.add_argument("--limit", type=float, default=1.2, help="of the exponent (%(default)s)")
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    options = parser.parse_args(arguments)
    sizes = [int(size) for size in options.nodes.split(",")]
    timed(100)  # imports and first sessions are no part of what grows
    timings: list[Timing] = []
    print(f"{'nodes':>8}{'seconds':>10}{'ms a node':>12}{'exponent':>10}")
    for size in sizes:
        profile = cProfile.Profile() if options.profile else None
        rounds = [timed(size, profile) for _ in range(options.rounds)]
        timings.append(min(rounds, key=lambda timing: timing.seconds))
        last, exponent = timings[-1], timings[-1].exponent(timings[0])
        print(f"{last.nodes:8,}{last.seconds:10.2f}{last.per_node * 1000:12.3f}{exponent:10.2f}", flush=True)
        if profile is not None:
            pstats.Stats(profile).strip_dirs().sort_stats("cumulative").print_stats(40)
    grown = timings[-1].exponent(timings[0])
    ok = grown <= options.limit
    print(f"time grows with nodes to the power of {grown:.2f}, {'within' if ok else 'beyond'} {options.limit}")
    return int(not ok)


if __name__ == "__main__":
    sys.exit(main())
