"""`--classifier int8`: the classifier's weights are rounded as stated, nothing else changes, and the change is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import compile_file
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from small_networks import network
from spelled import spelled

from reptran_compiler.cli.verify import main as verify_main
from reptran_compiler.compiler import Refusal, compile_model
from reptran_compiler.lowering import classifier
from reptran_compiler.runtime import random_feeds, run
from reptran_compiler.verification import check_classifier, check_lowered, round_classifiers

Array = NDArray[Any]


def weights() -> Array:
    """[5, 8]: channels of very different sizes, one of zeros, one with ties between two integers."""
    drawn = np.random.default_rng(2).normal(size=(5, 8)) * np.array([[1.0], [1e-3], [40.0], [1.0], [0.0]])
    drawn[3] = np.array([127, 0.5, 1.5, -0.5, -1.5, 2.5, 63.5, -126.5]) / 64
    return drawn.astype(np.float32)


def headed(head: str) -> ModelProto:
    """A binary network whose classifier is written in one way."""
    values = weights()
    if head == "Gemm":
        return network(**{"fc.w": values})
    model = network(**{"fc.w": values if head in ("Conv", "MatMul left") else values.T})
    pool, flat, layer = list(model.graph.node)[-3:]
    del model.graph.node[-2:]
    if head == "Gemm, not turned":
        model.graph.node.extend([flat, helper.make_node("Gemm", ["f", "fc.w"], ["o"], name="fc")])
    elif head == "MatMul":
        model.graph.node.extend([flat, helper.make_node("MatMul", ["f", "fc.w"], ["o"], name="fc")])
    elif head == "MatMul left":
        turn = helper.make_node("Transpose", ["f"], ["u"], name="turn", perm=[1, 0])
        back = helper.make_node("Transpose", ["v"], ["o"], name="back", perm=[1, 0])
        model.graph.node.extend([flat, turn, helper.make_node("MatMul", ["fc.w", "u"], ["v"], name="fc"), back])
    else:
        stored = next(t for t in model.graph.initializer if t.name == "fc.w")
        stored.CopyFrom(numpy_helper.from_array(values[:, :, None, None], "fc.w"))
        model.graph.node.extend([helper.make_node("Conv", ["g", "fc.w"], ["c"], name="fc")])
        model.graph.node.extend([helper.make_node("Flatten", ["c"], ["o"], name="flat")])
    return model


HEADS = ("Gemm", "Gemm, not turned", "MatMul", "MatMul left", "Conv")


@pytest.mark.parametrize("beta", [1, 2])
@pytest.mark.parametrize("fc", ["widen", "fold"])
@pytest.mark.parametrize("head", HEADS)
def test_weights_are_rounded_as_stated(head: str, fc: str, beta: int) -> None:
    """However a classifier is written; `round_classifiers` does it in words of its own, and this in a third way."""
    made = compile_model(headed(head), beta, fc=fc, classifier="int8")
    assert made.verified and made.transformation is not None
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.model.graph.initializer}
    integers = next(values for values in stored.values() if values.dtype == np.int8)
    scale = stored[next(name for name in stored if name.endswith("/scale"))]
    filters_last = head in ("Gemm, not turned", "MatMul")
    before = {t.name: numpy_helper.to_array(t) for t in made.transformation.result.graph.initializer}
    real = next(v for name, v in before.items() if name.startswith("fc.w") and v.size == integers.size)
    for channel, (row, whole, factor) in enumerate(
        zip(*((real.T, integers.T, scale.T) if filters_last else (real, integers, scale)), strict=True)
    ):
        assert factor.reshape(()) == (np.float32(np.abs(row).max()) / np.float32(127) or 1)
        steps = (row / factor).astype(np.float64)
        assert np.abs(steps - whole).max() <= 0.5
        if channel == 3:
            assert set(whole[np.abs(steps - whole) == 0.5].tolist()) <= {2, -2, 0, 64, -126}, "ties go to even"
    assert np.abs(integers).max() == 127


@pytest.mark.parametrize("way", ["none", "float", "int8", "auto"])
@pytest.mark.parametrize("stored", ["latent", "packed"])
@pytest.mark.parametrize("opset", [9, 17, 22])
def test_it_goes_with_every_lowering(way: str, stored: str, opset: int) -> None:
    """And with every opset: Cast and Mul are in all of them."""
    made = compile_model(spelled(opset), 2, optimize=way, weights=stored, classifier="int8")
    assert made.verified
    assert any(tensor.data_type == TensorProto.INT8 for tensor in made.model.graph.initializer)


def test_the_change_is_measured_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is told is the largest difference of the two networks' outputs, on the inputs of the verification."""
    done = compile_file(headed("Gemm"), tmp_path, capsys, "--classifier", "int8", "--json", str(tmp_path / "json"))
    assert done.code == 0
    told = json.loads((tmp_path / "json").read_text())["verification"]["classifier"]
    assert "classifier in int8 (fc): o moves by" in done.out
    made = compile_model(headed("Gemm"), 2, classifier="int8")
    assert made.transformation is not None
    moved = []
    for batch in (2, 3):
        feeds = random_feeds(made.transformation.result, batch=batch, seed=batch)
        before, after = run(made.transformation.result, feeds)["o"], run(made.model, feeds)["o"]
        moved.append(float(np.abs(after - before).max() / np.abs(before).max()))
    assert told["layers"] == ["fc"] and told["output"] == "o"
    assert 0 < told["relative_change"] < 0.02
    assert told["relative_change"] == pytest.approx(max(moved), rel=1e-3)


