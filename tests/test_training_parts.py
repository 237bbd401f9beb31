"""Training, each part against its definition: schedules, losses, groups, teachers, a step, an average."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from training_run import Net, dataset  # noqa: E402

from models import build  # noqa: E402
from reptran_compiler.errors import BadInput  # noqa: E402
from reptran_compiler.training.data import Stored  # noqa: E402
from reptran_compiler.training.groups import make_optimiser, parameter_groups  # noqa: E402
from reptran_compiler.training.losses import Criterion  # noqa: E402
from reptran_compiler.training.recipe import ADAMBNN, REACTNET, RECIPES, RECU, Step  # noqa: E402
from reptran_compiler.training.schedules import rate  # noqa: E402
from reptran_compiler.training.teachers import module_teacher, onnx_teacher  # noqa: E402
from reptran_compiler.training.trainer import train  # noqa: E402

#: One epoch of SGD, without anything else.
PLAIN = replace(RECU, epochs=1, batch=10, warmup=0)


@pytest.mark.parametrize("epochs", [20, 600])
def test_the_cosine_is_recus(epochs: int) -> None:
    """cifar/main.py, step by step: five epochs of warm-up, torch's scheduler from the fourth on."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs - 4, eta_min=0)
    for epoch in range(epochs):
        if epoch < 5:
            optimiser.param_groups[0]["lr"] = 0.1 * (epoch + 1) / 5
        assert rate(replace(RECU, epochs=epochs), epoch) == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-12)
        optimiser.step()
        if epoch >= 4:
            scheduler.step()


def test_the_linear_schedule() -> None:
    recipe = replace(REACTNET, epochs=4, rate=1.0)
    assert [rate(recipe, epoch) for epoch in range(4)] == [1.0, 0.75, 0.5, 0.25]
    assert [rate(replace(recipe, warmup=5, epochs=8), epoch) for epoch in (0, 1, 2, 7)] == pytest.approx(
        [0.5, 1.0, 1 - 1 / 7, 1 / 7]
    ), "a warm-up takes a quarter of the epochs at most"


def test_published_figures() -> None:
    assert [step.weight_decay for step in REACTNET.steps] == [1e-5, 0] and REACTNET.epochs == 128
    assert [step.weight_decay for step in ADAMBNN.steps] == [5e-6, 0] and ADAMBNN.epochs == 256
    for recipe in (REACTNET, ADAMBNN):
        assert [step.real_weights for step in recipe.steps] == [True, False]
        assert (recipe.optimiser, recipe.rate, recipe.schedule, recipe.batch) == ("adam", 1.25e-3, "linear", 256)
    assert (RECU.optimiser, RECU.rate, RECU.momentum, RECU.batch, RECU.epochs) == ("sgd", 0.1, 0.9, 256, 600)
    assert RECU.steps == (Step(False, 5e-4),)
    assert all(RECIPES[name].name == name for name in RECIPES)


@pytest.mark.parametrize(
    "change",
    [{"rate": 0}, {"rate": math.inf}, {"epochs": 0}, {"batch": 1}, {"ema": 1.0}, {"smoothing": 1.0}, {"momentum": 1.0}]
    + [{"distillation": 1.5}, {"temperature": 0}, {"steps": (Step(weight_decay=-1),)}],
)
def test_a_recipe_out_of_range(change: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="a recipe has"):
        replace(RECU, **change)  # type: ignore[arg-type]


def test_smoothed_labels() -> None:
    logits, labels = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 3, 1, 1, 2])
    target = 0.9 * F.one_hot(labels, 4) + 0.1 / 4
    expected = -(target * torch.log_softmax(logits, 1)).sum(1).mean()
    assert torch.allclose(Criterion(smoothing=0.1)(logits, labels), expected)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation(share: float, temperature: float) -> None:
    logits, taught = torch.randn(2, 5, 4, dtype=torch.float64)
    labels = torch.tensor([0, 3, 1, 1, 2])
    own = -torch.log_softmax(logits, 1)[torch.arange(5), labels].mean()
    probabilities = torch.exp(taught / temperature) / torch.exp(taught / temperature).sum(1, keepdim=True)
    learned = -(probabilities * torch.log_softmax(logits / temperature, 1)).sum(1).mean() * temperature**2
    criterion = Criterion(distillation=share, temperature=temperature)
    assert torch.allclose(criterion(logits, labels, taught), (1 - share) * own + share * learned)
    assert torch.allclose(criterion(logits, labels), own), "nobody teaches"


