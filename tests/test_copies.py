"""Operators on copies that differ, against numpy on the wide tensor (THEORY section 2, item 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from tiny_networks import Net

from reptran_compiler.runtime import probe, random_feeds, run
from reptran_compiler.verification import CannotSpecify, Role, SpecOptions, specify
from reptran_compiler.verification.protograph import ProtoGraph
from reptran_compiler.verification.specification import build_specification

Array = NDArray[Any]
BETA, C = 3, 12
Build = Callable[[Net], str]
Expected = Callable[[list[Array]], Array]


def _ints(net: Net, *values: int) -> str:
    return net.store("ints " + "_".join(map(str, values)), np.array(values, np.int64))


def _whole(copies: list[Array]) -> Array:
    return np.concatenate(copies, axis=1)


def _shuffle(net: Net) -> str:
    y = net.add("Reshape", ["x", _ints(net, 0, 3, 4, 8, 8)], "r1")
    y = net.add("Transpose", [y], "t", perm=[0, 2, 1, 3, 4])
    return net.add("Reshape", [y, _ints(net, 0, 12, 8, 8)], "y")


def _shuffled(copies: list[Array]) -> Array:
    x = _whole(copies)
    y: Array = x.reshape(len(x), 3, -1, 8, 8).swapaxes(1, 2).reshape(x.shape)
    return y


def _flat_last(net: Net) -> str:
    return net.add("Flatten", [net.add("Transpose", ["x"], "t", perm=[0, 2, 3, 1])], "y")


def _flattened_last(copies: list[Array]) -> Array:
    x = np.stack(copies, axis=1).transpose(0, 3, 4, 1, 2)  # N, H, W, copy, C
    y: Array = x.reshape(len(x), -1)
    return y


def _slice(start: int, end: int, step: int) -> Build:
    return lambda net: net.add("Slice", ["x", *(_ints(net, v) for v in (start, end, 1, step))], "y")


def _slice_two(net: Net) -> str:
    bounds = (_ints(net, *v) for v in ((0, 2), (2**62, -1), (2, -3), (2, 1)))
    return net.add("Slice", ["x", *bounds], "y")


CASES: dict[str, tuple[Build, Expected]] = {
    "concat": (
        lambda net: net.add("Concat", ["x", net.add("Relu", ["x"], "a"), net.add("Neg", ["x"], "b")], "y", axis=1),
        lambda copies: np.concatenate([_whole(copies), np.maximum(_whole(copies), 0), -_whole(copies)], axis=1),
    ),
    "slice": (_slice(2, 9, 1), lambda copies: _whole(copies)[:, 2 * BETA : 9 * BETA]),
    "slice from the end": (_slice(-5, 2**62, 1), lambda copies: _whole(copies)[:, 7 * BETA :]),
    "slice with a step": (_slice(1, 2**62, 2), lambda copies: _whole([c[:, 1::2] for c in copies])),
    "slice backwards": (_slice(-1, -(2**62), -1), lambda copies: _whole([c[:, ::-1] for c in copies])),
    "slice in space too": (_slice_two, lambda copies: _whole(copies)[:, 2 * BETA : 11 * BETA, ::2]),
    "pad": (
        lambda net: net.add("Pad", ["x", _ints(net, 0, 1, 0, 0, 0, 2, 1, 0), net.store("v", np.float32(0.5))], "y"),
        lambda copies: np.pad(
            _whole(copies), ((0, 0), (BETA, 2 * BETA), (0, 1), (0, 0)), constant_values=np.float32(0.5)
        ),
    ),
    "shuffle": (_shuffle, _shuffled),
    "mean over channels": (
        lambda net: net.add("ReduceMean", ["x"], "y", axes=[1], keepdims=1),
        lambda copies: _whole(copies).mean(1, keepdims=True),
    ),
    "largest channel": (
        lambda net: net.add("ArgMax", ["x"], "y", axis=1, keepdims=0),
        lambda copies: _whole(copies).argmax(1),
    ),
    "mean over space": (
        lambda net: net.add("ReduceMean", ["x"], "y", axes=[2, 3], keepdims=0),
        lambda copies: _whole(copies).mean((2, 3)),
    ),
    "gate of one channel": (
        lambda net: net.add("Mul", ["x", net.add("Slice", ["x", *(_ints(net, v) for v in (4, 5, 1))], "gate")], "y"),
        # The slice is one channel of each copy once it is cut; each copy broadcasts over its own C channels.
        lambda copies: _whole([c * _whole(copies)[:, 4 * BETA + r : 4 * BETA + r + 1] for r, c in enumerate(copies)]),
    ),
    "flatten, channels first": (
        lambda net: net.add("Flatten", ["x"], "y"),
        lambda copies: np.concatenate([c.reshape(len(c), -1) for c in copies], axis=1),
    ),
    "flatten, channels last": (_flat_last, _flattened_last),
    "slope": (
        lambda net: net.prelu("x", "y", C),
        lambda copies: np.zeros(0),  # compared per copy below
    ),
}


def _model(build: Build, output: str = "y") -> ModelProto:
    """Stem `x`, the operators, and a layer behind, so that the stem is not the classifier."""
    net = Net(1)
    net.real_conv("input", "x", (C, 3, 3), pads=[1] * 4)
    assert build(net) == "y"
    net.add("ReduceMean", [net.add("Cast", ["y"], "z", to=1)], "m", keepdims=1)
    net.add("Flatten", ["m"], "f", axis=0)
    net.add("Gemm", ["f", net.store("fc", net.normal(1, 5))], "g")
    net.add("ReduceSum", ["input"], "s")
    graph = net.model().graph
    graph.output[0].name = "g"
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)


@pytest.mark.parametrize("case", CASES)
def test_operators_on_different_copies(case: str) -> None:
    build, expected = CASES[case]
    model = _model(build)
    graph = ProtoGraph(model)
    feeds = random_feeds(model, batch=2)
    facts, _ = probe(model, feeds)
    spec = build_specification(graph, SpecOptions(BETA), facts, feed=frozenset({"x"}))
    random = np.random.default_rng(0)
    copies = [random.standard_normal(facts["x"].shape).astype(np.float32) for _ in range(BETA)]
    feeds.update({fed.name: copies[fed.copy] for fed in spec.feeds})
    names = spec.computed["y"].names
    found = run(spec.model, feeds, [*names])
    whole = spec.computed["y"].assemble([found[name] for name in names])
    if case == "slope":
        slope = graph.value("y.a")
        assert np.allclose(whole, _whole([np.where(c > 0, c, c * slope) for c in copies]), atol=1e-6)
        return
    wanted = expected(copies)
    assert whole.shape == wanted.shape
    assert np.allclose(whole, wanted, atol=1e-6)
    assert not spec.boundaries


def _crossed(net: Net) -> str:
    part = net.add("Slice", ["x", *(_ints(net, v) for v in (0, 8, 1))], "part")
    return net.add("Add", [part, net.add("Transpose", [part], "t", perm=[0, 2, 1, 3])], "y")


BOUNDARIES: dict[str, Build] = {
    "Gather picks channels": lambda net: net.add("Gather", ["x", _ints(net, 3, 1)], "y", axis=1),
    "no rule for DepthToSpace": lambda net: net.add("DepthToSpace", ["x"], "y", blocksize=2),
    "Softmax depends on all channels": lambda net: net.add("Softmax", ["x"], "y", axis=1),
    "no rule for LRN": lambda net: net.add("LRN", ["x"], "y", size=3),
    "no rule for MatMul": lambda net: net.add("MatMul", ["x", net.add("Relu", ["x"], "a")], "y"),
    "no rule for ConvTranspose": lambda net: net.add(
        "ConvTranspose", ["x", net.store("w", net.normal(C, 4, 2, 2))], "y", strides=[2, 2]
    ),
    "carry channels on different axes": _crossed,
}


@pytest.mark.parametrize("reason", BOUNDARIES)
def test_other_operators_are_boundaries(reason: str) -> None:
    spec = specify(_model(BOUNDARIES[reason]), SpecOptions(2))
    assert len(spec.boundaries) == 1
    assert reason in next(iter(spec.boundaries.values()))
    assert len(set(spec.computed["y"].names)) == 1
    assert spec.computed["y"].wide


def test_a_mean_of_unequal_integers_is_refused() -> None:
    def build(net: Net) -> str:
        y = net.add("Cast", ["x"], "i", to=TensorProto.INT64)
        y = net.add("Concat", [y, net.add("Abs", [y], "j")], "c", axis=1)
        return net.add("Gather", [y, _ints(net, 3, 1)], "y", axis=1)

    with pytest.raises(CannotSpecify, match="unequal integers"):
        specify(_model(build), SpecOptions(2))


def test_roles_follow_from_the_source() -> None:
    def build(net: Net) -> str:
        y = net.add("Conv", ["x", net.store("dw", net.normal(2 * C, 1, 3, 3))], "dw.y", group=C)
        y = net.real_conv(y, "odd", (10, 2 * C, 1))
        narrow = net.add("ReduceMean", [y], "narrow", axes=[1], keepdims=1)
        narrow = net.real_conv(narrow, "behind", (6, 1, 1))
        return net.add("Mul", [net.real_conv(y, "even", (6, 10, 1)), narrow], "y")

    spec = specify(_model(build), SpecOptions(BETA))
    roles = {layer.node: layer.role for layer in spec.layers}
    assert roles == {
        "x": Role.STEM,
        "dw.y": Role.DEPTHWISE,
        "odd": Role.BOUNDARY,
        "behind": Role.NARROW,
        "even": Role.REPCONV,
        "g": Role.CLASSIFIER,
    }
    spec = specify(_model(build), SpecOptions(BETA, include=frozenset({"behind"}), exclude=frozenset({"even", "dw.y"})))
    roles = {layer.node: layer.role for layer in spec.layers}
    assert roles["behind"] is Role.REPCONV
    assert roles["even"] is Role.BOUNDARY
    assert roles["dw.y"] is Role.BOUNDARY


@pytest.mark.parametrize("beta", [0, -1])
def test_beta_is_at_least_one(beta: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SpecOptions(beta)
