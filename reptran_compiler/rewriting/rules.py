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

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reptran_compiler.rewriting.cost import Cost
from reptran_compiler.rewriting.patterns import Either, Operator, build

if TYPE_CHECKING:
    from reptran_compiler.rewriting.application import Application

#: The phases of a compilation in their order. Rules of `canonicalise` and `finish` are applied one after the other,
#: each until it no longer matches; those of `replicate` together, in one walk from the inputs to the outputs.
PHASES = ("canonicalise", "replicate", "finish")


class Effect:
    """What a rule declares of itself. The engine executes it on every match.

    Attributes:
        kind: its name, as `--list-passes` shows it.
        needs: functions that the rule's class has to have for it.
        phases: the phases whose rules may declare it.
    """

    kind: str = ""
    needs: tuple[str, ...] = ()
    phases: tuple[str, ...] = PHASES

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
        TypeError: the effect is missing or no `Effect`, the phase is unknown or not one of the effect's, or the
            class lacks a function.
    """
    if not isinstance(effect, Effect):
        raise TypeError(f"rule {name!r} declares no effect")
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
        return Rule(name, effect, cost, phase, order, body, build(parts["pattern"]), summary)

    return register
