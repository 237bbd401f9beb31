"""Ternary weights and 0/1 activations are never taken for +-1, whatever stands between; +-1 behind the same is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import compile_file
from onnx import NodeProto, helper
from small_networks import network

ZERO, ONE, TWO, HALF = (np.array(value) for value in (0.0, 1.0, 2.0, 0.5))
IMAGE_PADS = np.array([0, 0, 1, 1, 0, 0, 1, 1])

Nodes = tuple[NodeProto, ...]


def chain(*steps: tuple[Any, ...], begin: str = "a", end: str = "s") -> Nodes:
    """Operators one behind the other: (operator, further inputs..., attributes)."""
    nodes = []
    for index, (op, *more) in enumerate(steps):
        attributes = more.pop() if more and isinstance(more[-1], dict) else {}
        made = end if index == len(steps) - 1 else f"{end}.{index}"
        nodes.append(helper.make_node(op, [begin, *more], [made], name=f"{end}.{op}.{index}", **attributes))
        begin = made
    return tuple(nodes)


def halves_swapped(begin: str, end: str) -> Nodes:
    """The two halves of the channels in the other order, by Split and Concat."""
    parts = [f"{end}.left", f"{end}.right"]
    split = helper.make_node("Split", [begin], parts, name=f"{end}.split", axis=1)
    return split, helper.make_node("Concat", parts[::-1], [end], name=f"{end}.join", axis=1)


def where(high: str, low: str) -> Nodes:
    """`a >= 0 ? high : low`."""
    mask = helper.make_node("GreaterOrEqual", ["a", "zero"], ["mask"])
    return mask, helper.make_node("Where", ["mask", high, low], ["s"])


POOL = {"kernel_shape": [3, 3], "pads": [1] * 4}
STORED = {"zero": ZERO, "one": ONE, "two": TWO, "half": HALF, "minus": -ONE, "pads": IMAGE_PADS}

ZERO_OR_ONE: dict[str, Nodes] = {
    "Relu, Sign": chain(("Relu",), ("Sign",)),
    "Relu, MaxPool, Sign": chain(("Relu",), ("MaxPool", POOL), ("Sign",)),
    "Relu, AveragePool, Sign": chain(("Relu",), ("AveragePool", POOL), ("Sign",)),
    "Relu, Concat, Sign": (*chain(("Relu",), end="r"), *halves_swapped("r", "q"), *chain(("Sign",), begin="q")),
    "Relu, Pad, Sign": chain(("Relu",), ("Pad", "pads"), ("Sign",)),
    "Relu, Sign, MaxPool": chain(("Relu",), ("Sign",), ("MaxPool", POOL)),
    "Relu, Sign, Concat": (*chain(("Relu",), ("Sign",), end="r"), *halves_swapped("r", "s")),
    "Relu, Sign, Pad": chain(("Relu",), ("Sign",), ("Pad", "pads")),
    "Abs, Sign": chain(("Abs",), ("Sign",)),
    "Sigmoid, Sign": chain(("Sigmoid",), ("Sign",)),
    "Clip to [0, 1], Sign": chain(("Clip", "zero", "one"), ("Sign",)),
    "square, Sign": (helper.make_node("Mul", ["a", "a"], ["q"]), *chain(("Sign",), begin="q")),
    "Sign, Relu": chain(("Sign",), ("Relu",)),
    "Sign, Add 1, Mul 1/2": chain(("Sign",), ("Add", "one"), ("Mul", "half")),
    "Greater, Cast": chain(("Greater", "zero"), ("Cast", {"to": 1})),
    "Where 1, 0": where("one", "zero"),
    "Where 2, -1": where("two", "minus"),
}


def kinds(between: Nodes, folder: Path, capsys: pytest.CaptureFixture[str], **stored: Any) -> dict[str, bool]:
    """Which layers of a network are binary, as its report says. Another layer is binary in any case.

    The network: `between`, then the layer in question, then Sign and the layer "other".
    """
    behind = (
        helper.make_node("Sign", ["y"], ["y.sign"], name="other.sign"),
        helper.make_node("Conv", ["y.sign", "other.w"], ["t"], name="other", pads=[1] * 4),
    )
    signs = np.sign(np.random.default_rng(7).normal(size=(8, 8, 3, 3)))
    model = network(*between, behind=behind, **{"other.w": signs}, **STORED, **stored)
    done = compile_file(model, folder, capsys, "--json", str(folder / "report.json"))
    assert done.code == 0, done.err
    layers = json.loads((folder / "report.json").read_text())["layers"]
    return {layer["name"]: layer["binary"] for layer in layers}


@pytest.mark.parametrize("name", ZERO_OR_ONE)
def test_maps_of_other_values_make_no_binary_layer(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kinds(ZERO_OR_ONE[name], tmp_path, capsys) == {"stem": False, "layer": False, "other": True, "fc": False}


SIGNS: dict[str, Nodes] = {
    "Sign": chain(("Sign",)),
    "Sign, MaxPool": chain(("Sign",), ("MaxPool", POOL)),
    "Sign, Concat": (*chain(("Sign",), end="r"), *halves_swapped("r", "s")),
    "Sign, Pad with 1": chain(("Sign",), ("Pad", "pads", "one")),
    "MaxPool, Sign": chain(("MaxPool", POOL), ("Sign",)),
    "HardTanh, Sign": chain(("Clip", "minus", "one"), ("Sign",)),
    "Where 1, -1": where("one", "minus"),
}


@pytest.mark.parametrize("name", SIGNS)
def test_maps_of_signs_make_one(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kinds(SIGNS[name], tmp_path, capsys)["layer"] is True


def ternary(seed: int) -> np.ndarray[Any, Any]:
    """Signs, two fifths of them replaced by 0."""
    draw = np.random.default_rng(seed)
    signs: np.ndarray[Any, Any] = np.sign(draw.normal(size=(8, 8, 3, 3)))
    return signs * (draw.random(signs.shape) > 0.4)


@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_ternary_weights_make_no_binary_layer(scale: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kinds(chain(("Sign",)), tmp_path, capsys, w=scale * ternary(1))["layer"] is False


def test_zero_one_weights_make_no_binary_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kinds(chain(("Sign",)), tmp_path, capsys, w=np.abs(ternary(2)))["layer"] is False


def test_a_weight_that_is_exactly_zero_leaves_its_layer_binary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = np.sign(np.random.default_rng(3).normal(size=(8, 8, 3, 3)))
    weights[2, 3, 1, 1] = 0
    assert kinds(chain(("Sign",)), tmp_path, capsys, w=weights)["layer"] is True
