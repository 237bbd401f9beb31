"""Every opset, rank and dtype that onnxruntime runs; several inputs and outputs; the options that choose layers."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import Outcome, compile_file
from onnx import ModelProto, TensorProto, helper, numpy_helper
from small_networks import network
from spelled import of_rank, spelled
from tiny_networks import Net, joined, plain

from reptran_compiler.runtime import RuntimeFailure, Session
from reptran_compiler.trial import OLDEST_OPSET


@lru_cache
def newest_opset() -> int:
    """The newest opset that both packages know."""
    for opset in range(onnx.defs.onnx_opset_version(), OLDEST_OPSET, -1):
        model = network(opset=opset)
        model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))
        try:
            Session(model)
        except RuntimeFailure:
            continue
        return opset
    raise AssertionError("onnxruntime runs no opset that onnx knows")


def verified(model: ModelProto, folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> Outcome:
    """Compile, and see that the result was verified, passes the checker and speaks the source's opset."""
    done = compile_file(model, folder, capsys, *flags)
    assert done.code == 0, done.err
    assert "verified: " in done.out
    onnx.checker.check_model(done.model, full_check=True)
    assert list(done.model.opset_import) == list(model.opset_import)
    assert done.model.ir_version == model.ir_version
    return done


def shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of every layer."""
    stored = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    layers = (node for node in model.graph.node if node.op_type in ("Conv", "Gemm"))
    return {node.name: stored[node.input[1]] for node in layers if node.input[1] in stored}


@pytest.mark.parametrize("bn", ["fold", "keep"])
@pytest.mark.parametrize("opset", range(OLDEST_OPSET, newest_opset() + 1))
def test_every_opset(opset: int, bn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = spelled(opset)
    onnx.checker.check_model(model, full_check=True)
    done = verified(model, tmp_path, capsys, "--bn", bn, "--strict")
    found = shapes(done.model)
    assert found["one"] == found["two"] == (4, 16, 3, 3)
    assert found["stem"] == (8, 3, 3, 3) and found["fc"] == (5, 16)


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 13, 18, newest_opset()])
def test_upsampling_is_carried(opset: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verified(spelled(opset, upsampled=True), tmp_path, capsys, "--strict")


@pytest.mark.parametrize("flags", [("--scope", "layer"), ("--fc", "fold"), ("--weights", "binary"), ("--beta", "4")])
@pytest.mark.parametrize("opset", [OLDEST_OPSET, 9, 13, newest_opset()])
def test_options_at_old_and_new_opsets(
    opset: int, flags: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = verified(spelled(opset), tmp_path, capsys, *flags)
    beta = 4 if "4" in flags else 2
    assert shapes(done.model)["one"] == (8 // beta, 8 * beta, 3, 3)
    assert shapes(done.model)["fc"] == (5, 8 if flags[1] in ("layer", "fold") else 8 * beta)


@pytest.mark.parametrize("scope", ["network", "layer"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_every_rank(rank: int, scope: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = verified(of_rank(rank), tmp_path, capsys, "--scope", scope, "--strict")
    assert shapes(done.model)["one"] == shapes(done.model)["two"] == (4, 16, *[3] * rank)


@pytest.mark.parametrize("beta", ["2", "4"])
@pytest.mark.parametrize("scope", ["network", pytest.param("layer")])
def test_grouped_layers(scope: str, beta: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    signs = np.sign(np.random.default_rng(6).normal(size=(8, 4, 3, 3)))
    model = network(w=signs)
    next(node for node in model.graph.node if node.name == "layer").attribute.append(helper.make_attribute("group", 2))
    done = verified(model, tmp_path, capsys, "--scope", scope, "--beta", beta)
    assert shapes(done.model)["layer"] == (8 // int(beta), 4 * int(beta), 3, 3)


def test_half_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = verified(of_rank(2, np.float16), tmp_path, capsys)
    floats = [t for t in done.model.graph.initializer if t.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)]
    assert {tensor.data_type for tensor in floats} == {TensorProto.FLOAT16}
    assert shapes(done.model)["one"] == (4, 16, 3, 3)


def two_ended() -> ModelProto:
    """Two images that are added behind their stems; logits, an inner map and a wide map as outputs."""
    model = plain()
    graph = model.graph
    weight = numpy_helper.from_array(np.random.default_rng(1).normal(size=(12, 2, 3, 3)).astype(np.float32), "side.w")
    graph.initializer.append(weight)
    graph.input.append(helper.make_tensor_value_info("side", 1, ["N", 2, 8, 8]))
    index = next(i for i, node in enumerate(graph.node) if node.name == "one.sign")
    graph.node[index].input[0] = "both"
    graph.node.insert(index, helper.make_node("Add", ["stem.bn", "side.y"], ["both"], name="both"))
    graph.node.insert(0, helper.make_node("Conv", ["side", "side.w"], ["side.y"], name="side.stem", pads=[1] * 4))
    graph.output.insert(0, helper.make_tensor_value_info("one.act", 1, ["N", 12, 8, 8]))
    graph.output.append(helper.make_tensor_value_info("two.add", 1, ["N", 24, "H", "W"]))
    return model


@pytest.mark.parametrize("flags", [(), ("--bn", "keep"), ("--scope", "layer"), ("--fc", "fold")])
def test_several_inputs_and_outputs(flags: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = verified(two_ended(), tmp_path, capsys, *flags)
    assert list(done.model.graph.input) == list(two_ended().graph.input)
    assert list(done.model.graph.output) == list(two_ended().graph.output)
    assert shapes(done.model)["side.stem"] == (12, 2, 3, 3)


def test_a_wide_binarised_map_as_an_output_is_the_mean_of_its_copies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = plain()
    model.graph.output.append(helper.make_tensor_value_info("one.sign", 1, ["N", 12, 8, 8]))
    verified(model, tmp_path, capsys)


@pytest.mark.parametrize("scope", ["network", "layer"])
def test_an_excluded_layer_keeps_its_weights(scope: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = verified(joined(), tmp_path, capsys, "--exclude", "^one$", "--scope", scope)
    assert shapes(done.model)["one"] == (12, 12, 3, 3)
    assert shapes(done.model)["two"] == (12, 48, 3, 3)
    line = next(each for each in done.out.splitlines() if each.split()[:1] == ["one"])
    assert "exclude" in line


def behind_a_boundary() -> ModelProto:
    """A reduction over channels makes a narrow map, which the layer "late" reads."""
    net = Net(3)
    x = net.norm(net.real_conv("input", "stem", (8, 3, 3), pads=[1] * 4), "stem.bn", 8)
    x = net.norm(net.binary_conv(x, "one", (8, 8, 3), pads=[1] * 4), "one.bn", 8)
    x = net.add("ReduceMean", [x], "reduced", axes=[1], keepdims=1)
    x = net.add("Sub", [x, net.store("late.shift", np.float32(0.1))], "shifted")
    return net.head(net.binary_conv(x, "late", (8, 1, 3), pads=[1] * 4), 8)


def test_a_layer_that_reads_a_narrow_map_is_rewritten_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("as it is", "included"):
        (tmp_path / name).mkdir()
    kept = verified(behind_a_boundary(), tmp_path / "as it is", capsys)
    assert shapes(kept.model)["late"] == (8, 1, 3, 3) and shapes(kept.model)["fc"] == (5, 8)
    done = verified(behind_a_boundary(), tmp_path / "included", capsys, "--include", "late")
    assert shapes(done.model)["late"] == (4, 2, 3, 3) and shapes(done.model)["fc"] == (5, 16)


def test_binary_weights_store_signs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = verified(latent(), tmp_path, capsys, "--weights", "binary")
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in done.model.graph.initializer}
    layer = next(node for node in done.model.graph.node if node.name == "layer")
    assert set(np.unique(stored[layer.input[1]])) == {-1.0, 1.0}


def test_latent_weights_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = verified(latent(), tmp_path, capsys)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in done.model.graph.initializer}
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in latent().graph.initializer}["w.latent"]
    moved = before.reshape(2, 4, 8, 3, 3).transpose(1, 0, 2, 3, 4).reshape(4, 16, 3, 3)
    assert any(value.shape == moved.shape and np.array_equal(value, moved) for value in stored.values())


def latent() -> ModelProto:
    """A network whose layer reads the Sign of a stored tensor."""
    model = network(**{"w.latent": np.random.default_rng(8).normal(size=(8, 8, 3, 3))})
    index = next(i for i, tensor in enumerate(model.graph.initializer) if tensor.name == "w")
    del model.graph.initializer[index]
    model.graph.node.insert(0, helper.make_node("Sign", ["w.latent"], ["w"], name="binarise"))
    return model
