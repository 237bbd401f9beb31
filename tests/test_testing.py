"""`check_rule`: what the author of a rule has in a test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.careless.network import small_network
from reptran_compiler.compiler import Refusal
from reptran_compiler.rewriting import Rule, preserves, rule
from reptran_compiler.testing import check_rule


def rule_of(rewrite: Any) -> Rule:
    def check(m: Any) -> None:
        m.require(m.relu.name == "relu1", "is another one")

    body = {"pattern": lambda p, x: p.Relu(x, name="relu"), "check": check, "rewrite": rewrite}
    return rule("relu-to-max", effect=preserves())(type("Body", (), body))


def maximum(m: Any, g: Any) -> Any:
    return g.node("Max", [m.x, g.constant("zero", np.float32(0))], like=m.relu).outputs[0]


def test_a_rule_that_is_right_says_where_it_was_applied_and_where_not() -> None:
    report = check_rule(rule_of(maximum), small_network())
    assert report.applied == ["relu1"]
    assert report.missed["relu2"].reason == "is another one"


def test_a_rule_that_does_another_thing_when_called_again_is_refused() -> None:
    calls: list[int] = []

    def alternating(m: Any, g: Any) -> Any:
        calls.append(1)
        zero = g.constant("zero", np.float32(0))
        return g.node("Max", [m.x, zero] if len(calls) % 2 else [zero, m.x], like=m.relu).outputs[0]

    with pytest.raises(Refusal, match="rule 'relu-to-max' at node 'relu1' writes something else when it is called a"):
        check_rule(rule_of(alternating), small_network())
