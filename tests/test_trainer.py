"""Training: whole runs that are killed, resumed, shared and repeated."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from training_run import RECIPE, Activation, Net, WeightSign, dataset, numbers, run, teacher  # noqa: E402

from models import build  # noqa: E402
from reptran_compiler.errors import BadInput  # noqa: E402
from reptran_compiler.training import to_torch  # noqa: E402
from reptran_compiler.training.annealing import weights_real  # noqa: E402
from reptran_compiler.training.checkpoints import Checkpoint  # noqa: E402
from reptran_compiler.training.curve import Row, to_csv  # noqa: E402
from reptran_compiler.training.data import Dataset, Normalisation, Stored  # noqa: E402
from reptran_compiler.training.evaluation import measure  # noqa: E402
from reptran_compiler.training.plotting import plot_curve  # noqa: E402
from reptran_compiler.training.processes import Processes  # noqa: E402
from reptran_compiler.training.recipe import REACTNET, RECU, Step  # noqa: E402
from reptran_compiler.training.synchronising import synchronised  # noqa: E402
from reptran_compiler.training.teachers import module_teacher  # noqa: E402
from reptran_compiler.training.tensorboard import tensorboard  # noqa: E402
from reptran_compiler.training.trainer import train  # noqa: E402
from tests.tiny_networks import plain  # noqa: E402

SCRIPT = Path(__file__).parent / "training_run.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
#: One epoch of SGD, without anything else.
PLAIN = replace(RECU, epochs=1, batch=10, warmup=0)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As in the processes that runs are compared with."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole() -> tuple[tuple[Row, ...], Net]:
    """The run that nothing stops."""
    return run()


def same(rows: Sequence[Row], others: Sequence[Row]) -> bool:
    return [numbers(row) for row in rows] == [numbers(row) for row in others]


def same_state(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


# --- a recipe's parts ---


def test_the_same_seed_gives_the_same_curve(whole: tuple[tuple[Row, ...], Net]) -> None:
    torch.randn(7)  # what was drawn before does not matter
    state = torch.random.get_rng_state()
    rows, network = run()
    assert same(rows, whole[0]) and same_state(network, whole[1])
    assert torch.equal(torch.random.get_rng_state(), state), "nor does a run change what is drawn after it"
    assert [(row.step, row.epoch) for row in rows] == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6)]
    other = train(Net(), dataset(), replace(RECIPE, seed=8), teacher=teacher())
    assert not same(other, rows)


def test_steps_and_annealing(whole: tuple[tuple[Row, ...], Net]) -> None:
    _, network = whole
    told = [module.told for module in network.modules() if isinstance(module, Activation)]
    assert told == [[0, 1 / 3, 2 / 3] * 2] * 2
    seen: list[bool] = []

    class Spy(nn.Module):
        real = False

        def anneal(self, progress: float) -> None:
            seen.append(self.real)

    network = Net()
    network.add_module("spy", Spy())
    train(network, dataset(), replace(RECIPE, ema=None, epochs=2))
    assert seen == [True, True, False, False]
    assert not any(module.real for module in network.modules() if isinstance(module, WeightSign))


def test_a_two_step_recipe_needs_binary_weights() -> None:
    with pytest.raises(BadInput, match="has no layer of binary weights"):
        weights_real(nn.Linear(2, 2), True)
    weights_real(nn.Linear(2, 2), False)


def test_it_learns() -> None:
    network = Net(dropout=0.0)
    rows = train(network, dataset(), replace(RECU, epochs=12, batch=20))
    assert rows[-1].test_accuracy > 0.9
    assert not network.training


def test_networks_of_the_zoo_are_trained() -> None:
    """A ReActNet and its RepTran form, on images of their kind."""
    images = np.random.default_rng(0).integers(0, 256, (16, 3, 32, 32), np.uint8)
    data = Dataset("noise", *[Stored(images, np.arange(16) % 10)] * 2, 10, Normalisation())
    for beta in (1, 2):
        network = build("reactnet-tiny", beta=beta).requires_grad_(True)
        before = {key: value.clone() for key, value in network.named_parameters()}
        rows = train(network, data, replace(REACTNET, steps=(Step(),), epochs=2, batch=8, rate=1e-2))
        assert rows[-1].train_loss < 10
        still = [key for key, value in network.named_parameters() if torch.equal(value, before[key])]
        assert not still


def test_kill_and_resume(whole: tuple[tuple[Row, ...], Net], tmp_path: Path) -> None:
    """SIGKILL in the middle of an epoch; what goes on gives the curve that nothing stopped, to the bit."""
    state = tmp_path / "run.pt"
    command = [sys.executable, str(SCRIPT), str(tmp_path / "result.pt"), "--checkpoint", str(state), "--slow", "0.05"]
    process = subprocess.Popen(command, env=ENVIRONMENT)
    try:
        deadline = time.monotonic() + 300
        while not state.exists() or len(Checkpoint.load(state).rows) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.12)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = Checkpoint.load(state).rows
    assert 2 <= len(before) < 6
    rows, network = run(checkpoint=state, resume=True)
    assert rows[: len(before)] == before and same(rows, whole[0]) and same_state(network, whole[1])


@pytest.mark.parametrize("epochs", range(1, 6))
def test_resumed_after_each_epoch(whole: tuple[tuple[Row, ...], Net], tmp_path: Path, epochs: int) -> None:
    state = tmp_path / "run.pt"

    def stop(rows: Sequence[Row]) -> None:
        if len(rows) == epochs:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Net(), dataset(), RECIPE, teacher=teacher(), checkpoint=state, observe=stop)
    rows, network = run(checkpoint=state, resume=True)
    assert same(rows, whole[0]) and same_state(network, whole[1])


def test_a_finished_run_is_given_back(whole: tuple[tuple[Row, ...], Net], tmp_path: Path) -> None:
    state, told = tmp_path / "run.pt", []
    run(checkpoint=state, resume=True)  # nothing is there: it begins
    network = Net()
    recipe = RECIPE
    rows = train(
        network,
        dataset(),
        recipe,
        checkpoint=state,
        resume=True,
        teacher=teacher(),
        observe=lambda rows: told.append(len(rows)),
    )
    assert same(rows, whole[0]) and same_state(network, whole[1]) and told == [6]


def test_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    state = tmp_path / "run.pt"
    train(Net(), dataset(), PLAIN, checkpoint=state)
    for words, network, data, recipe, resume in (
        ("is there already: go on from it with --resume", Net(), dataset(), PLAIN, False),
        ("was trained with batch 10, not 20", Net(), dataset(), replace(PLAIN, batch=20), True),
        (
            "was trained on 100 images .*with padding 1, mirrored.* not on 80 images",
            Net(),
            dataset(train=80),
            PLAIN,
            True,
        ),
        ("is a checkpoint of another network", nn.Sequential(Net()), dataset(), PLAIN, True),
        ("was trained with its images .*, not with", Net(), _inverted(dataset()), PLAIN, True),
    ):
        with pytest.raises(BadInput, match=words):
            train(network, data, recipe, checkpoint=state, resume=resume)
    with pytest.raises(BadInput, match=r"was trained with its teacher \(none\), not with one: it cannot go on"):
        train(Net(), dataset(), PLAIN, teacher=teacher(), checkpoint=state, resume=True)
    content = state.read_bytes()
    for damaged in (content[:-100], b"", b"PK\3\4", content[:1000] + bytes(500) + content[1500:]):
        state.write_bytes(damaged)
        with pytest.raises(BadInput, match="is no checkpoint, or is damaged"):
            Checkpoint.load(state)
    torch.save({"a": 1}, state)
    with pytest.raises(BadInput, match="no checkpoint of a training run"):
        Checkpoint.load(state)


def _inverted(data: Dataset) -> Dataset:
    """Other images, of which the same words are true."""
    assert isinstance(data.train, Stored)
    return replace(data, train=replace(data.train, images=255 - data.train.images))


def test_a_checkpoint_is_of_one_graph(tmp_path: Path) -> None:
    """Whose parameters may have the names and the shapes of another one's."""
    data = Dataset("noise", *[Stored(np.zeros((16, 3, 8, 8), np.uint8), np.arange(16) % 5)] * 2, 5, Normalisation())
    model = plain()
    train(to_torch(model), data, PLAIN, checkpoint=tmp_path / "run.pt")
    next(node for node in model.graph.node if node.op_type == "AveragePool").op_type = "MaxPool"
    with pytest.raises(BadInput, match="was trained with its graph .*, not with"):
        train(to_torch(model), data, PLAIN, checkpoint=tmp_path / "run.pt", resume=True)


