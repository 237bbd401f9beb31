"""The study on Fashion-MNIST: its networks are read as they are meant, and its harness works, on a few images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from benchmarks.fashion import __main__ as command  # noqa: E402
from benchmarks.fashion import pair, runs  # noqa: E402
from benchmarks.fashion.networks import NETWORKS, original  # noqa: E402
from benchmarks.fashion.report import gain, table  # noqa: E402
from benchmarks.fashion.settings import Budget, Result, Setting, settings_of  # noqa: E402
from reptran_compiler import compile_model  # noqa: E402
from reptran_compiler.errors import BadInput  # noqa: E402
from reptran_compiler.gate import verify_pair  # noqa: E402
from reptran_compiler.training import agreement, calibrate, rescale, settle, spread, to_onnx, to_torch  # noqa: E402
from reptran_compiler.training.data import Augmentation, Dataset, Normalisation, Stored  # noqa: E402
from reptran_compiler.training.layers import Arithmetic, Layer  # noqa: E402
from reptran_compiler.training.norms import RepNorm  # noqa: E402

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
BUDGET = Budget(width=4, epochs=1, batch=20, images=200, calibrated=50)


def data() -> Dataset:
    """200 images to train on and 100 to test with: a bright bar at one of ten heights."""

    def examples(count: int, seed: int) -> Stored:
        labels = np.arange(count) % 10
        images = np.random.default_rng(seed).integers(0, 100, (count, 1, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[0, 2 * label + 4 : 2 * label + 7] += 150
        return Stored(images, labels, Augmentation(0, False))

    return Dataset("bars", examples(200, 1), examples(100, 2), 10, Normalisation((0.3,), (0.3,)))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("beta", [1, 2, 4])
def test_fresh_parameters_are_all_trained(network: str, beta: int) -> None:
    """Nothing that does nothing yet is taken away: every binary layer is normalised, every bias there."""
    source = original(network, 4, 0)
    read = to_torch(source if beta == 1 else compile_model(source, beta, verify=False))
    binary = [each for each in read.modules() if isinstance(each, Layer) and each.binarise is not None]
    assert len(binary) == 8
    biases = [each for each in read.modules() if isinstance(each, Arithmetic) and each.op == "Add"]
    assert len(biases) == (18 if network == "reactnet" else 0)
    text = repr(read)
    assert text.count("Norm(") >= 9, "one behind each convolution"


@pytest.mark.parametrize("network", NETWORKS)
def test_latent_weights_come_within_reach(network: str) -> None:
    """ReCU's are standardised in a file, and a clip lets no gradient through to most of them; rescaled, to all."""
    read = to_torch(original(network, 4, 0))
    layers = [each for each in read.modules() if isinstance(each, Layer) and each.binarise is not None]

    def reached() -> float:
        read.train().zero_grad()
        torch.nn.functional.cross_entropy(read(images), labels).backward()
        found = [each.weight.grad != 0 for each in layers if each.weight is not None and each.weight.grad is not None]
        return float(torch.cat([each.flatten() for each in found]).double().mean())

    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn((20, 1, 28, 28), generator=generator), torch.arange(20) % 10
    before = reached()
    assert before < 0.4 or network != "recu"
    written = to_onnx(read)
    assert rescale(read) == 8
    assert agreement(read, written).worst < 1e-4 and agreement(read, to_onnx(read)).worst < 1e-4
    assert reached() > 0.95
    with pytest.raises(ValueError, match="it has to be above 0"):
        rescale(read, 0.0)


@pytest.mark.parametrize("beta", [2, 4])
def test_copies_begin_apart(beta: int) -> None:
    read = to_torch(compile_model(original("recu", 4, 0), beta, verify=False))
    norms = [each for each in read.modules() if isinstance(each, RepNorm) and each.times == beta**2]
    before = [each.bias.detach().clone() for each in norms]
    assert spread(read, 0.5) == len(norms) == 8
    for norm, bias in zip(norms, before, strict=True):
        shift = ((norm.bias - bias) / norm.weight).view(beta, -1)
        assert torch.allclose(shift, torch.linspace(-0.5, 0.5, beta)[:, None].expand_as(shift), atol=1e-6)
    assert spread(to_torch(original("recu", 4, 0))) == 0, "an original has no copies"


