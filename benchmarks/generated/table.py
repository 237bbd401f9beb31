"""What a sweep found, as Markdown, and what of it is not as it has to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from benchmarks.generated.constructs import FILES, VARIANTS
from benchmarks.generated.networks import CONSTRUCTS, REFUSED
from benchmarks.generated.sweep import Row
from reptran_compiler.verification.operators import rules

#: The least share of graphs that each construct and each operator is in, and in which copies differ; the most refused.
LEAST_SHARE, LEAST_DIFFERING, MOST_REFUSED = 0.05, 0.5, 0.10
#: Shares of fewer graphs say nothing.
ENOUGH = 1000
#: What onnxruntime's CPU provider has no kernel for.
NOT_RUN = frozenset({"Swish"})

_EXPLANATION = """\
A graph passes when the judge verifies every tensor of it (the canonical form, the law, the file), its result is
refused as a Rep network with and without its metadata, a process with other hashes gives the same bytes, and the
results with the other `--bn` and the other `--weights` obey the law and compute the same as this one. *copies
differ*: in a run of the specification with nothing cut, the copies of some map are not equal. *refused*: for a
reason that the documentation states.
"""


def operators() -> tuple[str, ...]:
    """The operators of the judge's table that can be run."""
    return tuple(sorted(rules().keys() - NOT_RUN))


def shortcomings(rows: Sequence[Row]) -> list[str]:
    """What is not as it has to be, in words."""
    found = [f"seed {row.seed}: {row.outcome.failures[0]}" for row in rows if row.outcome.failures]
    if len(rows) < ENOUGH:
        return found
    for name, count in _counts(rows, lambda row: row.constructs, CONSTRUCTS).items():
        if name not in REFUSED and count < LEAST_SHARE * len(rows):
            found.append(f"{name}: in {_share(count, rows)} of the graphs only")
    for name, count in _counts(rows, lambda row: row.operators, operators()).items():
        if count < LEAST_SHARE * len(rows):
            found.append(f"operator {name}: in {_share(count, rows)} of the graphs only")
    differing = sum(row.outcome.differing > 0 for row in rows)
    if differing < LEAST_DIFFERING * len(rows):
        found.append(f"copies differ in {_share(differing, rows)} of the graphs only")
    refused = sum(bool(row.outcome.refusal) for row in rows)
    if refused > MOST_REFUSED * len(rows):
        found.append(f"{_share(refused, rows)} of the graphs are refused")
    return found


def table(rows: Sequence[Row], command: str) -> str:
    """The rows in Markdown: totals, refusals, options, constructs, operators.

    Args:
        rows: the rows.
        command: what made them.
    """
    failed = sum(bool(row.outcome.failures) for row in rows)
    refused = [row for row in rows if row.outcome.refusal and not row.outcome.failures]
    differing = sum(row.outcome.differing > 0 for row in rows)
    nodes = sum(row.nodes for row in rows) / max(1, len(rows))
    head = (
        f"{len(rows):,} graphs of {nodes:.0f} nodes on average: {len(rows) - failed - len(refused):,} compiled and "
        f"passed, {len(refused):,} refused ({_share(len(refused), rows)}), {failed:,} failed. "
        f"Copies differ in {_share(differing, rows)}."
    )
    lines = ["# Generated networks", "", f"Made by `{command}`.", "", head, "", _EXPLANATION]
    wrong = shortcomings(rows)
    lines += ["## Not as it has to be", "", *(f"- {each}" for each in wrong), ""] if wrong else []
    if refused:
        lines += ["## Refusals", "", "| the message says | graphs |", "|---|---|"]
        reasons = Counter(_reason(row.outcome.refusal) for row in refused)
        lines += [f"| {_safe(reason)} | {count} |" for reason, count in sorted(reasons.items())]
        lines.append("")
    options = Counter(option for row in rows for option in row.options)
    lines += ["## Options", "", _inline((name, options[name]) for name in sorted(options)), ""]
    lines += ["## Constructs", "", "| construct | share | compiled | refused | failed |", "|---|---|---|---|---|"]
    lines += [_line(name, rows) for name in _grouped()]
    found = _counts(rows, lambda row: row.operators, operators())
    lines += ["", f"## The judge's {len(found)} operators, in how many graphs each", "", _inline(found.items()), ""]
    return "\n".join(lines)


def _grouped() -> list[str]:
    """The constructs, those of a file first and then in the order of the alphabet."""
    first = [*FILES, *(f"{kind}: {variant}" for kind, variants in VARIANTS.items() for variant in variants)]
    return [*first, *sorted(set(CONSTRUCTS) - set(first), key=str.lower)]


def _line(name: str, rows: Sequence[Row]) -> str:
    some = [row for row in rows if name in row.constructs]
    failed = sum(bool(row.outcome.failures) for row in some)
    refused = sum(bool(row.outcome.refusal) and not row.outcome.failures for row in some)
    return f"| {_safe(name)} | {_share(len(some), rows)} | {len(some) - failed - refused} | {refused} | {failed} |"


def _counts(rows: Sequence[Row], names_of: Callable[[Row], Iterable[str]], names: Iterable[str]) -> dict[str, int]:
    counted = Counter(name for row in rows for name in names_of(row))
    return {name: counted[name] for name in names}


def _share(count: int, rows: Sequence[Row]) -> str:
    return f"{100 * count / max(1, len(rows)):.1f} %"


def _inline(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"`{name}` {count}" for name, count in counts)


def _reason(refusal: str) -> str:
    """A refusal without names and numbers of its own."""
    parts = refusal.split("'")
    return "...".join(parts[::2]).split(";")[0].strip()


def _safe(text: str) -> str:
    return text.replace("|", "\\|")
