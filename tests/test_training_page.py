"""The recipes on the page on training: its tables are made from the recipes, its commands ask for just those."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("torch")

from reptran_compiler.cli.train_arguments import parse  # noqa: E402
from reptran_compiler.cli.train_recipe import recipe  # noqa: E402
from reptran_compiler.training.recipe import RECIPES, Recipe  # noqa: E402

PAGE = (Path(__file__).parent.parent / "docs" / "training.md").read_text()


def optimiser(of: Recipe) -> str:
    return "Adam, betas 0.9 and 0.999" if of.optimiser == "adam" else f"SGD, momentum {of.momentum:g}"


def schedule(of: Recipe) -> str:
    shape = {"linear": "falls linearly", "cosine": "falls as a cosine"}[of.schedule]
    return shape + (f" behind {of.warmup} epochs in which it rises" if of.warmup else "")


FIGURES: Mapping[str, Callable[[Recipe], str]] = {
    "steps": lambda of: ", then ".join(f"weights {'real' if step.real_weights else 'binary'}" for step in of.steps),
    "epochs of each step": lambda of: str(of.epochs),
    "images in a batch": lambda of: str(of.batch),
    "optimiser": optimiser,
    "learning rate": lambda of: f"{of.rate:g}",
    "schedule": schedule,
    "weight decay, of layers' weights": lambda of: ", then ".join(f"{step.weight_decay:g}" for step in of.steps),
    "label smoothing, without a teacher": lambda of: f"{of.smoothing:g}",
    "share of a teacher, temperature": lambda of: f"{of.distillation:g}, {of.temperature:g}",
    "estimator of maps": lambda of: f"`{of.activations}`",
    "estimator of weights": lambda of: f"`{of.weights}`",
    "average of parameters": lambda of: "none" if of.ema is None else f"{of.ema:g}",
}


@dataclass(frozen=True)
class Scale:
    """What the paper trains, at beta 2: multiply-accumulates and bytes of maps of an image, as the compiler counts."""

    network: str
    images: int
    macs: int
    maps: int


REACTNET_A = Scale("ReActNet-A, 224 x 224", 1_281_167, 4_829_782_016, 369_365_920)
SCALES: Mapping[str, Scale] = {
    "reactnet": REACTNET_A,
    "adambnn": REACTNET_A,
    "recu": Scale("ResNet-20, 32 x 32", 50_000, 40_551_680, 9_177_128),
}


def figures() -> str:
    """The recipes, in Markdown."""
    rows = [["", *(f"`{name}`" for name in RECIPES)], ["---"] * (1 + len(RECIPES))]
    rows += [[words, *(figure(each) for each in RECIPES.values())] for words, figure in FIGURES.items()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def estimate() -> str:
    """What the recipes would take on a GPU of 10 TFLOP/s and 1 TB/s, in Markdown."""
    titles = ["recipe", "network", "images trained on", "operations", "bytes", "hours of a GPU"]
    rows = [titles, ["---"] * len(titles)]
    for name, each in RECIPES.items():
        scale = SCALES[name]
        shown = scale.images * each.total_epochs
        operations, moved = 6 * scale.macs * shown, 6 * scale.maps * shown
        hours = (operations / 10e12 + moved / 1e12) / 3600
        cells = [f"{shown:.2g}", f"{operations:.2g}", f"{moved:.2g}", f"{hours:.2g}" if hours < 10 else f"{hours:.0f}"]
        rows.append([f"`{name}`", scale.network, *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


@pytest.mark.parametrize("table", [figures(), estimate()], ids=["figures", "estimate"])
def test_the_tables_are_those_of_the_recipes(table: str) -> None:
    assert f"\n{table}\n" in PAGE, f"docs/training.md should have\n{table}"


def test_the_commands_at_the_papers_scale_replace_nothing() -> None:
    found = re.findall(r"^    (?:torchrun .* -m reptran_compiler\.cli\.train|reptran-train) (.*)$", PAGE, re.MULTILINE)
    asked = [recipe(parse(shlex.split(words))) for words in found]
    assert {each.name: each for each in asked} == dict(RECIPES)


def test_the_scales_are_what_the_compiler_counts(tmp_path: Path) -> None:
    """Of ResNet-20; ReActNet-A's are what `benchmarks.reactnet_a` is about."""
    from models import VARIANTS, build, export
    from reptran_compiler import compile_model

    file = export(build("recu-resnet20", seed=0), tmp_path / "resnet20.onnx", VARIANTS["torchscript"])
    costs = compile_model(file, 2, verify=False).summary.costs
    assert costs is not None
    assert (costs.after.total_macs, costs.after.activation_bytes) == (SCALES["recu"].macs, SCALES["recu"].maps)


if __name__ == "__main__":
    print(figures(), estimate(), sep="\n")