def test_statistics_of_a_trained_network_are_those_of_the_images() -> None:
    """In evaluation mode it then computes, on the same images, what it computed in training mode."""
    read = to_torch(compile_model(original("reactnet", 4, 0), 2, verify=False))
    images = torch.randn((30, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    affines = [each.detach().clone() for each in read.parameters()]
    settle(read, images)
    assert not read.training and all(torch.equal(*pair) for pair in zip(affines, read.parameters(), strict=True))
    in_evaluation = read(images)
    norms = [each for each in read.modules() if isinstance(each, torch.nn.modules.batchnorm._BatchNorm)]
    assert {round(each.momentum or 0, 6) for each in norms} == {0.1}
    assert torch.allclose(in_evaluation, read.train()(images), rtol=0.05, atol=0.05)


def test_rep_networks_begin_as_their_originals_do() -> None:
    """With statistics of data in the original, what is folded gives maps of its size; with none, of the signs' sums."""
    images = torch.randn((50, 1, 28, 28), generator=torch.Generator().manual_seed(0))

    def sizes(source: onnx.ModelProto) -> list[float]:
        read = to_torch(compile_model(source, 2, verify=False))
        calibrate(read, [images])
        norms = [each for each in read.modules() if isinstance(each, RepNorm) and each.times == 4]
        return [float(each.weight.detach().abs().mean()) for each in norms]

    begun = original("recu", 4, 0)
    read = to_torch(begun)
    calibrate(read, [images])
    assert min(sizes(begun)) > 3 and 0.5 < min(sizes(to_onnx(read))) < max(sizes(to_onnx(read))) < 2


def test_a_network_is_calibrated_as_a_compiled_one_once() -> None:
    """Calibrated again, or trained, it computes what it did: its channels are not the original's any more."""
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn((30, 1, 28, 28), generator=generator), torch.arange(30) % 10
    model = compile_model(original("recu", 4, 0), 2, verify=False).model
    read = to_torch(model)
    before = read.eval()(images)
    calibrate(read, [images])
    once = read(images)
    assert not torch.allclose(before, once, rtol=0.1, atol=0.1)
    calibrate(read, [images])
    assert torch.allclose(once, read(images), rtol=1e-3, atol=1e-3)
    optimiser = torch.optim.Adam(read.parameters(), 0.01)
    torch.nn.functional.cross_entropy(read.train()(images), labels).backward()
    optimiser.step()
    resumed = to_torch(model)
    resumed.load_state_dict(read.state_dict())
    trained = read.eval()(images)
    for each in (read, resumed):
        calibrate(each, [images])
        assert torch.allclose(trained, each(images), rtol=1e-3, atol=1e-3)


def test_a_seed_gives_the_same_network() -> None:
    assert original("recu", 4, 1) == original("recu", 4, 1) != original("recu", 4, 2)


def test_a_run_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An original, its Rep network, and one of the trained original; what is finished is not run again."""
    torch.set_num_threads(1)
    settings = settings_of(["recu"], [2], seeds=1, trained=1)
    names = ["recu-beta1-seed0", "recu-beta2-seed0", "recu-beta1-seed0-trained", "recu-beta2-seed0-trained"]
    assert [str(each) for each in settings] == names
    results = [runs.perform(each, BUDGET, data(), tmp_path) for each in settings]
    for setting, result in zip(settings, results, strict=True):
        assert result.setting == setting and len(result.curve) == 1
        assert runs.accuracy(onnx.load(str(tmp_path / f"{setting}.onnx")), data()) == result.accuracy
    assert results[0].macs < results[1].macs < 1.1 * results[0].macs, "the classifier alone is wider"
    monkeypatch.setattr(runs, "train", None)
    assert [runs.perform(each, BUDGET, data(), tmp_path) for each in settings] == results
    with pytest.raises(BadInput, match="made with epochs 1, not 2: name another folder"):
        runs.perform(settings[0], replace(BUDGET, epochs=2), data(), tmp_path)
    text = table(results, 9, BUDGET, "python -m benchmarks.fashion")
    assert "4 of 9 runs are finished" in text and text.count("| recu | Rep, beta 2 | 1 |") == 2


def test_means_and_spreads() -> None:
    def made(seed: int, accuracy: float) -> Result:
        return Result(Setting("recu", 1, seed), BUDGET, 1, 1, 0.1, 0.1, accuracy, (accuracy,), 60.0)

    before, after = [made(0, 0.80), made(1, 0.82)], [made(0, 0.81), made(1, 0.84)]
    assert gain(after, before) == "+1.50 ± 0.71" and gain(before, after) == "-1.50 ± 0.71"
    assert "| recu | original | 2 | 1 | 1 | 81.00 ± 1.41 |  | 1.0 |" in table(before, 2, BUDGET, "it")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole study of one original, from a folder of MNIST's form."""
    for split, kind, array in (
        ("train", "images", data().train.take(np.arange(200), None)),  # type: ignore[union-attr]
        ("train", "labels", data().train.labels),
        ("t10k", "images", data().test.take(np.arange(100), None)),
        ("t10k", "labels", data().test.labels),
    ):
        array = array.reshape(-1, 28, 28) if kind == "images" else array
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        axes = array.ndim
        (tmp_path / f"{split}-{kind}-idx{axes}-ubyte").write_bytes(head + array.astype(np.uint8).tobytes())
    sizes = ["--seeds", "1", "--trained", "0", "--width", "4", "--epochs", "1", "--images", "200", "--betas", "1"]
    places = ["--data", str(tmp_path), "--folder", str(tmp_path / "runs")]
    outputs = ["-o", str(tmp_path / "out.md"), "--plot", str(tmp_path / "out.svg")]
    assert command.main(["--networks", "recu", *sizes, *places, *outputs]) == 0
    assert "| recu | original | 1 |" in (tmp_path / "out.md").read_text()
    assert (tmp_path / "out.svg").exists() and "1/1 recu-beta1-seed0" in capsys.readouterr().err


def test_the_pair_is_a_pair() -> None:
    """The trained original and the Rep network that was trained from it, as they are kept."""
    assert verify_pair(pair.ORIGINAL, pair.REP, retrained=True).passed


@pytest.mark.skipif(not runs.DATA.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_accuracies_of_the_pair(tmp_path: Path) -> None:
    """The table that is kept is what the command finds, up to images that rounding decides; no form costs more."""
    assert pair.main(["-o", str(tmp_path / "table.md")]) == 0
    kept, found = rows(RESULTS / "fashion-pair.md"), rows(tmp_path / "table.md")
    assert list(found) == list(kept) and len(found) == 5
    for name, (right, *costs) in found.items():
        assert float(right) == pytest.approx(float(kept[name][0]), abs=0.2)
        assert costs[:2] == kept[name][1:3]
    assert len({tuple(costs[:2]) for _, *costs in found.values() if costs[0]}) == 1
    assert found["trained"][0] == found["trained, lowered and packed"][0]


def test_without_images_the_command_says_what_to_install(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pair.main(["--data", str(tmp_path / "nowhere")]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "dataset-fashion-mnist" in said and "--data" in said


def rows(file: Path) -> dict[str, list[str]]:
    """The rows of a table in Markdown, by their first cell."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in file.read_text().splitlines() if "|" in line]
    return {row[0]: row[1:] for row in cells[2:]}
