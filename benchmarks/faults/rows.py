"""A row of the table: one fault in one form, tried many times."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from benchmarks.faults.room import Found


@dataclass
class Row:
    """What came of a fault.

    Attributes:
        fault, form: which.
        times: how often it was tried.
        endings: how the runs ended, by exit code; negative for a signal.
        old, new: how often the model and its data were the old pair, or the new one, whole.
        ahead: how often the map or the report was new already where the model was old.
        parts: how many half-written files were left, before the next run.
        strays: how many files of weights that no model refers to.
        failures: what was not as it has to be.
        note: what was not possible here, or is to be known.
    """

    fault: str
    form: str
    times: int = 0
    endings: Counter[int] = field(default_factory=Counter)
    old: int = 0
    new: int = 0
    ahead: int = 0
    parts: int = 0
    strays: int = 0
    failures: list[str] = field(default_factory=list)
    note: str = ""

    def count(self, where: str, code: int, found: Found, *, may_leave_parts: bool, may_be_old: bool = False) -> None:
        """Add a run.

        Args:
            where: at which operation, or when.
            code: its exit code; negative for a signal.
            found: what it left.
            may_leave_parts: whether half-written files may be left to the next run, and texts that are ahead: where it
                was killed, or nothing could be removed.
            may_be_old: whether the old result may be there after it ended with 0.
        """
        self.times += 1
        self.endings[code] += 1
        self.old += found.model == "old"
        self.new += found.model == "new"
        self.ahead += found.model == "old" and "new" in found.texts
        self.parts += found.parts
        self.strays += found.strays
        if not found.whole:
            self.failures.append(f"{where}: {found}")
        if found.parts and not may_leave_parts:
            self.failures.append(f"{where}: {found.parts} half-written files are left")
        if code == 0 and not (found.all_new or may_be_old):
            self.failures.append(f"{where}: it ended with 0, but left {found}")
        if code == 2 and (found.model != "old" or ("new" in found.texts and not may_leave_parts)):
            self.failures.append(f"{where}: it ended with 2, but left {found}")
        if code not in (0, 2, 130, 143) and code >= 0:
            self.failures.append(f"{where}: exit code {code}")

    def see(self, right: bool, what: str) -> None:
        """Add a failure unless something is right."""
        if not right:
            self.failures.append(what)


HEAD = (
    "fault",
    "form",
    "times",
    "ended with",
    "old pair",
    "new pair",
    "neither",
    "texts ahead",
    "half-written files",
    "weights unreferred to",
    "result",
)

EXPLANATION = """\
*form*: how the new result is written, and over what. *times*: runs of the fault, each in a fresh folder. *old pair*,
*new pair*: the model and its external data are, byte for byte, those from before, or those of an undisturbed run; both
load in onnxruntime and compute what the model in memory does. *texts ahead*: the map or the report is new, the
model still old (each whole). *half-written files*: hidden `.part` files that were left; they may be after SIGKILL
and where nothing can be removed, and the next run to that output, made after each, removes them and leaves the new
pair. *weights unreferred to*: data files of the old or of the new model that were left beside the other one.
"""


def table(rows: list[Row], command: str) -> str:
    """The rows in Markdown."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    failed = sum(bool(row.failures) for row in rows)
    times = sum(row.times for row in rows)
    neither = sum(row.times - row.old - row.new for row in rows)
    head = f"{times:,} faults in {len(rows)} rows; neither pair whole: {neither}; rows that fail: {failed}."
    return "\n".join(["# Faults", "", f"Made by `{command}`.", "", head, "", EXPLANATION, *lines, ""])


def _cells(row: Row) -> list[str]:
    codes = ", ".join(f"{code} ({count})" for code, count in sorted(row.endings.items()))
    neither = row.times - row.old - row.new
    counts = [str(each) for each in (row.old, row.new, neither, row.ahead, row.parts, row.strays)]
    said = row.failures[0].replace("|", "\\|") if row.failures else row.note or "ok"
    return [row.fault, row.form, f"{row.times:,}", codes, *counts, said]
