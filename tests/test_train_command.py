"""`reptran-train` as a user runs it: flags, exit codes, files. The network is a small one."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch")

from training_run import dataset  # noqa: E402

from reptran_compiler import compile_model  # noqa: E402
from reptran_compiler.cli.train import main  # noqa: E402
from reptran_compiler.cli.train_arguments import RECIPE_NAMES, parse  # noqa: E402
from reptran_compiler.cli.train_recipe import recipe  # noqa: E402
from reptran_compiler.gate import verify_pair  # noqa: E402
from reptran_compiler.training.data import Stored  # noqa: E402
from reptran_compiler.training.norms import FoldedNorm  # noqa: E402
from reptran_compiler.training.recipe import RECIPES  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


def small_model() -> ModelProto:
    """A linear classifier of [N, 1, 8, 8]: teaches."""
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32), "weight")
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "weight"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph(nodes, "small", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def binary_model() -> ModelProto:
    """A stem, a binary layer with BatchNormalization, pooling and a classifier, of [N, 1, 8, 8] to [N, 4]."""
    random = np.random.default_rng(0)
    stored = {
        "stem": random.normal(size=(8, 1, 3, 3)),
        "latent": random.normal(size=(8, 8, 3, 3)),
        "gamma": random.uniform(0.5, 1.5, 8),
        "beta": random.normal(size=8),
        "mean": random.normal(size=8),
        "var": random.uniform(0.5, 1.5, 8),
        "fc": random.normal(size=(8, 4)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "stem"], ["a"], "stem", pads=[1] * 4),
        helper.make_node("Sign", ["a"], ["s"], "sign"),
        helper.make_node("Sign", ["latent"], ["w"], "weights"),
        helper.make_node("Conv", ["s", "w"], ["c"], "conv", pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["n"], "norm"),
        helper.make_node("GlobalAveragePool", ["n"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "fc"], ["y"], "fc"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "binary", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder, the current one, with a model, a teacher and data."""
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    onnx.save(small_model(), "teacher.onnx")
    onnx.save(compile_model(binary_model(), 2, verify=False).model, "rep.onnx")
    train, test = dataset().train, dataset().test
    assert isinstance(train, Stored) and isinstance(test, Stored)
    arrays = {"train_images": train.images, "train_labels": train.labels}
    np.savez("data.npz", **arrays, test_images=test.images, test_labels=test.labels)
    yield tmp_path
    torch.set_num_threads(threads)


def command(*flags: str, name: str = "reactnet") -> list[str]:
    """The command's words."""
    words = f"rep.onnx --data data.npz --recipe {name} -o out.onnx --batch 20 --epochs 2 --threads 1"
    return [*words.split(), *flags]


def test_help_is_light() -> None:
    code = (
        "import sys\n"
        "from reptran_compiler.cli.train import main\n"
        "assert main(['--help']) == 0\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'rich', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("--data", "--recipe", "--teacher", "--ema", "--checkpoint", "torchrun", "exit codes", *RECIPE_NAMES):
        assert word in done.stdout


def test_a_run_and_all_that_it_writes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--teacher teacher.onnx --ema 0.9 --checkpoint run.pt --curve run.csv --plot run.svg".split()
    assert main(command(*flags, "--padding", "1", "--flip", "--mean", "0.5", "--std", "0.25")) == 0
    said = capsys.readouterr()
    assert said.out.startswith(
        "trained: 4 epochs of 100 images 1 x 8 x 8 (cropped with padding 1, mirrored; 30 to test with) of data.npz, "
        "normalised by mean 0.5000, std 0.2500\nright: "
    )
    assert "% of the images to test with, loss" in said.out and not said.err
    rows = list(csv.DictReader(io.StringIO((folder / "run.csv").read_text())))
    assert [(row["step"], row["epoch"], row["rate"]) for row in rows] == [
        ("1", "1", "0.00125"),
        ("1", "2", "0.000625"),
        ("2", "3", "0.00125"),
        ("2", "4", "0.000625"),
    ]
    written = {entry.name for entry in folder.iterdir()} - {"rep.onnx", "teacher.onnx", "data.npz"}
    assert written == {"out.onnx", "run.pt", "run.csv", "run.svg"}
    model, curve = (folder / "out.onnx").read_bytes(), (folder / "run.csv").read_bytes()
    for name in ("out.onnx", "run.csv"):
        (folder / name).unlink()
    again = ["--resume", "--padding", "1", "--flip", "--mean", "0.5", "--std", "0.25", "-q"]
    assert main(command(*flags, *again)) == 0
    assert (folder / "out.onnx").read_bytes() == model and (folder / "run.csv").read_bytes() == curve
    assert capsys.readouterr() == ("", "")


def test_flags_make_the_recipe() -> None:
    assert set(RECIPE_NAMES) == set(RECIPES)
    assert recipe(parse(["a", "--data", "b", "--recipe", "recu", "-o", "c"])) == RECIPES["recu"]
    changed = recipe(parse(command("--weight-decay", "0.25", "--rate", "2", "--seed", "-1", "--mixed")))
    assert [step.weight_decay for step in changed.steps] == [0.25, 0.0]
    assert (changed.rate, changed.seed, changed.mixed, changed.batch, changed.epochs) == (2.0, -1, True, 20, 2)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--resume"], "--resume needs --checkpoint FILE"),
        (["--batch", "0"], "'0' is no integer of at least 1"),
        (["--latents", "-1"], "'-1' is no number from 0 on"),
        (["--mean", "a"], "'a' is not of the form A or A,B,C"),
        (["--mean", "1,2"], "--mean 1.0,2.0: 1 or 1 numbers"),
        (["--std", "0"], "above 0"),
        (["--rate", "-1"], "a recipe has a learning rate above 0, not -1.0"),
        (["--weight-decay", "-1"], "a recipe has weight decays from 0 on, not -1.0"),
        (["--rate", "nan"], "a recipe has a learning rate above 0, not nan"),
        (["--batch", "200"], "a batch has 200 images, and there are 100 to train on"),
        (["--data", "nowhere"], "there is no data set at nowhere: nothing is downloaded"),
        (["--teacher", "nowhere.onnx"], "cannot read nowhere.onnx"),
        (["--curve", "out.onnx"], "out.onnx cannot hold two outputs"),
        (["--checkpoint", "x", "--plot", "x"], "x cannot hold two outputs"),
        (["--curve", "-"], "name files"),
        (["-o", "rep.onnx"], "rep.onnx is read and cannot be written as well"),
        (["--checkpoint", "data.npz"], "data.npz is read and cannot be written as well"),
        (["--plot", "curve.txt"], "name a file that ends with .svg, .png, .pdf"),
        (["--checkpoint", "teacher.onnx", "--resume"], "teacher.onnx is no checkpoint"),
        (["-o", "no/such/out.onnx"], "cannot write no/such/out.onnx"),
        (["--tensorboard", "runs"], "needs tensorboard, which is not installed"),
        (["--device", "cuda"], "torch finds no GPU here"),
    ],
)
def test_what_is_refused(folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str], words: str) -> None:
    if flags[0] == "--tensorboard":
        pytest.importorskip("matplotlib")
        if _there("tensorboard"):
            pytest.skip("TensorBoard is installed")
    if flags[0] == "--device" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(command(*flags)) == 2
    said = capsys.readouterr()
    assert words in said.err and said.err.startswith("reptran-train: ") and said.err.count("\n") == 1
    assert not said.out and not (folder / "out.onnx").exists()


