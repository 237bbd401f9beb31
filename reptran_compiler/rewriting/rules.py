"""Rules: a pattern, a check, a rewrite, and a declared effect. A rule without an effect does not register.

    @rule("identity", effect=preserves())
    class DropIdentity:
        \"\"\"An Identity goes; its readers read what it read.\"\"\"

        def pattern(p, x):
            return p.Identity(x)

        def rewrite(m, g):
            return m.x

The functions of the class are called without an instance. `pattern(p, ...)` builds the pattern, `check(m)`
(optional) turns matches down with `m.require`, `rewrite(m, g)` builds what takes the place of the root's outputs
beside the graph and returns it: a tensor, or one for each output.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reptran_compiler.rewriting.cost import Cost
from reptran_compiler.rewriting.matcher import Matcher, compiled
from reptran_compiler.rewriting.patterns import Either, Operator, build

if TYPE_CHECKING:
    from reptran_compiler.rewriting.application import Application

#: The phases of a compilation in their order. Rules of `canonicalise`, `finish` and `lower` are applied one after the
#: other, each until it no longer matches; those of `replicate` together, in one walk from the inputs to the outputs.
PHASES = ("canonicalise", "replicate", "finish", "lower")


class Effect:
    """What a rule declares of itself. The engine executes it on every match.

    Attributes:
        kind: its name, as `--list-passes` shows it.
        needs: functions that the rule's class has to have for it.
        phases: the phases whose rules may declare it.
        denormals: whether it is executed with denormal numbers, too.
    """

    kind: str = ""
    needs: tuple[str, ...] = ()
    phases: tuple[str, ...] = PHASES
    denormals: bool = True

    def execute(self, application: Application) -> None:
        """Run what the rule read against what it wrote.

        Raises:
            Refused: they do not compute what the declaration says.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Rule:
    """A registered rule.

    Attributes:
        name: what `--passes` and messages call it.
        effect: what it declares, executed on every match.
        cost: what it declares of parameters and MACs, counted on every match; None where it declares nothing.
        phase: one of `PHASES`.
        order: its place in its phase; rules with a lower number come first.
        body: the class that it was made of.
        pattern: its pattern.
        summary: the first line of the class' documentation.
    """

    name: str
    effect: Effect
    cost: Cost | None
    phase: str
    order: int
    body: Any
    pattern: Operator | Either
    summary: str

    @cached_property
    def ours(self) -> bool:
        """Whether its functions are the compiler's own code, whoever registers it."""
        return str(self.body.__module__).split(".")[0] in ("reptran_compiler", "reptran_passes")

    @property
    def check(self) -> Callable[..., Any] | None:
        """What turns matches down; None where nothing does."""
        return self.part("check")

    @cached_property
    def match(self) -> Matcher:
        """The pattern against the expression that ends in an operator of a graph."""
        return compiled(self.pattern)

    @property
    def rewrite(self) -> Callable[..., Any]:
        """What builds what takes the place of a match."""
        found = self.part("rewrite")
        assert found is not None, "`rule` asks for it"
        return found

    def part(self, name: str) -> Callable[..., Any] | None:
        """A function of the rule's class, None where it has none of that name."""
        found = getattr(self.body, name, None)
        return found if callable(found) else None


def rule(
    name: str, *, effect: Effect, cost: Cost | None = None, phase: str = "canonicalise", order: int = 50
) -> Callable[[type], Rule]:
    """Class decorator that makes a rule.

    Args:
        name: the rule's name.
        effect: what it declares: `preserves()`, `reparametrises()`, or one of `reptran_compiler.replication`.
        cost: what happens to parameters and MACs.
        phase: when it runs, one of `PHASES`.
        order: its place among the rules of its phase.

    Raises:
        TypeError: the name is no word, the effect is missing or no `Effect`, the phase is unknown or not one of the
            effect's, order or cost are of a wrong type, the class lacks a function, or its pattern describes no
            operator.
    """
    if not isinstance(name, str) or not name or re.search(r"[\s,'\"]", name) or not name.isprintable():
        raise TypeError(f"{name!r} is no name of a rule: words joined by hyphens are")
    if not isinstance(effect, Effect):
        raise TypeError(f"rule {name!r} declares no effect")
    if isinstance(order, bool) or not isinstance(order, int):
        raise TypeError(f"rule {name!r}: order is {order!r}, no integer")
    if cost is not None and not isinstance(cost, Cost):
        raise TypeError(f"rule {name!r}: cost is a {type(cost).__name__}, no Cost")
    if phase not in PHASES:
        raise TypeError(f"rule {name!r}: there is no phase {phase!r}, only {', '.join(PHASES)}")
    if phase not in effect.phases:
        raise TypeError(f"rule {name!r}: {effect.kind!r} is for the phase {' or '.join(effect.phases)}, not {phase!r}")

    def register(body: type) -> Rule:
        parts: dict[str, Any] = {part: getattr(body, part, None) for part in ("pattern", "rewrite", *effect.needs)}
        for part, found in parts.items():
            if not callable(found):
                raise TypeError(f"rule {name!r} has no {part}, which {effect.kind!r} needs")
        summary = (body.__doc__ or "").strip().split("\n")[0]
        try:
            pattern = build(parts["pattern"])
        except TypeError as error:
            raise TypeError(f"rule {name!r}: {error}") from None
        return Rule(name, effect, cost, phase, order, body, pattern, summary)

    return register