def test_a_checkpoint_runs_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"version": 1, "network": Evil()}, tmp_path / "run.pt")
    with pytest.raises(BadInput):
        Checkpoint.load(tmp_path / "run.pt")
    assert not (tmp_path / "ran").exists()


def test_what_cannot_be_trained() -> None:
    with pytest.raises(BadInput, match=r"does not take images \[1, 8, 8\] of patterns"):
        train(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten()), dataset(), PLAIN)
    with pytest.raises(BadInput, match=r"has 4 classes, and the network gives \[3\]"):
        train(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), dataset(), PLAIN)
    with pytest.raises(BadInput, match="the loss is .* in epoch 1: choose a lower"):
        train(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), dataset(), replace(PLAIN, rate=1e38))
    with pytest.raises(BadInput, match=r"the teacher gives \[3\] numbers an image, and the network \[4\]"):
        taught = module_teacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
        train(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), dataset(), PLAIN, teacher=taught)


def test_what_the_last_batch_spoiled_is_not_kept(tmp_path: Path) -> None:
    """Its loss was a number; those of the images to test with are none."""
    with pytest.raises(BadInput, match="the loss is nan in epoch 1: choose a lower"):
        network, data = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), dataset(train=10)
        train(network, data, replace(PLAIN, rate=1e38), checkpoint=tmp_path / "run.pt")
    assert not (tmp_path / "run.pt").exists()


