"""The qonnx domain is read without qonnx: against its definition in numpy, and refused where it cannot be said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from models.toolchains.fixtures import load
from reptran_compiler.cli.main import main as compile_main
from reptran_compiler.cli.verify import main as verify_main
from reptran_compiler.compiler import compile_model
from reptran_compiler.errors import BadInput
from reptran_compiler.qonnx import standard_operators
from reptran_compiler.runtime import run

DOMAIN = "qonnx.custom_op.general"
X = np.array([[-130.4, -2.5, -1.5, -0.5, -0.0, 0.0, 0.5, 1.5, 2.5, 300.0], [*np.linspace(-3, 3, 10)]], np.float32)


def _model(node: NodeProto, opset: int = 17, **stored: Any) -> ModelProto:
    graph = helper.make_graph(
        [node],
        "quantiser",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in stored.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _quant(scale: Any = 1.0, zero: float = 0.0, bits: float = 4.0, **attributes: Any) -> ModelProto:
    node = helper.make_node("Quant", ["x", "scale", "zero", "bits"], ["y"], name="quant", domain=DOMAIN, **attributes)
    return _model(node, scale=scale, zero=zero, bits=bits)


def _bipolar(scale: Any, **given: Any) -> ModelProto:
    node = helper.make_node("BipolarQuant", ["x", "scale"], ["y"], name="quant", domain=DOMAIN)
    return _model(node, scale=scale, **given)


@pytest.mark.parametrize("scale", [1.0, [1.0], [[0.25]], np.linspace(0.5, 2, 10)])
def test_bipolar_quant_is_the_scale_with_the_sign_of_x(scale: Any) -> None:
    """+1 at 0, whichever 0."""
    found = run(standard_operators(_bipolar(scale)), {"x": X})["y"]
    assert np.array_equal(found, np.where(X >= 0, 1, -1) * np.asarray(scale, np.float32))


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("narrow", [0, 1])
@pytest.mark.parametrize(("mode", "rounds"), [("ROUND", np.round), ("FLOOR", np.floor), ("CEIL", np.ceil)])
@pytest.mark.parametrize(("scale", "zero", "bits"), [(1.0, 0.0, 8), (0.25, 3.0, 4), (2.0, 0.0, 2)])
def test_quant_is_its_definition(
    signed: int, narrow: int, mode: str, rounds: Any, scale: float, zero: float, bits: int
) -> None:
    """Shift, clip, round, shift back."""
    low, high = ([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1], [0, 2**bits - 1])[1 - signed]
    low, high = (low + narrow, high) if signed else (low, high - narrow)
    expected = (rounds(np.clip(X / np.float32(scale) + zero, low, high)) - zero) * scale
    model = standard_operators(_quant(scale, zero, bits, signed=signed, narrow=narrow, rounding_mode=mode))
    assert np.array_equal(run(model, {"x": X})["y"], expected.astype(np.float32))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (_quant(bits=1.0), r"Quant 'quant' has \[1.0\] bits: .* BipolarQuant"),
        (_quant(rounding_mode="HALF_UP"), "rounds by HALF_UP"),
        (_model(helper.make_node("BipolarQuant", ["x", "x"], ["y"], name="q", domain=DOMAIN)), "'x' .* is computed"),
        (_model(helper.make_node("Trunc", ["x"], ["y"], name="q", domain=DOMAIN)), "operator Trunc 'q' is not known"),
        (_model(helper.make_node("BipolarQuant", ["x", "s"], ["y"], domain=DOMAIN), opset=11, s=1.0), "opset 11"),
    ],
    ids=["one bit", "rounding", "computed scale", "unknown", "opset"],
)
def test_what_cannot_be_said_is_refused_with_the_reason(model: ModelProto, words: str) -> None:
    """Nothing is guessed of a quantiser."""
    with pytest.raises(BadInput, match=words):
        compile_model(model, 2)


def test_a_model_without_the_domain_is_left_as_it_is() -> None:
    """No copy is made of it."""
    model = _model(helper.make_node("Relu", ["x"], ["y"]))
    assert standard_operators(model) is model


def test_tensors_keep_their_names_and_new_ones_are_free() -> None:
    """A name that a new tensor would like may be taken."""
    model = _bipolar(2.0, **{"quant/zero": 5.0})
    made = standard_operators(model)
    assert made.graph.node[-1].output[0] == "y"
    names = [tensor.name for tensor in made.graph.initializer]
    assert len(names) == len(set(names))
    assert np.array_equal(run(made, {"x": X})["y"], 2 * np.where(X >= 0, 1, -1))


def test_a_pair_is_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By reptran-verify, from the QONNX original; and its nodes are explained."""
    source, rep = tmp_path / "tfc.onnx", tmp_path / "rep.onnx"
    onnx.save(load("brevitas/tfc-cleaned").model, str(source))
    assert compile_main([str(source), "--beta", "2", "-o", str(rep), "--quiet"]) == 0
    assert verify_main([str(source), str(rep)]) == 0
    assert compile_main([str(source), "--explain", "Gemm_1"]) == 0
    assert "replicate-input" in capsys.readouterr().out


def test_beta_1_gives_the_file_back() -> None:
    """QONNX operators and all."""
    model = _bipolar(1.0)
    assert compile_model(model, 1).model.SerializeToString() == model.SerializeToString()
