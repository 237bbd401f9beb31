"""What came of a campaign, as tables in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from benchmarks.hostile.campaign import Attempt
from benchmarks.hostile.mutating import KINDS
from benchmarks.hostile.sandbox import CPU_SECONDS, RESIDENT_BYTES, Outcome

_SHOWN_MESSAGES = 40
_ENDS = {0: "compiled and verified", 1: "refused: nothing to rewrite", 2: "refused: bad input"}


def table(attempts: Sequence[Attempt], command: str) -> str:
    """What came of every kind of mutation, of which messages there were, and each failure.

    Args:
        attempts: the files.
        command: what made them.
    """
    outcomes = [attempt.outcome for attempt in attempts]
    failed = [attempt for attempt in attempts if attempt.outcome.failure]
    kinds = {kind for attempt in attempts for kind in attempt.kinds}
    seconds = sorted(outcome.seconds for outcome in outcomes)
    resident = max(outcome.resident for outcome in outcomes)
    different = len({(outcome.code, outcome.skeleton) for outcome in outcomes})
    lines = [
        "# Hostile files",
        "",
        f"`{command}`: {len(attempts):,} files, {len(failed)} fail.",
        "",
        f"{len(kinds)} of {len(KINDS)} kinds of mutation, {different} different messages. CPU time a file: "
        f"{sum(seconds) / len(seconds):.2f} s in the mean, {seconds[-1]:.1f} s at most (limit {CPU_SECONDS} s); "
        f"memory: {resident / 1e6:.0f} MB at most (limit {RESIDENT_BYTES / 1e6:.0f} MB).",
        "",
        "| end | files |",
        "|---|---|",
        *(f"| {end} | {sum(o.code == code and not o.failure for o in outcomes):,} |" for code, end in _ENDS.items()),
        f"| failed | {len(failed):,} |",
        "",
        "| mutation, alone or with others | files | 0 | 1 | 2 | failed |",
        "|---|---|---|---|---|---|",
        *(_kind(kind, [each for each in attempts if kind in each.kinds]) for kind in KINDS),
        "",
        "Messages, names and numbers left out, the most frequent ones:",
        "",
        "| code | message | files |",
        "|---|---|---|",
        *_messages(attempt.outcome for attempt in attempts if attempt.outcome.code in (1, 2)),
        "",
    ]
    if failed:
        lines += ["Failures:", "", "| file | from | mutations | failure |", "|---|---|---|---|"]
        lines += [f"| {a.number} | {a.original} | {', '.join(a.kinds)} | {a.outcome.failure} |" for a in failed]
        lines.append("")
    return "\n".join(lines)


def _kind(kind: str, attempts: Sequence[Attempt]) -> str:
    good = Counter(attempt.outcome.code for attempt in attempts if not attempt.outcome.failure)
    counts = (len(attempts), good[0], good[1], good[2], len(attempts) - sum(good.values()))
    return f"| {kind} | {' | '.join(f'{count:,}' for count in counts)} |"


def _messages(outcomes: Iterable[Outcome]) -> list[str]:
    counts = Counter((outcome.code, outcome.skeleton) for outcome in outcomes)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN_MESSAGES]
    return [f"| {code} | {message.replace('|', chr(92) + '|')} | {count:,} |" for (code, message), count in ranked]
