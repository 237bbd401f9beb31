"""Breaking the compiler for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest.mock import patch

from reptran_compiler.model import Graph
from reptran_compiler.rewriting import Match
from tests.planted.kinds import RuleKind

Broken = Callable[[], AbstractContextManager[object]]


def having(owner: Any, name: str, new: Any) -> Broken:
    """Something else in the place of a function."""
    return lambda: patch.object(owner, name, new)


def rewriting(rule: Any, rewrite: Callable[[Match, Graph], Any]) -> Broken:
    """A rule (whose class' decorator made it one) with another rewrite."""
    return having(rule.body, "rewrite", rewrite)


def together(*broken: Broken) -> Broken:
    """Several changes."""

    def enter() -> AbstractContextManager[object]:
        stack = ExitStack()
        for each in broken:
            stack.enter_context(each())
        return stack

    return enter


def rules(*kinds: tuple[str, Broken, Sequence[str], Any], reading: bool = False) -> tuple[RuleKind, ...]:
    """Kinds of mistakes in rules.

    Args:
        kinds: for each its name, how the compiler is broken, names of the rules that are, and which options they need.
        reading: as of `RuleKind`.
    """
    return tuple(
        RuleKind(f"rule: {name}", broken, tuple(names), needs, reading=reading) for name, broken, names, needs in kinds
    )
