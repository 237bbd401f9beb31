"""Before == after: residues of straight-through estimators may become signs, and nothing else may change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from golden_canonical import canonical_form
from onnx import ModelProto
from tiny_networks import Net

from reptran_compiler.trial import try_source
from reptran_compiler.verification import ProtoGraph, check_equivalent

GOLDEN = Path(__file__).parent / "golden"
Sign = Callable[[Net, str, str], str]


def _sign(net: Net, x: str, name: str) -> str:
    return net.add("Sign", [x], name)


def _clip(net: Net, x: str, name: str) -> str:
    p = net.add("Clip", [x, _scalar(net, -1.0), _scalar(net, 1.0)], f"{name}.p")
    return _residue(net, net.add("Sign", [x], f"{name}.s"), p, name)


def _tanh(net: Net, x: str, name: str) -> str:
    return _residue(net, net.add("Sign", [x], f"{name}.s"), net.add("Tanh", [x], f"{name}.p"), name)


def _detached(net: Net, x: str, name: str) -> str:
    return _residue(net, net.add("Sign", [x], f"{name}.s"), x, name)


def _at_least(net: Net, x: str, name: str) -> str:
    mask = net.add("GreaterOrEqual", [x, _scalar(net, 0.0)], f"{name}.m")
    return net.add("Where", [mask, _scalar(net, 1.0), _scalar(net, -1.0)], name)


def _at_least_expanded(net: Net, x: str, name: str) -> str:
    mask = net.add("GreaterOrEqual", [x, _scalar(net, 0.0)], f"{name}.m")
    one = net.add("Expand", [_scalar(net, 1.0), net.add("Shape", [x], f"{name}.shape")], f"{name}.ones")
    return net.add("Where", [mask, one, net.add("Neg", [one], f"{name}.minus")], name)


def _doubled(net: Net, x: str, name: str) -> str:
    mask = net.add("GreaterOrEqual", [x, _scalar(net, 0.0)], f"{name}.m")
    number = net.add("Cast", [mask], f"{name}.c", to=1)
    return net.add("Sub", [net.add("Mul", [number, _scalar(net, 2.0)], f"{name}.d"), _scalar(net, 1.0)], name)


def _shifted(net: Net, x: str, name: str) -> str:
    return net.add("Sign", [net.add("Add", [x, _scalar(net, 1e-6)], f"{name}.x")], name)


def _dense(net: Net, x: str, name: str) -> str:
    """As PaddlePaddle writes it: constants as large as the map; one element is wrong if the name says so."""
    one, minus = np.ones((1, 12, 8, 8), np.float32), -np.ones((1, 12, 8, 8), np.float32)
    mask = net.add("GreaterOrEqual", [x, _scalar(net, 0.0)], f"{name}.m")
    return net.add("Where", [mask, net.store(f"{name}.1", one), net.store(f"{name}.-1", minus)], name)


def _dense_wrong(net: Net, x: str, name: str) -> str:
    made = _dense(net, x, name)
    net.stored[f"{name}.1"][0, 7, 3, 3] = 0.5
    return made


def _residue(net: Net, sign: str, p: str, name: str) -> str:
    return net.add("Add", [net.add("Sub", [sign, p], f"{name}.r"), p], name)


def _scalar(net: Net, value: float) -> str:
    return net.store(f"scalar {value}", np.float32(value))


def _network(sign: Sign, scale: float = 1.0) -> ModelProto:
    net = Net(3)
    x = net.norm(net.real_conv("input", "stem", (12, 3, 3), pads=[1] * 4), "stem.bn", 12)
    weight = net.store("w", np.sign(net.normal(12, 12, 3, 3)) * np.float32(scale))
    x = net.add("Conv", [sign(net, x, "post"), weight], "conv", pads=[1] * 4)
    return net.head(net.add("Sign", [net.norm(x, "bn", 12)], "second"), 12)


@pytest.mark.parametrize("before", [_sign, _clip, _tanh, _detached])
def test_residues_are_signs(before: Sign) -> None:
    report = check_equivalent(_network(before), _network(_sign))
    assert report.ok, [str(failure) for failure in report.failures]
    assert report.coverage.compared == report.coverage.required == 3
    assert report.cuts == 2


@pytest.mark.parametrize("before", [_at_least, _at_least_expanded, _doubled, _dense])
def test_comparisons_are_plus_one_at_zero(before: Sign) -> None:
    assert check_equivalent(_network(before), _network(_at_least)).ok


@pytest.mark.parametrize("before", [_at_least, _at_least_expanded, _doubled, _dense, _shifted])
def test_another_value_at_zero_is_seen(before: Sign) -> None:
    report = check_equivalent(_network(before), _network(_sign))
    assert [(failure.tensor, failure.rule) for failure in report.failures] == [("post", "binarisation")]
    report = check_equivalent(_network(_clip), _network(_at_least))
    assert [(failure.tensor, failure.rule) for failure in report.failures] == [("post", "binarisation")]


def test_one_wrong_element_is_seen() -> None:
    assert not check_equivalent(_network(_dense_wrong), _network(_at_least)).ok


def test_a_changed_weight_is_seen_where_it_is() -> None:
    report = check_equivalent(_network(_clip), _network(_sign, scale=1.01))
    assert [failure.tensor for failure in report.failures] == ["conv", "bn"]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.onnx")), ids=lambda path: path.stem)
def test_factored_examples_equal_their_sources(path: Path) -> None:
    model = onnx.load(path)
    report = check_equivalent(model, canonical_form(model))
    assert report.ok, [str(failure) for failure in report.failures]
    assert report.worst.relative < 1e-5
    assert report.coverage.others > 3


def test_constants_that_are_evaluated_already_serve_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load(str(GOLDEN / "react.dynamo.onnx"))
    canonical = canonical_form(model)
    graph = try_source(model).graph
    assert graph is not None and graph.model is model
    evaluated: list[ModelProto] = []
    compute = ProtoGraph._computed

    def noted(graph: ProtoGraph, names: Sequence[str]) -> dict[str, Any]:
        evaluated.append(graph.model)
        return compute(graph, names)

    monkeypatch.setattr(ProtoGraph, "_computed", noted)
    expected = check_equivalent(model, canonical)
    assert any(each is model for each in evaluated)
    evaluated.clear()
    found = check_equivalent(graph, canonical)
    assert found.ok and (found.worst, found.coverage) == (expected.worst, expected.coverage)
    assert not any(each is model for each in evaluated)