def test_an_average_leaves_integers_as_they_are() -> None:
    """Such as the indices of a shuffle: rounded averages of them are other ones."""

    class Shuffled(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("order", torch.arange(64).flip(0), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert torch.equal(self.order, torch.arange(64).flip(0))
            return super().forward(x)

    train(Shuffled(), dataset(), replace(PLAIN, ema=0.9))


# --- several processes ---


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """In float64: curve, parameters and running statistics, Adam, average and both steps, to rounding."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    command += ["--master-port", str(port), str(SCRIPT), str(tmp_path / "two.pt"), "--double"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    rows, network = run(double=True)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    for row, theirs in zip(rows, two["rows"], strict=True):
        assert numbers(row) == pytest.approx(theirs, rel=1e-9)
    for key, value in network.state_dict().items():
        assert torch.allclose(value, two["state"][key], rtol=1e-9, atol=1e-10), key


def test_synchronised_norms_are_put_back() -> None:
    network = Net()
    with synchronised(network, Processes(2, 0)):
        assert network.bn.forward.__func__ is not nn.BatchNorm2d.forward
        assert type(network.bn) is nn.BatchNorm2d
    assert network.bn.forward.__func__ is nn.BatchNorm2d.forward
    with synchronised(network, Processes()):
        assert network.bn.forward.__func__ is nn.BatchNorm2d.forward, "one process has nothing to synchronise"

    class Own(nn.BatchNorm2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return input

    with pytest.raises(TypeError, match="Own has a forward of its own"), synchronised(Own(2), Processes(2, 0)):
        pass


# --- what is left of a run ---


def test_measuring() -> None:
    network = nn.Identity()
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    found = measure(network, [(logits[:2], labels[:2]), (logits[2:], labels[2:])], torch.device("cpu"), Processes())
    assert found == pytest.approx((F.cross_entropy(logits, labels).item(), 2 / 3))
    assert network.training


def test_the_curve_as_a_table(whole: tuple[tuple[Row, ...], Net]) -> None:
    lines = to_csv(whole[0]).decode().splitlines()
    assert lines[0].split(",") == [field.name for field in fields(Row)] and len(lines) == 7
    assert Row(*map(float, lines[3].split(","))) == whole[0][2], "numbers are exact"  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_curve_as_a_picture(whole: tuple[tuple[Row, ...], Net], tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    for name in ("one", "two"):
        plot_curve(whole[0], tmp_path / f"{name}.{ending}")
    payload = (tmp_path / f"one.{ending}").read_bytes()
    assert len(payload) > 1000 and payload == (tmp_path / f"two.{ending}").read_bytes()
    with pytest.raises(BadInput, match="ends with .svg, .png, .pdf"):
        plot_curve(whole[0], tmp_path / "curve.txt")


def test_tensorboard_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match="tensorboard, which is not installed: pip install 'tensorboard'"):
        tensorboard("anywhere")
