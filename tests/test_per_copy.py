"""Operators that a caller declares to act on each copy alone: the specification carries them."""

from __future__ import annotations

import pytest
from onnx import ModelProto, helper
from tiny_networks import joined, plain, replicate

from reptran_compiler.verification import SpecOptions, check_law, specify

DECLARED = frozenset({"custom.Squash"})
NETWORKS = {"plain": (plain, "one.act"), "joined": (joined, "two.act")}


def squashed(model: ModelProto, tensor: str, body: str = "Tanh") -> ModelProto:
    """The model with a local function `custom.Squash` behind one tensor's maker; its result takes the name over."""
    inner = helper.make_node(body, ["x"], ["y"], **({"axis": 1} if body == "Softmax" else {}))
    opset = model.opset_import[0]
    model.functions.append(helper.make_function("custom", "Squash", ["x"], ["y"], [inner], [opset]))
    model.opset_import.append(helper.make_opsetid("custom", 1))
    nodes = list(model.graph.node)
    at = next(place for place, node in enumerate(nodes) if tensor in node.output)
    nodes[at].output[0] = f"{tensor}/raw"
    nodes.insert(at + 1, helper.make_node("Squash", [f"{tensor}/raw"], [tensor], name="squash", domain="custom"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@pytest.mark.parametrize("beta", [2, 3])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_declared_operator_is_carried(network: str, beta: int) -> None:
    build, tensor = NETWORKS[network]
    source, result = squashed(build(), tensor), squashed(replicate(build(), beta), tensor)
    report = check_law(source, result, SpecOptions(beta, per_copy=DECLARED))
    assert report.ok, [str(failure) for failure in report.failures]
    assert not report.boundaries
    assert report.coverage.compared == report.coverage.required


@pytest.mark.parametrize("network", NETWORKS)
def test_an_operator_that_nobody_declared_is_a_boundary(network: str) -> None:
    build, tensor = NETWORKS[network]
    source, result = squashed(build(), tensor), squashed(replicate(build(), 2), tensor)
    assert "no rule for custom.Squash" in specify(source, SpecOptions(2)).boundaries["squash"]
    assert "no rule" in check_law(source, result, SpecOptions(2)).boundaries["squash"]
    other = SpecOptions(2, per_copy=frozenset({"Squash", "other.Squash"}))
    assert "squash" in specify(source, other).boundaries, "a declaration holds for its own domain"


@pytest.mark.parametrize("network", NETWORKS)
def test_a_false_declaration_is_seen(network: str) -> None:
    """A function that mixes channels, run on the whole wide map, is not what each copy alone gives."""
    build, tensor = NETWORKS[network]
    source = squashed(build(), tensor, "Softmax")
    result = squashed(replicate(build(), 2), tensor, "Softmax")
    report = check_law(source, result, SpecOptions(2, per_copy=DECLARED))
    assert not report.ok
    assert report.failures[0].tensor == tensor


def test_an_operator_with_a_rule_keeps_it() -> None:
    """Nobody can declare a classifier's neighbours away: ONNX' own operators act as THEORY says."""
    options = SpecOptions(2, per_copy=frozenset({"Concat", "Gemm", "Conv"}))
    source = joined()
    assert check_law(source, replicate(source, 2), options).ok
    assert not check_law(source, replicate(source, 2, "concat by copies"), options).ok
