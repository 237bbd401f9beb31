"""Rules: a pattern, a check, a rewrite, and a declared effect. A rule without an effect does not register."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.rewriting.patterns import Match, Operator, build


@dataclass(frozen=True)
class Effect:
    """What a rule declares of itself, and what the engine therefore executes.

    Attributes:
        kind: `preserves`: the region computes the same before and after. `reparametrises`: it computes what
            the rule's witness computes.
    """

    kind: str


def preserves() -> Effect:
    """The rule changes no value: the engine runs the region before and after on random inputs."""
    return Effect("preserves")


def reparametrises() -> Effect:
    """The rule moves parameters: its class has a `witness`, which the engine runs against the rewrite."""
    return Effect("reparametrises")


class RuleBody(Protocol):
    """What a rule class provides."""

    @staticmethod
    def pattern(p: Any) -> Operator:
        """The pattern."""

    @staticmethod
    def rewrite(m: Match, g: Graph) -> Tensor:
        """The tensor that replaces the root's output, built beside the graph."""


@dataclass(frozen=True)
class Rule:
    """A registered rule."""

    name: str
    effect: Effect
    body: Any
    pattern: Operator
    summary: str


def rule(name: str, *, effect: Effect) -> Callable[[type], Rule]:
    """Class decorator that makes a rule.

    Raises:
        TypeError: the effect is missing or no `Effect`, or the class lacks `pattern` or `rewrite`.
    """
    if not isinstance(effect, Effect):
        raise TypeError(f"rule {name!r} declares no effect")

    def register(body: type) -> Rule:
        for part in ("pattern", "rewrite"):
            if not hasattr(body, part):
                raise TypeError(f"rule {name!r} has no {part}")
        if effect.kind == "reparametrises" and not hasattr(body, "witness"):
            raise TypeError(f"rule {name!r} reparametrises but has no witness")
        pattern = build(
            body.__dict__["pattern"]
            if not isinstance(body.__dict__["pattern"], staticmethod)
            else body.__dict__["pattern"].__func__
        )
        return Rule(name, effect, body, pattern, (body.__doc__ or "").strip().split("\n")[0])

    return register
