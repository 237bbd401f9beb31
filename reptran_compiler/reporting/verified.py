"""The result object of `reptran-verify`, which each of its reports is written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from reptran_compiler.costs import Comparison

from .summary import Option

#: What a check is about; the first four are failures of the file (exit code 3), a budget is one of its own (1).
CheckKind = Literal["file", "layer", "law", "costs", "budget"]


@dataclass(frozen=True)
class Check:
    """One check, and how it ended.

    Attributes:
        kind: what it is about.
        name: of the check; of a layer check, the layer.
        failures: what is wrong, in words, the first one to look at in front; empty where it passed.
        detail: what was found where it passed; why it was not made where it was skipped.
        skipped: whether it was not made, because one in front of it failed.
    """

    kind: CheckKind
    name: str
    failures: tuple[str, ...] = ()
    detail: str = ""
    skipped: bool = False

    @property
    def passed(self) -> bool:
        """Whether it was made and found nothing."""
        return not self.failures and not self.skipped

    @property
    def word(self) -> str:
        """How it ended, in a word."""
        return "skipped" if self.skipped else "failed" if self.failures else "passed"


@dataclass(frozen=True)
class Verification:
    """What was checked of a pair of files.

    Attributes:
        original, rep: the files, as they were named.
        beta: the replication factor.
        version: of the compiler.
        mode: "values": those of the compilation were asked for; "retrained": structure and costs alone; "layers": the
            layers alone, one by one, without the wiring between them.
        options: the compilation's other options, by name.
        checks: the checks in their order.
        costs: of the canonical original and of the Rep network; None where they could not be counted.
        notes: what a reader should know.
        seconds: how long it took.
    """

    original: str
    rep: str
    beta: int
    version: str
    mode: Literal["values", "retrained", "layers"] = "values"
    options: Mapping[str, Option] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    costs: Comparison | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every check was made and none found anything."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that found something, in their order."""
        return tuple(check for check in self.checks if check.failures)

    @property
    def failures(self) -> tuple[str, ...]:
        """All that is wrong, in words, the first thing to look at in front."""
        return tuple(f"{check.name}: {failure}" for check in self.failed for failure in check.failures)

    @property
    def exit_code(self) -> int:
        """0: passed; 1: a budget is exceeded, and nothing else is wrong; 3: the file is not what theory asks for."""
        kinds = {check.kind for check in self.checks if not check.passed}
        return 0 if not kinds else 1 if kinds == {"budget"} else 3
