"""Unsuitable input ends in a refusal with a reason, or in a boundary; what is not +-1 is never taken for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, helper, numpy_helper

from reptran_compiler.cli.main import main
from reptran_compiler.pipeline import Options, Refusal, transform
from reptran_compiler.verification import SpecOptions, check_law

SIGN = helper.make_node("Sign", ["a"], ["s"])


def network(*between: NodeProto, filters: int = 8, behind: tuple[NodeProto, ...] = (), **stored: Any) -> ModelProto:
    """stem -> `between` (a to s) -> binary layer -> `behind` (y to t) -> pooling -> classifier."""
    draw = np.random.default_rng(0)
    values = {
        "stem.w": draw.normal(size=(8, 3, 3, 3)),
        "w": np.sign(draw.normal(size=(filters, 8, 3, 3))),
        "fc.w": draw.normal(size=(5, filters)),
        **stored,
    }
    nodes = [
        helper.make_node("Conv", ["x", "stem.w"], ["a"], name="stem", pads=[1] * 4),
        *between,
        helper.make_node("Conv", ["s", "w"], ["y"], name="layer", pads=[1] * 4),
        *behind,
        helper.make_node("GlobalAveragePool", ["t" if behind else "y"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "fc.w"], ["o"], name="fc", transB=1),
    ]
    tensors = [
        numpy_helper.from_array(np.asarray(v, v.dtype if v.dtype.kind == "i" else np.float32), k)
        for k, v in values.items()
    ]
    image = helper.make_tensor_value_info("x", 1, ["N", 3, 6, 6])
    logits = helper.make_tensor_value_info("o", 1, ["N", 5])
    graph = helper.make_graph(nodes, "network", [image], [logits], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_without_a_binarised_map_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(network(helper.make_node("Relu", ["a"], ["s"])), tmp_path / "m.onnx")
    assert main([str(tmp_path / "m.onnx"), "--beta", "2", "-o", str(tmp_path / "r.onnx")]) == 1
    assert "no binary layer" in capsys.readouterr().err
    assert not (tmp_path / "r.onnx").exists()


def test_filters_that_beta_does_not_divide_are_refused_with_their_number() -> None:
    with pytest.raises(Refusal, match="9 filters are not divisible by beta 2"):
        transform(network(SIGN, filters=9), Options())


def test_a_pattern_that_names_no_layer_is_bad_usage() -> None:
    with pytest.raises(Refusal, match="names no layer") as caught:
        transform(network(SIGN), Options(exclude=("nothing",)))
    assert caught.value.exit_code == 2


def test_ternary_weights_are_not_binary() -> None:
    draw = np.random.default_rng(1)
    weights = np.sign(draw.normal(size=(8, 8, 3, 3))) * (draw.random((8, 8, 3, 3)) > 0.4)
    made = transform(network(SIGN, w=weights), Options())
    assert {layer.name: layer.binary for layer in made.layers}["layer"] is False


def test_zero_one_maps_are_not_binary_behind_pooling() -> None:
    between = (
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Sign", ["p"], ["s"]),
    )
    made = transform(network(*between), Options())
    assert {layer.name: layer.binary for layer in made.layers}["layer"] is False


@pytest.mark.parametrize(
    ("boundary", "between", "behind"),
    [
        ("LRN", (helper.make_node("LRN", ["a"], ["l"], size=3), helper.make_node("Sign", ["l"], ["s"])), ()),
        ("Softmax", (SIGN,), (helper.make_node("Softmax", ["y"], ["t"], axis=1, name="soft"),)),
    ],
)
def test_operators_across_channels_are_boundaries(
    boundary: str, between: tuple[NodeProto, ...], behind: tuple[NodeProto, ...]
) -> None:
    made = transform(network(*between, behind=behind), Options())
    assert [boundary in reason for _, reason in made.boundaries] == [True]
    law = check_law(made.canonical, made.result, SpecOptions(2))
    assert law.ok, [str(failure) for failure in law.failures]
    with pytest.raises(Refusal, match="--strict"):
        transform(network(*between, behind=behind), Options(strict=True))
