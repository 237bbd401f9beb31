"""What the judge found, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from reptran_compiler.verification.evidence import Evidence


@dataclass(frozen=True)
class Failure:
    """One way in which a result is not what it should be.

    Attributes:
        tensor: the tensor (or graph input, output, initializer) at which it shows; "" when there is none.
        node: the layer or operator concerned; "" when there is none.
        rule: the rule that is responsible for the tensor, by the name of THEORY section 3 (`replicate-input`,
            `replicate-output`, `widen-per-channel`, `fold-bn`, `rewrite-fc`, `boundary`, ...), or the check
            that failed.
        detail: one line for people: what was found and what was expected, with numbers.
    """

    tensor: str
    node: str
    rule: str
    detail: str

    def __str__(self) -> str:
        place = " of ".join(
            part for part in (self.tensor and f"tensor {self.tensor!r}", self.node and f"node {self.node!r}") if part
        )
        return f"[{self.rule}] {place + ': ' if place else ''}{self.detail}"


@dataclass(frozen=True)
class Worst:
    """The largest difference among those that count as equal.

    Attributes:
        relative: the difference over the tensor's largest value.
        tensor: where.
        tolerance: what is allowed there, for its dtype; 0 where all pairs are equal.
    """

    relative: float = 0.0
    tensor: str = ""
    tolerance: float = 0.0

    def or_worse(self, relative: float, tensor: str, tolerance: float) -> Worst:
        """This, or the other if it is larger."""
        return Worst(relative, tensor, tolerance) if relative > self.relative else self


@dataclass(frozen=True)
class Distance:
    """How far a pair that agrees is apart, at the worst of the batch sizes.

    Attributes:
        relative: the largest difference over the tensor's largest value.
        strain: the largest difference over what rounding may do there; more than 1 is a failure, 0 where nothing tells.
    """

    relative: float = 0.0
    strain: float = 0.0

    def or_worse(self, relative: float, strain: float) -> Distance:
        """This, or what is larger of the other."""
        return Distance(max(self.relative, relative), max(self.strain, strain))


@dataclass(frozen=True)
class Coverage:
    """How much was compared.

    Attributes:
        compared: required pairs that were compared.
        required: required pairs.
        others: further pairs that were compared.
        missing: the required pairs that were not.
    """

    compared: int = 0
    required: int = 0
    others: int = 0
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        failures: what is wrong, the first of its causes in front.
    """

    failures: tuple[Failure, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """The report as plain lists, dictionaries, strings and numbers."""
        return {"ok": self.ok, **_plain(asdict(self))}


@dataclass(frozen=True)
class LawReport(Report):
    """Whether a result obeys the law (THEORY section 2).

    Attributes:
        failures: what does not, in the order of the source's nodes; the first names the rule to look at.
        worst: the largest difference among the pairs that agree.
        distances: how far each pair that agrees is apart, by tensor.
        coverage: how many required pairs were compared, of how many. One missing is a failure.
        layers: how many layers have which role.
        boundaries: operators that became boundaries, and layers, with the reason.
        cuts: how many cuts there are.
        isolated: how many different cut operators were tried on the special points.
        repconvs: how many RepConvs were found with equal weights and MACs.
        batches: the batch sizes of the runs.
        seconds: how long it took.
        evidence: what shows the first tensor whose numbers are wrong; no part of `to_json`.
    """

    worst: Worst = Worst()
    distances: dict[str, Distance] = field(default_factory=dict)
    coverage: Coverage = Coverage()
    layers: dict[str, int] = field(default_factory=dict)
    boundaries: dict[str, str] = field(default_factory=dict)
    cuts: int = 0
    isolated: int = 0
    repconvs: int = 0
    batches: tuple[int, ...] = ()
    seconds: float = 0.0
    evidence: Evidence | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The report as plain lists, dictionaries, strings and numbers."""
        found = replace(self, evidence=None)
        return {key: value for key, value in super(LawReport, found).to_json().items() if key != "evidence"}


@dataclass(frozen=True)
class EquivalenceReport(Report):
    """Whether two graphs compute the same.

    Attributes:
        failures: where they do not, in the order of the second graph's nodes.
        worst: the largest difference among the pairs that agree.
        distances: how far each pair that agrees is apart, by tensor.
        coverage: required pairs are the graph outputs and the input of every binarisation.
        cuts: how many cuts there are.
        isolated: how many pairs of cut operators were tried on the special points.
        batches: the batch sizes of the runs.
        seconds: how long it took.
    """

    worst: Worst = Worst()
    distances: dict[str, Distance] = field(default_factory=dict)
    coverage: Coverage = Coverage()
    cuts: int = 0
    isolated: int = 0
    batches: tuple[int, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Change:
    """By how much a tensor was changed on purpose.

    Attributes:
        tensor: its name.
        largest: the largest difference.
        relative: that over the tensor's largest value.
    """

    tensor: str
    largest: float
    relative: float


@dataclass(frozen=True)
class ClassifierReport(Report):
    """Whether classifiers are stored in int8 as stated, and what that changes.

    Attributes:
        failures: which are not.
        layers: the node names of the classifiers.
        changes: by how much outputs move, at the worst of the batch sizes.
    """

    layers: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class WellFormedReport(Report):
    """Whether a file is a valid model that keeps its source's interface.

    Attributes:
        failures: what is wrong.
        checks: the names of the checks that were made.
    """

    checks: tuple[str, ...] = ()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        # JSON has no infinity.
        return value if abs(value) < 1e308 else None
    return value
