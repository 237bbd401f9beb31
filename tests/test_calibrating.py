"""Statistics measured on data: what they are, what stays, and `reptran-calibrate` as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from torch import Tensor

from reptran_compiler import compile_model
from reptran_compiler.cli.calibrate import main
from reptran_compiler.gate import verify_pair
from reptran_compiler.training import Network, calibrate, to_onnx, to_torch
from reptran_compiler.training.layers import Layer
from reptran_compiler.training.norms import BatchNorm, FoldedNorm, Statistics
from tests.tiny_networks import plain


def _images(count: int = 3) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(16, 3, 8, 8) for _ in range(count)]


def _outputs(network: Network, images: list[Tensor]) -> Tensor:
    network.eval()
    with torch.no_grad():
        return torch.cat([network(each) for each in images])


def _channels(network: Network, name: str, images: list[Tensor]) -> Tensor:
    """A tensor of a network in evaluation, [C, N * H * W]."""
    network.eval()
    found = []
    with torch.no_grad():
        for each in images:
            values = {network.inputs[0]: each}
            for place in range(len(network.steps)):
                network.run_step(place, values)
            found.append(values[name])
    return torch.cat(found).transpose(0, 1).flatten(1)


def _measured(model: ModelProto, images: list[Tensor]) -> Network:
    network = to_torch(model)
    calibrate(network, images)
    return network


@pytest.mark.parametrize("bn", ["fold", "keep"])
def test_behind_the_first_repconv_each_channel_has_the_moments_that_the_original_gives_it(bn: str) -> None:
    """There the copies are equal, so that the original computes its channel of the very same input."""
    images = _images()
    source = _measured(plain(), images)
    rep = _measured(compile_model(to_onnx(source), 2, bn=bn, verify=False).model, images)
    original, wide = _channels(source, "one.bn", images), _channels(rep, "one.bn", images)
    for block in wide.chunk(2):
        torch.testing.assert_close(block.mean(1), original.mean(1), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(block.std(1), original.std(1), rtol=1e-3, atol=1e-4)


def test_statistics_are_those_of_the_data_behind_what_was_measured_before() -> None:
    images = _images()
    network = _measured(plain(), images)
    norms = [m for m in network.modules() if isinstance(m, BatchNorm) and not isinstance(m, Statistics)]
    assert norms
    for norm in norms:
        seen: list[Tensor] = []
        hook = norm.register_forward_pre_hook(lambda module, given, into=seen: into.append(given[0]))
        _outputs(network, images)
        hook.remove()
        maps = torch.cat(seen).transpose(0, 1).flatten(1)
        torch.testing.assert_close(norm.running_mean, maps.mean(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var, maps.var(1, correction=0), rtol=1e-4, atol=1e-5)


def test_a_network_that_was_measured_stays_as_it_is_when_it_is_measured_again() -> None:
    images = _images()
    network = _measured(compile_model(plain(), 2, verify=False).model, images)
    again = to_torch(to_onnx(network))
    before = _outputs(again, images)
    assert calibrate(again, images) > 0
    torch.testing.assert_close(_outputs(again, images), before, rtol=1e-4, atol=1e-4)
    folded = [module for module in again.modules() if isinstance(module, FoldedNorm)]
    assert any(float(module.statistics.running_mean.abs().max()) > 0 for module in folded)


def test_a_network_that_learned_in_evaluation_mode_keeps_what_it_learned() -> None:
    """As where normalisations are frozen: its weights are no longer the original's."""
    images = _images()
    network = to_torch(compile_model(plain(), 2, verify=False))
    network.eval()(images[0]).square().mean().backward()
    torch.optim.SGD(network.parameters(), lr=0.01).step()
    before = _outputs(network, images)
    calibrate(network, images)
    assert torch.allclose(_outputs(network, images), before, rtol=1e-3, atol=1e-3)


def test_training_mode_begins_where_evaluation_is() -> None:
    (images,) = _images(1)
    network = _measured(compile_model(plain(), 2, verify=False).model, [images])
    before = _outputs(network, [images])
    with torch.no_grad():
        torch.testing.assert_close(network.train()(images), before, rtol=1e-3, atol=1e-3)


def test_an_original_whose_normalisation_was_folded_computes_what_it_did() -> None:
    """A network of scales and offsets alone: there is nothing that statistics could change."""
    images = _images()
    source = to_torch(compile_model(plain(), 1).model)
    model = source.blueprint.model
    folded = to_torch(compile_model(model, 2, scope="layer", verify=False).model)
    trained = to_torch(to_onnx(folded))
    before = _outputs(trained, images)
    calibrate(trained, images)
    torch.testing.assert_close(_outputs(trained, images), before, rtol=1e-4, atol=1e-4)


