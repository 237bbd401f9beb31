"""A mistake shows however small the numbers are that it is made with: rounding is measured by what is added up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper
from tiny_networks import plain

from reptran_compiler.pipeline import Options, transform
from reptran_compiler.runtime import Magnitude, compare, random_feeds, run
from reptran_compiler.verification import SpecOptions, check_equivalent, check_law
from reptran_compiler.verification import magnitudes as magnitudes_module
from reptran_compiler.verification.magnitudes import magnitudes

Array = NDArray[np.float32]
#: The channel whose numbers are small, and how small they are, of the largest.
CHANNEL, SMALL = 3, 1e-6


def edit(model: ModelProto, name: str, change: Callable[[Array], Array]) -> ModelProto:
    """A copy in which a stored tensor is another."""
    made = ModelProto.FromString(model.SerializeToString())
    tensor = next(tensor for tensor in made.graph.initializer if tensor.name == name)
    value = numpy_helper.to_array(tensor).copy()
    tensor.CopyFrom(numpy_helper.from_array(change(value).astype(value.dtype), name))
    return made


def scaled(factor: float) -> Callable[[Array], Array]:
    """Channel `CHANNEL` of parameters [..., C, 1, 1] or [C] times a factor."""

    def change(value: Array) -> Array:
        value.reshape(-1)[CHANNEL] *= factor
        return value

    return change


def source() -> ModelProto:
    """A network in which one channel behind `one.bn` is a millionth of the others."""
    model = plain()
    for name in ("one.bn.0", "one.bn.1"):
        model = edit(model, name, scaled(SMALL))
    return model


def stored_behind(model: ModelProto, layer: str, op: str) -> str:
    """The constant that the first `op` behind a layer reads."""
    stored = {tensor.name for tensor in model.graph.initializer}
    seen = next(place for place, node in enumerate(model.graph.node) if node.name == layer)
    node = next(node for node in model.graph.node[seen:] if node.op_type == op and set(node.input) & stored)
    return next(name for name in node.input if name in stored)


@pytest.mark.parametrize("factor", [2.0, 0.0, -1.0, 1.001])
@pytest.mark.parametrize("op", ["Mul", "Add"])
def test_a_wrong_parameter_of_a_small_channel_is_seen(op: str, factor: float) -> None:
    model = source()
    made = transform(model, Options(2))
    good = check_law(made.canonical, made.result, SpecOptions(2))
    assert good.ok, [str(failure) for failure in good.failures]
    wrong = edit(made.result, stored_behind(made.result, "one", op), scaled(factor))
    report = check_law(made.canonical, wrong, SpecOptions(2))
    assert report.failures and report.failures[0].tensor == "one.bn"
    assert "times what rounding may do" in report.failures[0].detail


def test_a_canonical_form_with_a_wrong_small_channel_is_seen() -> None:
    model = source()
    assert check_equivalent(model, model).ok
    report = check_equivalent(model, edit(model, "one.bn.0", scaled(1.01)))
    assert [failure.tensor for failure in report.failures][:1] == ["one.bn"]


def test_magnitudes_bound_what_they_are_of() -> None:
    model = plain()
    feeds = random_feeds(model, batch=3)
    names = [node.output[0] for node in model.graph.node if ".sign" not in node.output[0]]
    values, found = run(model, feeds, names), magnitudes(model, feeds, names)
    # Nothing is known behind a Sign, which the judge cuts.
    assert set(found) == {"stem", "stem.bn"}
    for name, magnitude in found.items():
        assert magnitude.values.shape == (1, *values[name].shape[1:])
        assert (np.abs(values[name]).max(0) <= magnitude.values[0] * (1 + 1e-5)).all()
    assert (found["stem"].operators, found["stem.bn"].operators) == (1, 2)


def test_magnitudes_follow_every_operator_that_they_know() -> None:
    """x - x is 0 and was computed from numbers near 1; each operator keeps that in mind."""
    steps = [
        ("Sub", ["x", "x"]), ("Relu", ["Sub"]), ("Neg", ["Relu"]), ("Transpose", ["Neg"]),
        ("Concat", ["Transpose"] * 2),
        ("Sigmoid", ["Concat"]), ("PRelu", ["Sigmoid", "two"]), ("Div", ["PRelu", "two"]), ("Max", ["Div", "two"]),
        ("ReduceMean", ["Max"]), ("Exp", ["ReduceMean"]), ("Mul", ["Exp", "two"]),
    ]  # fmt: skip
    attributes = {"Concat": {"axis": 1}, "ReduceMean": {"axes": [1]}}
    nodes = [helper.make_node(op, inputs, [op], **attributes.get(op, {})) for op, inputs in steps]
    ends = [helper.make_tensor_value_info("x", 1, [2, 4])], [helper.make_tensor_value_info("Mul", 1, None)]
    two = numpy_helper.from_array(np.float32(2), "two")
    graph = helper.make_graph(nodes, "g", *ends, [two])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feeds = {"x": np.array([[1, -2, 3, -4], [0, 1, 0, 5]], np.float32)}
    found = magnitudes(model, feeds, [op for op, _ in steps])
    assert set(found) == {op for op, _ in steps[:-2]}
    assert found["Sub"].values.tolist() == [[2, 4, 6, 10]]
    assert found["Concat"].operators == 5
    # Transposed, the batch is the channels: [4, 2] of 2, 4, 6, 8 and 0, 2, 0, 10, the largest of each.
    assert found["Concat"].values.tolist() == [[8, 10, 8, 10]]
    assert found["Sigmoid"].values.tolist() == [[9, 11, 9, 11]]
    assert found["Div"].values.tolist() == found["Sigmoid"].values.tolist()


def test_large_parameters_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = plain()
    monkeypatch.setattr(magnitudes_module, "MOST_BYTES", 1000)
    assert not magnitudes(model, random_feeds(model, batch=2), ["stem", "stem.bn"])


def test_a_difference_is_measured_by_the_terms() -> None:
    expected = np.array([[1000.0, 1e-3]], np.float32)
    actual = expected + np.array([[0, 1e-6]], np.float32)
    assert compare(actual, expected).ok
    large, small = np.full((1, 2), 1000, np.float32), np.array([[1000, 1e-3]], np.float32)
    assert compare(actual, expected, magnitude=Magnitude(large, 1)).ok
    found = compare(actual, expected, magnitude=Magnitude(small, 1))
    assert (found.ok, found.where) == (False, (0, 1)) and found.strain > 100
    unknown = np.full((1, 2), np.inf, np.float32)
    assert compare(actual, expected, magnitude=Magnitude(unknown, 1)).ok
