"""Budgets: how much a Rep network may cost, in exact arithmetic."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from onnx import GraphProto, ModelProto

from reptran_compiler.costs import Comparison, CostReport
from reptran_compiler.costs.kinds import BINARY_OPS_PER_OP
from reptran_compiler.errors import BadInput
from reptran_compiler.model.subgraphs import bodies
from reptran_compiler.reporting import Check

_FORM = re.compile(r"(?P<name>[a-z-]+)\s*(?:(?P<most><=)|=)\s*(?P<limit>.+)")
_NUMBER = re.compile(r"(?P<sign>[+-]?)(?P<digits>\d+(?:_?\d+)*(?:\.\d+)?)\s*(?P<unit>%|[A-Za-z]*)")
_UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9,
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip


def _of_layers(report: CostReport) -> int:
    """Weights of all layers but the classifier, whatever their kernel."""
    kinds = ("stem_weights", "binary_weights", "real_weights", "depthwise_weights")
    return sum(count for kind, count in report.parameters.items() if kind.startswith(kinds))


def _of_binary_layers(report: CostReport) -> int:
    return sum(count for kind, count in report.parameters.items() if kind.startswith("binary_weights"))


#: What is counted of one sample: of the original in canonical form, and of the Rep network.
COUNTED: Mapping[str, Callable[[CostReport], int | Fraction]] = {
    "macs": lambda report: report.total_macs,
    "bops": lambda report: report.bops,
    "ops": lambda report: report.real_macs + Fraction(report.bops, BINARY_OPS_PER_OP),
    "per-element-work": lambda report: report.per_element_work,
    "total-params": lambda report: report.trainable,
    "conv-params": _of_layers,
    "binary-params": _of_binary_layers,
    "bytes": lambda report: report.initializer_bytes,
    "activation-bytes": lambda report: report.activation_bytes,
    "peak-activation-bytes": lambda report: report.peak_activation_bytes,
}
#: What is counted of the files as they are.
OF_FILES = ("file-bytes", "nodes")
#: Other names.
ALIASES = {"params": "total-params"}
NAMES = (*COUNTED, *OF_FILES, *ALIASES)


@dataclass(frozen=True)
class Budget:
    """A limit that a Rep network has to keep.

    Attributes:
        text: how the user wrote it.
        name: what is limited, one of `COUNTED` or `OF_FILES`.
        amount: the limit.
        kind: what the limit is: "absolute", "growth" in units, or "percent" of growth.
    """

    text: str
    name: str
    amount: Fraction
    kind: str

    def allowed(self, before: int | Fraction) -> Fraction:
        """The most that a Rep network may have, where its original has `before`."""
        if self.kind == "absolute":
            return self.amount
        return before + (before * self.amount / 100 if self.kind == "percent" else self.amount)

    def check(self, costs: Mapping[str, tuple[int | Fraction, int | Fraction]]) -> Check:
        """Hold costs, of original and Rep network, against the limit."""
        if self.name not in costs:
            return Check("budget", self.text, (f"{self.name} could not be counted",))
        before, after = costs[self.name]
        allowed = self.allowed(before)
        if after == int(after):  # between two whole numbers, nothing is
            allowed = Fraction(math.floor(allowed))
        found = f"{number(after)} {self.name}, {number(before)} before, allowed {number(allowed)}"
        if after <= allowed:
            return Check("budget", self.text, detail=found)
        over = after - allowed
        return Check("budget", self.text, (f"{found}: exceeded by {number(over)}",))


def parse_budget(text: str) -> Budget:
    """Understand a budget: "macs=0%", "total-params=+4%", "nodes=+3", "bytes<=12MB".

    Raises:
        BadInput: it is none.
    """
    whole = _FORM.fullmatch(text.strip())
    if whole is None:
        raise BadInput(f"budget {text!r} is not of the form NAME=GROWTH, NAME=GROWTH% or NAME<=LIMIT")
    name = ALIASES.get(whole["name"], whole["name"])
    if name not in COUNTED and name not in OF_FILES:
        raise BadInput(f"budget {text!r}: there is no {name!r}; there are {', '.join(NAMES)}")
    limit = whole["limit"].strip()
    most = whole["most"] or limit.startswith("<=")
    found = _NUMBER.fullmatch(limit.removeprefix("<=").strip())
    if found is None or (found["unit"] != "%" and found["unit"] not in _UNITS):
        raise BadInput(f"budget {text!r}: {limit!r} is no number such as 0, +1000, +4%, 12MB or 1.5MiB")
    if found["unit"].endswith("B") and not name.endswith("bytes"):
        raise BadInput(f"budget {text!r}: {name} is not counted in bytes")
    amount = Fraction(found["digits"]) * (-1 if found["sign"] == "-" else 1)
    if found["unit"] == "%":
        if most:
            raise BadInput(f"budget {text!r}: a limit in per cent is one of growth, NAME=+4%")
        return Budget(text, name, amount, "percent")
    if most and found["sign"]:
        raise BadInput(f"budget {text!r}: the most that is allowed has no sign")
    return Budget(text, name, amount * _UNITS[found["unit"]], "absolute" if most else "growth")


def amounts(
    costs: Comparison | None, files: tuple[int, int], models: tuple[ModelProto, ModelProto]
) -> dict[str, tuple[int | Fraction, int | Fraction]]:
    """What budgets limit, of the original and of the Rep network, by name.

    Args:
        costs: as counted; None where they could not be, which leaves out all but the files' own.
        files: how many bytes both take, external data included.
        models: both, as they were read.
    """
    found: dict[str, tuple[int | Fraction, int | Fraction]] = {
        "file-bytes": files,
        "nodes": (count_nodes(models[0].graph), count_nodes(models[1].graph)),
    }
    if costs is not None:
        found.update({name: (of(costs.before), of(costs.after)) for name, of in COUNTED.items()})
    return found


def count_nodes(graph: GraphProto) -> int:
    """The nodes of a graph, those of its subgraphs included."""
    return len(graph.node) + sum(count_nodes(body) for node in graph.node for body in bodies(node))


def number(value: int | Fraction) -> str:
    """A count in full, with separators; of a fraction, at most six digits behind the point."""
    return f"{int(value):,}" if value == int(value) else f"{float(value):,.6f}".rstrip("0").rstrip(".")