def test_it_is_off_by_default() -> None:
    made = compile_model(headed("Gemm"), 2)
    assert made.summary.verification.classifier is None
    assert all(tensor.data_type != TensorProto.INT8 for tensor in made.model.graph.initializer)


# -- what is not rounded as stated is refused ------------------------------------------------------------------


def scale_of_one_row(weight: Array, axis: int, right: Callable[..., tuple[Array, Array]]) -> tuple[Array, Array]:
    integers, scale = right(weight, axis)
    scale.reshape(-1)[2] *= np.float32(1.001)
    return integers, scale


def toward_zero(weight: Array, axis: int, right: Callable[..., tuple[Array, Array]]) -> tuple[Array, Array]:
    _, scale = right(weight, axis)
    return np.trunc(weight / scale).astype(np.int8), scale


def ties_away_from_zero(weight: Array, axis: int, right: Callable[..., tuple[Array, Array]]) -> tuple[Array, Array]:
    _, scale = right(weight, axis)
    steps = weight / scale
    return (np.sign(steps) * np.floor(np.abs(steps) + np.float32(0.5))).astype(np.int8), scale


def neighbours_scale(weight: Array, axis: int, right: Callable[..., tuple[Array, Array]]) -> tuple[Array, Array]:
    integers, scale = right(weight, axis)
    return integers, np.roll(scale, 1, axis)


def zero_point(weight: Array, axis: int, right: Callable[..., tuple[Array, Array]]) -> tuple[Array, Array]:
    integers, scale = right(weight, axis)
    return np.clip(integers.astype(int) + 1, -128, 127).astype(np.int8), scale


def one_scale(weight: Array, axis: int, right: Callable[..., tuple[Array, Array]]) -> tuple[Array, Array]:
    _, scale = right(weight, axis)
    scale[...] = scale.max()
    return np.rint(weight / scale).astype(np.int8), scale


def a_weight_off_by_one(weight: Array, axis: int, right: Callable[..., tuple[Array, Array]]) -> tuple[Array, Array]:
    integers, scale = right(weight, axis)
    integers.reshape(-1)[-2] -= 1
    return integers, scale


def along_the_other_axis(weight: Array, axis: int, right: Callable[..., tuple[Array, Array]]) -> tuple[Array, Array]:
    return right(weight, 1 - axis)


