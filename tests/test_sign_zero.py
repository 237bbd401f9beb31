"""`--sign-zero plus` and `--target packed`: what kernels of one bit cannot represent, changed or told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command import compile_file
from onnx import ModelProto, helper, numpy_helper
from small_networks import SIGN, network

from reptran_compiler.cli.verify import main as verify_main
from reptran_compiler.compiler import BadInput, compile_model
from reptran_compiler.runtime import random_feeds, run
from reptran_compiler.sign_zero import plus_at_zero
from reptran_compiler.trial import Trial

TRIAL = Trial(batches=(2,))
RELU = helper.make_node("Relu", ["a"], ["r"], name="relu")


def with_zeros() -> ModelProto:
    """What is binarised is 0 where it was negative, less a shift that leaves both signs; the weights hold zeros."""
    between = [RELU, helper.make_node("Sub", ["r", "shift"], ["d"], name="shift")]
    weights = np.sign(np.random.default_rng(1).normal(size=(8, 8, 3, 3)))
    weights[0, 0, 0, :2] = 0
    shift = np.where(np.arange(8) % 2, 0.5, 0.0).reshape(1, 8, 1, 1)
    return network(*between, helper.make_node("Sign", ["d"], ["s"], name="sign"), w=weights, shift=shift)


def shown(model: ModelProto, name: str) -> np.ndarray[Any, Any]:
    """A tensor of a model on some input."""
    return run(model, random_feeds(model, batch=2), [name])[name]


def test_every_sign_is_plus_one_at_zero() -> None:
    """And nothing else is changed."""
    source = with_zeros()
    made, notes = plus_at_zero(source, TRIAL)
    before, after = shown(source, "s"), shown(made, "s")
    assert (before == 0).any(), "or the test shows nothing"
    assert np.array_equal(after, np.where(before == 0, 1, before))
    assert notes == ("--sign-zero plus: Sign was made +1 at 0 (1 in the source); the result is verified against that",)
    (chosen,) = (node for node in made.graph.node if node.name == "sign")
    assert (chosen.op_type, chosen.output[0]) == ("Where", "s")
    assert [n.name for n in source.graph.node if n.name != "sign"] == [
        n.name for n in made.graph.node if not n.name.startswith("sign")
    ]


@pytest.mark.parametrize("opset", [9, 11, 12, 17, 22])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_in_every_opset_and_type(opset: int, dtype: Any) -> None:
    """The spelling is one that the opset has."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Sign", ["x"], ["y"], name="s", doc_string="kept")],
        "signs",
        [value("x", kind, ["N", 5])],
        [value("y", kind, ["N", 5])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    made, _ = plus_at_zero(model, TRIAL)
    onnx.checker.check_model(made)
    x = np.array([[-2, -0.0, 0, 1e-30, np.inf]], dtype)
    assert np.array_equal(run(made, {"x": x})["y"], np.array([[-1, 1, 1, 1, 1]], dtype))
    assert made.graph.node[-1].doc_string == "kept"


def test_integers_and_models_without_sign_are_left_alone() -> None:
    """The model itself comes back."""
    model = network(helper.make_node("Tanh", ["a"], ["s"], name="tanh"))
    assert plus_at_zero(model, TRIAL)[0] is model


def test_the_result_is_that_of_the_changed_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is verified, recorded, and verified again from the file."""
    done = compile_file(with_zeros(), tmp_path, capsys, "--sign-zero", "plus")
    assert done.code == 0 and "Sign was made +1 at 0" in done.out
    assert "Sign" not in {node.op_type for node in done.model.graph.node}
    assert set(np.unique(shown(done.model, "s"))) == {-1, 1}
    assert verify_main([str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx")]) == 0
    assert verify_main([str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx"), "--sign-zero", "keep"]) == 2


# -- what a packed backend is told ---------------------------------------------------------------------------


def padded(value: float) -> ModelProto:
    """The layer reads an explicit Pad, and has none of its own."""
    pad = helper.make_node("Pad", ["b", "pads", "value"], ["s"], name="pad")
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    up = [
        helper.make_node("GreaterOrEqual", ["a", "zero"], ["m"], name="mask"),
        helper.make_node("Where", ["m", "one", "minus"], ["b"], name="where"),
    ]
    numbers = {"zero": np.float32(0), "one": np.float32(1), "minus": np.float32(-1), "value": np.float32(value)}
    model = network(*up, pad, pads=pads, **numbers)
    layer = next(node for node in model.graph.node if node.name == "layer")
    next(entry for entry in layer.attribute if entry.name == "pads").ints[:] = [0, 0, 0, 0]
    return model


PADDING, SIGN_AT_ZERO, WEIGHTS = "zero padding", "a Sign that is 0 at 0", "weights that are 0"


@pytest.mark.parametrize(
    ("model", "flags", "told"),
    [
        (network, (), [PADDING, SIGN_AT_ZERO]),
        (network, ("--sign-zero", "plus"), [PADDING]),
        (with_zeros, (), [PADDING, SIGN_AT_ZERO, WEIGHTS]),
        (lambda: padded(0.0), (), [PADDING]),
        (lambda: padded(1.0), (), []),
        (lambda: padded(-1.0), (), []),
    ],
    ids=["Sign", "plus", "zeros", "Pad of 0", "Pad of 1", "Pad of -1"],
)
def test_zeros_are_reported_for_a_packed_target(
    model: Any, flags: tuple[str, ...], told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each cause once, with the layer; and only where the target is said to be packed."""
    done = compile_file(model(), tmp_path, capsys, "--target", "packed", *flags)
    assert done.code == 0
    warned = [line for line in done.out.splitlines() if "kernels of one bit have no 0" in line]
    assert len(warned) == len(told) and all("'layer'" in line for line in warned)
    assert all(words in line for words, line in zip(told, warned, strict=True))
    assert "kernels of one bit" not in compile_file(model(), tmp_path, capsys, *flags).out


def test_a_latent_zero_is_a_zero() -> None:
    """The weights are the Sign of stored numbers, one of which is 0."""
    latent = np.random.default_rng(0).normal(size=(8, 8, 3, 3)).astype(np.float32)
    latent[0, 0, 0, 0] = 0
    model = network(SIGN, latent=latent)
    model.graph.node.insert(0, helper.make_node("Sign", ["latent"], ["w"], name="binarise"))
    stored = [each for each in model.graph.initializer if each.name != "w"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(stored)
    made = compile_model(model, 2, target="packed", sign_zero="keep")
    assert any("reads a Sign" in line for line in made.summary.warnings)
    plus = compile_model(model, 2, target="packed", sign_zero="plus", weights="binary")
    assert not any("Sign" in line or "weights" in line for line in plus.summary.warnings)
    weights = [numpy_helper.to_array(t) for t in plus.model.graph.initializer if t.name.startswith(("latent", "w"))]
    assert weights and all(np.isin(each, (-1, 1)).all() for each in weights)


@pytest.mark.parametrize(
    ("option", "word"),
    [("fc", "wide"), ("repeat", "Tile"), ("cpu", "avx512"), ("emit", "finn"), ("target", ""), ("sign_zero", "minus")],
)
def test_words_that_options_do_not_have_are_refused(option: str, word: str) -> None:
    """From Python, too."""
    with pytest.raises(BadInput, match=f"{option} is '{word}'; it has to be"):
        compile_model(network(), 2, **{option: word})
