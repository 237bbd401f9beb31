"""Sessions, feeds and tolerances."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper
from tiny_networks import plain

from reptran_compiler.runtime import (
    CannotFeed,
    Level,
    RuntimeFailure,
    Session,
    batch_sizes,
    compare,
    input_specs,
    probe,
    random_feeds,
    run,
    special_points,
    tensor_facts,
    tolerance,
)
from reptran_compiler.runtime import session as session_module


def test_run_returns_outputs_inner_tensors_inputs_and_initializers() -> None:
    model = plain()
    feeds = random_feeds(model, batch=3)
    before = model.SerializeToString()
    found = run(model, feeds, ["logits", "one.bn", "fc.b", "input"])
    assert list(found) == ["logits", "one.bn", "fc.b", "input"]
    assert found["logits"].shape == (3, 5)
    assert found["one.bn"].shape == (3, 12, 8, 8)
    assert model.SerializeToString() == before
    assert list(run(model, feeds)) == ["logits"]
    assert compare(run(model, feeds, level=Level.ALL)["logits"], found["logits"]).ok


def test_a_failure_is_one_clear_line() -> None:
    model = plain()
    with pytest.raises(RuntimeFailure, match="no tensor 'nothing'"):
        run(model, random_feeds(model, batch=1), ["nothing"])
    with pytest.raises(RuntimeFailure) as caught:
        run(model, {"input": np.zeros((1, 2, 8, 8), np.float32)})
    assert "\n" not in str(caught.value)
    model.graph.node[0].op_type = "Nonsense"
    with pytest.raises(RuntimeFailure, match="Nonsense"):
        Session(model)


def test_a_type_without_kernels_is_a_failure() -> None:
    nodes = [helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2])]
    values = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [1, 1, 4, 4]) for name in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]), ir_version=8)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 17))
    with pytest.raises(RuntimeFailure, match="AveragePool"):
        run(model, random_feeds(model))


def test_large_models_travel_with_external_data(monkeypatch: pytest.MonkeyPatch) -> None:
    model = plain()
    feeds = random_feeds(model, batch=2)
    expected = run(model, feeds)["logits"]
    monkeypatch.setattr(session_module, "EMBEDDED_LIMIT", 100)
    assert np.array_equal(run(model, feeds)["logits"], expected)


def test_external_data_that_was_not_loaded_is_named() -> None:
    model = plain()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(RuntimeFailure, match="was not loaded"):
        Session(model)


def test_facts_by_inference_and_by_a_run_agree() -> None:
    model = plain()
    feeds = random_feeds(model, batch=2)
    inferred, seen = tensor_facts(model, feeds), probe(model, feeds)[0]
    assert {name: inferred[name] for name in seen} == seen


def test_facts_leave_sequences_out_and_know_what_comes_of_them() -> None:
    nodes = [
        helper.make_node("Constant", [], ["sizes"], value_ints=[1, 3]),
        helper.make_node("Constant", [], ["one"], value_int=1),
        helper.make_node("SplitToSequence", ["x", "sizes"], ["parts"], axis=1),
        helper.make_node("Identity", ["parts"], ["again"]),
        helper.make_node("SequenceAt", ["again", "one"], ["part"]),
        helper.make_node("Relu", ["part"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, None]) for name in "xy"]
    values[0].type.tensor_type.shape.dim[1].dim_value = 4
    model = helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:]),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
    )
    for facts in (tensor_facts(model, random_feeds(model)), probe(model, random_feeds(model))[0]):
        assert facts["y"].shape == facts["part"].shape == (2, 3)
        assert "parts" not in facts and "again" not in facts


def _with_input(*sizes: int | str | None, kind: int = TensorProto.FLOAT) -> ModelProto:
    value = helper.make_tensor_value_info("x", kind, sizes)
    node = helper.make_node("Identity", ["x"], ["y"])
    out = onnx.ValueInfoProto(name="y")
    return helper.make_model(helper.make_graph([node], "g", [value], [out]), ir_version=8)


def test_feeds_follow_shapes_types_and_seeds() -> None:
    model = _with_input("N", 3, "H", None)
    with pytest.raises(CannotFeed, match="'H'"):
        random_feeds(model, batch=2)
    dims = {"H": 5, "x:3": 7}
    first = random_feeds(model, batch=2, dims=dims)["x"]
    assert first.shape == (2, 3, 5, 7)
    assert np.array_equal(first, random_feeds(model, batch=2, dims=dims)["x"])
    assert not np.array_equal(first, random_feeds(model, batch=2, dims=dims, seed=1)["x"])
    assert random_feeds(_with_input(4, kind=TensorProto.UINT8))["x"].dtype == np.uint8
    assert random_feeds(_with_input(64, kind=TensorProto.BOOL))["x"].any()
    assert random_feeds(_with_input(4, kind=TensorProto.BFLOAT16))["x"].dtype.name == "bfloat16"
    with pytest.raises(CannotFeed):
        random_feeds(_with_input(4, kind=TensorProto.STRING))


def test_batch_sizes() -> None:
    assert batch_sizes(_with_input("N", 3)) == (2, 3)
    assert batch_sizes(_with_input("N", 3), [1]) == (1,)
    assert batch_sizes(_with_input(7, 3)) == (7,)
    assert input_specs(_with_input("N", 3))[0].dynamic_batch


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_special_points_hold_what_matters(dtype: str) -> None:
    points = special_points(dtype)
    info = np.finfo(dtype)
    for value in (0.0, info.smallest_subnormal, info.tiny, 1.0, np.inf):
        assert value in points
        assert -value in points
    assert np.signbit(points[points == 0]).any()
    assert tolerance(dtype) >= info.eps


def test_comparisons() -> None:
    a = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    b = a.copy()
    b[1, 0] += 0.5
    found = compare(b, a)
    assert (found.max_abs, found.relative, found.where, found.ok) == (0.5, 0.125, (1, 0), False)
    assert compare(a + np.float32(1e-6), a).ok
    assert not compare(a + np.float32(1e-6), a, exact=True).ok
    assert not compare(a[:1], a).ok
    special = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    assert compare(special, special).ok
    for place in range(3):
        other = special.copy()
        other[place] = 0
        assert not compare(other, special).ok
        assert not compare(special, other).ok
    assert compare(np.array([True, False]), np.array([True, False])).ok
    assert not compare(np.array([True, False]), np.array([True, True])).ok
    assert not compare(np.array([2**24 + 1], np.int64), np.array([2**24], np.int64)).ok
    assert compare(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)).ok


def test_every_level_runs_and_agrees() -> None:
    model = plain()
    feeds = random_feeds(model, batch=2)
    plainly = run(model, feeds, ["stem.bn"])["stem.bn"]
    for level in Level:
        assert compare(run(model, feeds, ["stem.bn"], level=level)["stem.bn"], plainly).ok