def _fixed(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    flat = next(node for node in model.graph.node if node.op_type == "Flatten")
    flat.op_type = "Reshape"
    flat.input.append("row")
    channels = next(tensor.dims[0] for tensor in model.graph.initializer if tensor.name == "fc")
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, channels]), "row"))


def _bytes(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    for node in model.graph.node:
        node.input[:] = ["cast" if name == "x" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Cast", ["x"], ["cast"], "cast", to=TensorProto.FLOAT))


def _two(model: ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, ["N", None]))


def _larger(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_fixed, "its file is for batches of 1: export it with a dynamic batch axis"),
        (_bytes, "the network reads uint8, and images are fed as floats"),
        (_two, "the network has 2 outputs: one is trained"),
        (_larger, "does not take images [1, 8, 8] of data.npz: its file says ['N', 1, 8, 12]"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_measured(
    folder: Path, capsys: pytest.CaptureFixture[str], change: Callable[[ModelProto], None], words: str
) -> None:
    """The last two run in torch: a file that reads something else would be trained on what it cannot be fed."""
    model = binary_model()
    change(model)
    onnx.save(model, "rep.onnx")
    assert main(command()) == 2
    said = capsys.readouterr()
    assert words in said.err and said.err.count("\n") == 1 and not (folder / "out.onnx").exists()


def _there(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None


def test_without_torch(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(command()) == 2
    assert (
        "training needs torch, which is not installed: pip install 'reptran-compiler[train]'" in capsys.readouterr().err
    )


def test_a_checkpoint_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("--checkpoint", "run.pt", "-q", name="recu")) == 0
    before = (folder / "run.pt").read_bytes()
    assert main(command("--checkpoint", "run.pt", name="recu")) == 2
    assert "is there already: go on from it with --resume" in capsys.readouterr().err
    assert main(command("--checkpoint", "run.pt", "--resume", "--batch", "10", name="recu")) == 2
    assert "was trained with batch 20, not 10" in capsys.readouterr().err
    assert (folder / "run.pt").read_bytes() == before


def test_what_was_trained_passes_the_gate(folder: Path) -> None:
    onnx.save(binary_model(), "original.onnx")
    assert main(command("-q", "--calibrate", "40")) == 0
    checked = verify_pair("original.onnx", "out.onnx", retrained=True)
    assert checked.passed, checked.failures


def test_what_onnxruntime_computes_differently_is_not_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FoldedNorm, "offset", property(lambda norm: norm.bias.detach()))
    assert main(command(name="recu")) == 3
    said = capsys.readouterr().err
    assert "verification failed: tensor" in said and said.count("\n") == 1
    assert not (folder / "out.onnx").exists()


@pytest.mark.parametrize(("flags", "magnitude"), [([], 0.1), (["--latents", "0.3"], 0.3), (["--latents", "0"], 1.0)])
def test_latent_weights_begin_where_their_signs_can_change(folder: Path, flags: list[str], magnitude: float) -> None:
    assert main(command("-q", "--rate", "1e-9", "--epochs", "1", *flags, name="recu")) == 0
    stored = {each.name: numpy_helper.to_array(each) for each in onnx.load("out.onnx").graph.initializer}
    root = float(np.sqrt(np.mean(np.square(stored["latent/rep"]))))
    assert root == pytest.approx(magnitude, rel=0.1)
