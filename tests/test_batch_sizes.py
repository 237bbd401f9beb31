"""Values that depend on the batch size and were frozen: the judge runs sizes at which they show."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tiny_networks import Net, plain, replicate

from reptran_compiler.trial import try_source
from reptran_compiler.verification import SpecOptions, check_equivalent, check_law, judged_batches

#: A scale that is computed from the batch size N: its operators, and the same in Python.
SCALES: dict[str, tuple[Callable[[Net, str], str], Callable[[int], float]]] = {
    "min(N, 2)": (lambda net, n: net.add("Min", [n, _int(net, 2)], "min"), lambda n: min(n, 2)),
    "max(N, 3)": (lambda net, n: net.add("Max", [n, _int(net, 3)], "max"), lambda n: max(n, 3)),
    "max(N, 20)": (lambda net, n: net.add("Max", [n, _int(net, 20)], "max"), lambda n: max(n, 20)),
    "floor(N / 2)": (lambda net, n: net.add("Div", [n, _int(net, 2)], "half"), lambda n: n // 2),
    "floor(N / 8)": (lambda net, n: net.add("Div", [n, _int(net, 8)], "eighth"), lambda n: n // 8),
    "N * N": (lambda net, n: net.add("Mul", [n, n], "square"), lambda n: n * n),
    "3 * N - 1": (
        lambda net, n: net.add("Sub", [net.add("Mul", [n, _int(net, 3)], "triple"), _int(net, 1)], "less"),
        lambda n: 3 * n - 1,
    ),
    "N % 4": (lambda net, n: net.add("Mod", [n, _int(net, 4)], "mod"), lambda n: n % 4),
    "N > 4": (lambda net, n: net.add("Greater", [n, _int(net, 4)], "greater"), lambda n: float(n > 4)),
}


def _int(net: Net, value: int) -> str:
    return net.store(f"int{value}", np.array(value, np.int64))


def scaled(model: ModelProto, scale: str) -> ModelProto:
    """The model with its logits times a scale that is computed from the batch size, plus 1."""
    net = Net()
    n = net.add("Gather", [net.add("Shape", ["input"], "shape"), _int(net, 0)], "N", axis=0)
    number = net.add("Cast", [SCALES[scale][0](net, n)], "number", to=TensorProto.FLOAT)
    factor = net.add("Add", [number, net.store("plus one", np.float32(1))], "factor")
    return _behind(model, net, factor)


def frozen(model: ModelProto, scale: str, batch: int) -> ModelProto:
    """The same with the scale that it has at one batch size."""
    net = Net()
    return _behind(model, net, net.store("factor", np.float32(1 + SCALES[scale][1](batch))))


def _behind(model: ModelProto, net: Net, factor: str) -> ModelProto:
    model.graph.node[-1].output[0] = "raw"
    net.nodes.append(helper.make_node("Mul", ["raw", factor], ["logits"], name="scaled"))
    model.graph.node.extend(net.nodes)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in net.stored.items())
    return model


@pytest.mark.parametrize("batch", [2, 3, 5])
@pytest.mark.parametrize("scale", SCALES)
def test_a_frozen_scale_is_seen(scale: str, batch: int) -> None:
    source = scaled(plain(), scale)
    assert check_equivalent(source, source).ok
    report = check_equivalent(source, frozen(plain(), scale, batch))
    assert [failure.tensor for failure in report.failures] == ["logits"]
    report = check_law(source, frozen(replicate(plain(), 2), scale, batch), SpecOptions(2))
    assert [failure.tensor for failure in report.failures] == ["logits"]


@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_that_stays_computed_is_accepted(scale: str) -> None:
    source = scaled(plain(), scale)
    report = check_law(source, scaled(replicate(plain(), 2), scale), SpecOptions(2))
    assert report.ok, [str(failure) for failure in report.failures]
    assert report.batches == judged_batches(source) == try_source(source).batches


def test_two_sizes_serve_where_nothing_bends() -> None:
    assert judged_batches(plain()) == (2, 3)
    assert judged_batches(scaled(plain(), "3 * N - 1")) == (2, 3)
    assert judged_batches(scaled(plain(), "min(N, 2)"), (4,)) == (4,)
    assert judged_batches(scaled(plain(), "max(N, 20)")) == (1, 2, 3, 7, 19, 21, 40)


def test_arithmetic_on_sizes_that_do_not_vary_costs_no_runs() -> None:
    """A pad that bitorch computes from the image size depends on no batch."""
    net = Net()
    shape = net.add("Shape", ["input"], "shape")
    height = net.add("Gather", [shape, net.store("axis", np.array(2, np.int64))], "height", axis=0)
    half = net.add("Div", [height, net.store("divisor", np.array(3, np.int64))], "third")
    factor = net.add("Cast", [half], "factor", to=TensorProto.FLOAT)
    assert judged_batches(_behind(plain(), net, factor)) == (2, 3)
