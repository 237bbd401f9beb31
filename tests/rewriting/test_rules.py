"""Registering rules: what is turned down at once, and what a rule knows of itself."""

from __future__ import annotations

from typing import Any

import pytest

from reptran_compiler.replication import replicates
from reptran_compiler.rewriting import PHASES, Cost, Effect, preserves, reparametrises, rule


class Body:
    """Relu goes.

    Further lines are no summary.
    """

    def pattern(p: Any, x: Any) -> Any:
        return p.Relu(x)

    def rewrite(m: Any, g: Any) -> Any:
        return m.x


def test_a_rule_knows_what_it_declares() -> None:
    made = rule("relu", effect=preserves(), cost=Cost(macs="=="), order=7)(Body)
    assert (made.name, made.phase, made.order, made.summary) == ("relu", "canonicalise", 7, "Relu goes.")
    assert made.effect.kind == "preserves"
    assert str(made.cost) == "macs =="
    assert made.part("rewrite") is Body.rewrite
    assert made.part("check") is None


def test_a_rule_without_an_effect_does_not_register() -> None:
    with pytest.raises(TypeError, match="effect"):
        rule("relu")(Body)  # type: ignore[call-arg]


@pytest.mark.parametrize("effect", [None, "preserves", preserves, Effect])
def test_what_is_no_effect_is_turned_down(effect: Any) -> None:
    """`effect=preserves` without the parentheses is a likely slip."""
    with pytest.raises(TypeError, match="rule 'relu' declares no effect"):
        rule("relu", effect=effect)


def test_an_unknown_phase_is_turned_down() -> None:
    with pytest.raises(TypeError, match="there is no phase 'polish', only canonicalise, replicate, finish, lower"):
        rule("relu", effect=preserves(), phase="polish")


def test_an_effect_belongs_to_its_phases() -> None:
    """A rule on wide maps has to say what becomes of the copies; elsewhere there are none."""
    with pytest.raises(
        TypeError, match="'preserves' is for the phase canonicalise or finish or lower, not 'replicate'"
    ):
        rule("relu", effect=preserves(), phase="replicate")
    with pytest.raises(TypeError, match="'replicates' is for the phase replicate, not 'canonicalise'"):
        rule("relu", effect=replicates())


@pytest.mark.parametrize("part", ["pattern", "rewrite"])
def test_a_class_without_its_functions_is_turned_down(part: str) -> None:
    parts = {name: value for name, value in vars(Body).items() if name != part}
    with pytest.raises(TypeError, match=f"rule 'relu' has no {part}"):
        rule("relu", effect=preserves())(type("Body", (), parts))


def test_a_reparametrisation_without_a_witness_is_turned_down() -> None:
    with pytest.raises(TypeError, match="rule 'relu' has no witness, which 'reparametrises' needs"):
        rule("relu", effect=reparametrises())(Body)


@pytest.mark.parametrize("relation", ["=", "<", "equal", ""])
def test_an_unknown_relation_of_costs_is_turned_down(relation: str) -> None:
    with pytest.raises(ValueError, match="is no relation; there are ==, <=, >="):
        Cost(weights=relation)


def test_the_phases_are_those_of_the_compilation() -> None:
    assert PHASES == ("canonicalise", "replicate", "finish", "lower")