def test_the_blocks_of_a_repconv_give_the_original_layer() -> None:
    from reptran_compiler.training.blocks import blocks_of

    source = to_torch(plain())
    for beta in (2, 4):
        rep = to_torch(compile_model(plain(), beta, verify=False).model)
        blocks = blocks_of(rep)
        for name in ("one", "two"):
            one, other = source.module(name), rep.module(name)
            assert isinstance(one, Layer) and isinstance(other, Layer) and one.weight is not None
            x = torch.sign(torch.randn(2, one.weight.shape[1], 8, 8))
            theirs = one.operate(x, one.effective(), None)
            assert torch.equal(blocks[name].original(other, [x.repeat(1, beta, 1, 1)]), theirs)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("layers", "{", "reptran.layers makes no sense"),
        ("layers", '["one"]', "reptran.layers makes no sense"),
        ("layers", '{"one": "repconv"}', "reptran.layers makes no sense"),
        ("layers", '{"one": {}}', "reptran.layers makes no sense"),
        ("layers", "[" * 100_000, "reptran.layers makes no sense"),
        ("beta", "two", "reptran.beta is 'two'"),
        ("beta", "0", "reptran.beta is '0'"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused(
    key: str, value: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it nobody knows which rows are the original's, and statistics would be others."""
    model = compile_model(plain(), 2, verify=False).model
    next(entry for entry in model.metadata_props if entry.key == f"reptran.{key}").value = value
    onnx.save(model, str(tmp_path / "rep.onnx"))
    np.savez(
        tmp_path / "data.npz",
        **{f"{split}_images": np.zeros((4, 3, 8, 8), np.uint8) for split in ("train", "test")},
        **{f"{split}_labels": np.zeros(4, np.int64) for split in ("train", "test")},
    )
    files = [str(tmp_path / name) for name in ("rep.onnx", "data.npz", "out.onnx")]
    assert main([files[0], "--data", files[1], "-o", files[2]]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert words in said and "compile the network that it was made from again" in said
    assert not (tmp_path / "out.onnx").exists()


def test_without_images_there_is_nothing_to_measure_on() -> None:
    with pytest.raises(ValueError, match="no images"):
        calibrate(to_torch(plain()), [])


# -- the command ---------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A Rep network and images, in a folder."""
    onnx.save(plain(), str(tmp_path / "plain.onnx"))
    compile_model(plain(), 2, output=tmp_path / "rep.onnx")
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 50), ("test", 10)):
        arrays[f"{part}_images"] = random.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
        arrays[f"{part}_labels"] = random.integers(0, 5, count)
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path


def test_the_command_writes_a_network_that_passes_the_gate(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        str(files / "rep.onnx"),
        "--data",
        str(files / "data.npz"),
        "--images",
        "40",
        "-o",
        str(files / "out.onnx"),
    ]
    assert main(words) == 0
    assert "3 normalisations on 40 images of data.npz" in capsys.readouterr().out
    checked = verify_pair(str(files / "plain.onnx"), str(files / "out.onnx"), retrained=True)
    assert checked.passed, checked.failures
    before = {each.name: numpy_helper.to_array(each) for each in onnx.load(str(files / "rep.onnx")).graph.initializer}
    after = {each.name: numpy_helper.to_array(each) for each in onnx.load(str(files / "out.onnx")).graph.initializer}
    assert before.keys() == after.keys()
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    first = (files / "out.onnx").read_bytes()
    assert main(words) == 0
    assert (files / "out.onnx").read_bytes() == first


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--data", "missing.npz"], "there is no data set"),
        (["-o", "rep.onnx"], "is read and cannot be written"),
        (["--images", "0"], "no integer of at least 1"),
        (["--mean", "x"], "is not of the form"),
        (["--std", "0"], "above 0"),
    ],
)
def test_wrong_words_are_answered_in_one_line(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: list[str], words: str
) -> None:
    monkeypatch.chdir(files)
    assert main(["rep.onnx", "--data", "data.npz", "-o", "out.onnx", *change]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and said.startswith("reptran-calibrate: ")
    assert not (files / "out.onnx").exists()


def test_images_that_do_not_fit_are_refused(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = dict(np.load(files / "data.npz"))
    for part in ("train", "test"):
        arrays[f"{part}_images"] = arrays[f"{part}_images"][:, :1]
    np.savez(files / "gray.npz", **arrays)
    assert main([str(files / "rep.onnx"), "--data", str(files / "gray.npz"), "-o", str(files / "out.onnx")]) == 2
    assert "does not take images [1, 8, 8]" in capsys.readouterr().err


def test_half_precision_is_measured(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    model = onnx.load("plain.onnx")
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(model, "half.onnx")
    assert main(["half.onnx", "--data", "data.npz", "-o", "out.onnx", "-q"]) == 0


def test_help_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = sys.modules['onnxruntime'] = None; "
    code += "from reptran_compiler.cli.calibrate import main; sys.exit(main(['--help']))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
