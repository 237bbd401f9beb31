"""What a catalogue of mistakes consists of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from reptran_compiler.pipeline import Options
from tests.planted.result import Places, Result

Plant = Callable[[Result], Places]


def any_options(options: Options) -> bool:
    """A mistake that any compilation may contain."""
    return True


@dataclass(frozen=True)
class Kind:
    """A mistake in a result.

    Attributes:
        name: what it is called in the table.
        plant: edits a result, and tells where that may be noticed. Raises `LookupError` where the result has nothing of
            the kind.
        promise: whether it breaks what a file says or keeps, rather than what the network computes.
        needs: the options that a compilation needs to contain it.
    """

    name: str
    plant: Plant
    promise: bool = False
    needs: Callable[[Options], bool] = any_options


@dataclass(frozen=True)
class RuleKind:
    """A mistake in the compiler itself.

    Attributes:
        name: what it is called in the table.
        broken: while it is entered, the compiler makes the mistake.
        rules: names of the rules that make it: what they are applied to may be named.
        reading: whether the mistake is in how operators read their inputs: these may be named as well.
        needs: as of `Kind`.
        promise: as of `Kind`.
    """

    name: str
    broken: Callable[[], AbstractContextManager[object]]
    rules: tuple[str, ...]
    needs: Callable[[Options], bool] = any_options
    promise: bool = False
    reading: bool = False


@dataclass(frozen=True)
class Theme:
    """Mistakes that belong together, under a heading of the table."""

    title: str
    kinds: tuple[Kind | RuleKind, ...]