@pytest.mark.parametrize("name", ["reactnet-tiny", "recu-resnet20"])
def test_only_weights_of_layers_decay(name: str) -> None:
    network = build(name, beta=2).requires_grad_(True)
    groups = parameter_groups(network)
    names = {id(parameter): key for key, parameter in network.named_parameters()}
    weights = {names[id(each)] for each in groups.weights}
    expected = {
        f"{key}.weight" for key, module in network.named_modules() if getattr(module, "weighting", module) is not module
    }
    assert weights == expected, "those of models.layers.Layer"
    assert len(groups.weights) + len(groups.others) == len(names)
    optimiser = make_optimiser(network, REACTNET, REACTNET.steps[0])
    assert [group["weight_decay"] for group in optimiser.param_groups] == [1e-5, 0.0]


def test_frozen_parameters_are_left_alone() -> None:
    network = Net()
    network.fc.requires_grad_(False)
    before = network.fc.weight.clone()
    train(network, dataset(), PLAIN)
    assert torch.equal(network.fc.weight, before)
    with pytest.raises(BadInput, match="no parameters to train"):
        train(network.requires_grad_(False), dataset(), PLAIN)


# --- teachers ---


def mean_teacher() -> onnx.ModelProto:
    """Images [N, 1, 8, 8] to the mean of each, four times with factors."""
    factors = helper.make_tensor("factors", TensorProto.FLOAT, [1, 4], [1, 2, -1, 0])
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Mul", ["flat", "factors"], ["logits"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 1, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph(nodes, "teacher", [images], [logits], [factors])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_teachers(tmp_path: Path) -> None:
    onnx.save(mean_teacher(), tmp_path / "teacher.onnx")
    images = torch.randn(3, 1, 8, 8, requires_grad=True)
    found = onnx_teacher(tmp_path / "teacher.onnx")(images)
    assert torch.allclose(found, images.mean((1, 2, 3))[:, None] * torch.tensor([1.0, 2, -1, 0]), atol=1e-6)
    network = Net().train()
    taught = module_teacher(network)(images)
    assert not network.training and not taught.requires_grad and torch.equal(taught, network(images).detach())


def test_unsuitable_teachers(tmp_path: Path) -> None:
    model = mean_teacher()
    onnx.save(model, tmp_path / "teacher.onnx")
    with pytest.raises(BadInput, match=r"does not run on images \[2, 3, 8, 8\]"):
        onnx_teacher(tmp_path / "teacher.onnx")(torch.zeros(2, 3, 8, 8))
    model.graph.input.add().CopyFrom(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    onnx.save(model, tmp_path / "two.onnx")
    with pytest.raises(BadInput, match="has 2 inputs"):
        onnx_teacher(tmp_path / "two.onnx")
    with pytest.raises(BadInput, match="No such file"):
        onnx_teacher(tmp_path / "none.onnx")


# --- whole runs ---


def test_one_step_of_sgd_is_its_definition() -> None:
    """A batch of all images: weights follow gradient and decay, others the gradient alone."""
    data, recipe = dataset(train=10), replace(PLAIN, steps=(Step(weight_decay=0.1),))
    examples = data.train
    assert isinstance(examples, Stored)
    plain = replace(data, train=replace(examples, augmentation=replace(examples.augmentation, padding=0, flip=False)))
    network, twin = Net(dropout=0.0), Net(dropout=0.0)
    rows = train(network, plain, recipe)
    twin.train()
    images = torch.from_numpy(data.normalisation(examples.images))
    loss = F.cross_entropy(twin(images), torch.from_numpy(examples.labels))
    loss.backward()
    assert rows[0].train_loss == pytest.approx(loss.item(), rel=1e-5)
    for after, before in zip(network.parameters(), twin.parameters(), strict=True):
        decay = 0.1 if sum(size > 1 for size in before.shape) > 1 else 0.0
        assert before.grad is not None
        expected = before - 0.1 * (before.grad + decay * before)
        assert torch.allclose(after, expected, atol=1e-5)


def test_the_average_is_its_definition() -> None:
    states: list[dict[str, torch.Tensor]] = []
    network = Net()

    def note(words: str, done: int, total: int | None) -> None:
        states.append({key: value.clone() for key, value in network.state_dict().items()})

    rows = train(network, dataset(), replace(PLAIN, ema=0.8), progress=note)
    average = dict(states[0])
    for state in states[1:]:
        average = {
            key: 0.8 * value + 0.2 * state[key] if value.is_floating_point() else state[key]
            for key, value in average.items()
        }
    assert len(states) == 10
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, average[key], atol=1e-6), key
    images = torch.from_numpy(dataset().normalisation(dataset().test.take(np.arange(30), None)))
    right = (network(images).argmax(1).numpy() == dataset().test.labels).mean()
    assert rows[-1].test_accuracy == pytest.approx(right), "the average is what is tested"
