"""The report for machines. Its schema is described in docs/json-report.md."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from reptran_compiler.costs import Comparison, CostReport

from .summary import Summary

#: Name and version of the schema: a key that goes or changes its meaning raises the number.
SCHEMA = "reptran-report/1"


def to_json(summary: Summary, *, indent: int | None = 2) -> str:
    """The summary as JSON text (no newline at its end), the same for equal summaries.

    Numbers are plain; numbers that JSON cannot hold are the strings "nan", "inf" and "-inf".
    """
    return json.dumps(plain(to_document(summary)), indent=indent, allow_nan=False, ensure_ascii=False)


def to_document(summary: Summary) -> dict[str, Any]:
    """The summary as nested dictionaries and lists, before numbers are made fit for JSON."""
    return {
        "schema": SCHEMA,
        "version": summary.version,
        "status": summary.status,
        "model": summary.model,
        "output": summary.output,
        "beta": summary.beta,
        "options": dict(summary.options),
        "layers": [asdict(row) for row in summary.layers],
        "costs": None if summary.costs is None else comparison_document(summary.costs),
        "verification": asdict(summary.verification),
        "notes": list(summary.notes),
        "warnings": list(summary.warnings),
    }


def comparison_document(costs: Comparison) -> dict[str, Any]:
    """Costs before and after as nested dictionaries and lists."""
    return {
        "invariant": costs.invariant,
        "violations": list(costs.violations),
        "totals_equal": costs.totals_equal,
        "grew": [f"{change.section}/{change.kind}" for change in costs.grew],
        "changes": [
            {
                "section": change.section,
                "kind": change.kind,
                "total": change.total,
                "before": change.before,
                "after": change.after,
                "ratio": change.ratio,
            }
            for change in costs.changes
        ],
        "before": _report(costs.before),
        "after": _report(costs.after),
    }


def _report(report: CostReport) -> dict[str, Any]:
    return {
        "parameters": dict(report.parameters),
        "trainable": report.trainable,
        "macs": dict(report.macs),
        "total_macs": report.total_macs,
        "bops": report.bops,
        "ops": report.ops,
        "elementwise": dict(report.elementwise),
        "per_element_work": report.per_element_work,
        "initializer_bytes": report.initializer_bytes,
        "activation_bytes": report.activation_bytes,
        "peak_activation_bytes": report.peak_activation_bytes,
        "layers": [{**asdict(layer), "bops": layer.bops} for layer in report.layers],
        "notes": list(report.notes),
    }


def plain(value: Any) -> Any:
    """A value with what JSON has no form for put into one that it has."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, Sequence):
        return [plain(entry) for entry in value]
    number = float(value)
    return number if math.isfinite(number) else str(number)