MISTAKES = (
    scale_of_one_row,
    toward_zero,
    ties_away_from_zero,
    neighbours_scale,
    zero_point,
    one_scale,
    a_weight_off_by_one,
    along_the_other_axis,
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda each: each.__name__.replace("_", " "))
def test_a_mistake_is_seen(
    mistake: Callable[..., tuple[Array, Array]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = classifier.rounded
    monkeypatch.setattr(classifier, "rounded", lambda weight, axis: mistake(weight, axis, right))
    done = compile_file(headed("Gemm"), tmp_path, capsys, "--classifier", "int8")
    assert (done.code, done.written) == (3, ())
    assert "weights are not those that int8 holds" in done.err


def test_other_weights_are_not_rounded_too() -> None:
    """A stem that was rounded along with the classifier, and a bias, are seen as in every lowered network."""
    made = compile_model(network(**{"fc.w": weights()}), 2, classifier="int8")
    assert made.transformation is not None
    rounded = round_classifiers(made.transformation.result)
    assert check_lowered(rounded.model, made.model).ok
    wrong = ModelProto()
    wrong.CopyFrom(made.model)
    stem = next(tensor for tensor in wrong.graph.initializer if tensor.name == "stem.w")
    integers, scale = classifier.rounded(numpy_helper.to_array(stem), 0)
    stem.CopyFrom(numpy_helper.from_array(integers * scale, "stem.w"))
    assert not check_lowered(rounded.model, wrong).ok


def test_rounded_weights_that_are_not_in_int8_are_seen() -> None:
    """The right numbers, stored as float32."""
    made = compile_model(headed("Gemm"), 2, classifier="int8")
    assert made.transformation is not None
    rounded = round_classifiers(made.transformation.result)
    assert check_classifier(made.transformation.result, rounded, made.model).ok
    report = check_classifier(made.transformation.result, rounded, rounded.model)
    assert "not stored in int8" in report.failures[0].detail


# -- what it is not for ----------------------------------------------------------------------------------------


def binary_head() -> ModelProto:
    model = network(**{"fc.w": np.sign(weights() + 0.1)})
    model.graph.node[-1].input[0] = "fs"
    model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("Sign", ["f"], ["fs"], name="fc.sign"))
    return model


def computed_head() -> ModelProto:
    model = binary_head()
    model.graph.node[-1].input[1] = "fc.signs"
    model.graph.node.insert(0, helper.make_node("Sign", ["fc.w"], ["fc.signs"], name="fc.weights"))
    stored = next(tensor for tensor in model.graph.initializer if tensor.name == "fc.w")
    stored.CopyFrom(numpy_helper.from_array(weights() + np.float32(0.1), "fc.w"))
    return model


def depthwise_head() -> ModelProto:
    model = network()
    del model.graph.node[-3:]
    model.graph.node.append(helper.make_node("Conv", ["y", "fc.w"], ["o"], name="fc", group=8))
    stored = next(tensor for tensor in model.graph.initializer if tensor.name == "fc.w")
    stored.CopyFrom(numpy_helper.from_array(np.ones((8, 1, 1, 1), np.float32), "fc.w"))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("o", 1, ["N", 8, 6, 6]))
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (binary_head, "its weights are signs, which --weights packed stores in a bit"),
        (computed_head, "its weights are computed"),
        (depthwise_head, "the model has no classifier"),
    ],
)
def test_what_has_no_such_classifier_is_refused(make: Callable[[], ModelProto], words: str) -> None:
    with pytest.raises(Refusal, match=words) as caught:
        compile_model(make(), 2, classifier="int8")
    assert caught.value.exit_code == 1


def test_qonnx_and_reptran_verify_refuse_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = compile_file(headed("Gemm"), tmp_path, capsys, "--classifier", "int8", "--emit", "qonnx")
    assert done.code == 2 and "--classifier int8 is for onnxruntime" in done.err
    assert compile_file(headed("Gemm"), tmp_path, capsys, "--classifier", "int8").code == 0
    assert verify_main([str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx"), "--beta", "2"]) == 2
    assert "was lowered for onnxruntime" in capsys.readouterr().err
