"""The report for people: tables on a console, plain where it is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from rich.box import SIMPLE_HEAD
from rich.console import Console, OverflowMethod
from rich.table import Table
from rich.text import Text

from reptran_compiler.costs import Change, Comparison
from reptran_compiler.text import printable

from .summary import ClassifierRounding, LayerRow, Shape, Summary, VerificationSummary

#: Lines are not broken for readers that have no width.
_PIPED_WIDTH = 10_000
#: From this width on, the table of layers has a column for their outputs.
_WIDE = 130
_SECTIONS = {
    "parameters": "parameters",
    "macs": "operations",
    "elementwise": "elementwise work",
    "bytes": "bytes",
}
_STATUS = {
    "unchanged": "nothing was rewritten",
    "dry-run": "dry run: nothing was written",
    "failed": "failed: nothing was written",
}


def make_console(stream: IO[str] | None = None, *, stderr: bool = False) -> Console:
    """A console on a stream (default: standard output, or standard error).

    On a terminal it has colours and the terminal's width; anywhere else text comes plain and lines are never
    broken.
    """
    console = Console(file=stream, stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console


def print_summary(summary: Summary, console: Console) -> None:
    """Print what a compilation did: its layers, costs before and after, verification, notes and warnings."""
    for renderable in _renderables(summary, console.width):
        console.print(renderable)


def text(words: str, style: str = "", overflow: OverflowMethod | None = None) -> Text:
    """Words as `rich` prints them; nothing in them acts on the terminal, whatever names they hold."""
    return Text(printable(words), style=style, overflow=overflow)


def _renderables(summary: Summary, width: int) -> Iterator[Text | Table]:
    yield _heading(summary)
    if summary.layers:
        yield layer_table(summary.layers, with_outputs=width >= _WIDE)
        yield text(_layer_line(summary.layers))
    if summary.costs is not None:
        yield cost_table(summary.costs)
        yield from invariance_lines(summary.costs)
    yield verification_line(summary.verification)
    if summary.verification.classifier is not None:
        yield classifier_line(summary.verification.classifier)
    for note in summary.notes:
        yield text(f"note: {note}")
    for warning in summary.warnings:
        yield text(f"warning: {warning}", style="yellow")


def _heading(summary: Summary) -> Text:
    heading = text("reptran-compiler ", style="bold").append(summary.version)
    words = f": {summary.model}"
    if summary.output is not None:
        words += f" -> {summary.output}"
    words += f", beta {summary.beta}"
    for name, value in summary.options.items():
        if value not in (None, False, "", (), []):
            shown = value if isinstance(value, (str, int, float)) else " ".join(map(str, value or ()))
            words += f", {name}" if value is True else f", {name} {shown}"
    heading.append(printable(words))
    if summary.status in _STATUS:
        heading.append(f" ({_STATUS[summary.status]})", style="bold")
    return heading


# -- layers --------------------------------------------------------------------------------------------------


def layer_table(rows: tuple[LayerRow, ...], *, with_outputs: bool = True) -> Table:
    """One line a layer: what it is, its weights and maps before and after, and what became of it."""
    outputs = ("output",) if with_outputs else ()
    table = make_table("layer", "role", "weights", "input", *outputs, "what became of it")
    for row in rows:
        cells = [
            text(row.name, overflow="fold"),
            text(f"{'binary ' if row.binary else ''}{row.role}"),
            text(_shapes(row.source_weight_shape, row.result_weight_shape, 2)),
            text(_shapes(row.source_input_shape, row.result_input_shape, 1, skip=1)),
        ]
        if with_outputs:
            cells.append(text(_shapes(row.source_output_shape, row.result_output_shape, 1, skip=1)))
        table.add_row(*cells, _fate(row))
    return table


def _fate(row: LayerRow) -> Text:
    word = "rewritten" if row.rewritten else "boundary" if row.role == "boundary" else "unchanged"
    style = {"rewritten": "green", "boundary": "yellow"}.get(word, "")
    return text(f"{word}: {row.reason}" if row.reason else word, style=style, overflow="fold")


def _layer_line(rows: tuple[LayerRow, ...]) -> str:
    rewritten = sum(row.rewritten for row in rows)
    boundaries = sum(row.role == "boundary" for row in rows)
    unchanged = len(rows) - rewritten - boundaries
    return f"{len(rows)} layers: {rewritten} rewritten, {boundaries} boundaries, {unchanged} unchanged"


def _shapes(before: Shape | None, after: Shape | None, leading: int, skip: int = 0) -> str:
    """Two shapes without their first ``skip`` axes; the end that both share behind ``leading`` axes once."""
    shapes = [shape[skip:] for shape in (before, after) if shape is not None]
    ends = {shape[leading:] for shape in shapes}
    if len(set(shapes)) == 2 and len(ends) == 1 and (end := ends.pop()):
        return " -> ".join(_extents(shape[:leading]) for shape in shapes) + f", {_extents(end)}"
    return " -> ".join(dict.fromkeys(map(_extents, shapes)))


def _extents(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


# -- costs ---------------------------------------------------------------------------------------------------


def cost_table(costs: Comparison) -> Table:
    """Costs before and after with their ratio, a section for each sort, totals in bold."""
    table = make_table("costs of one sample", "before", "after", "ratio", numbers=3)
    section = ""
    for change in costs.changes:
        if change.section != section:
            if section:
                table.add_section()
            section = change.section
            table.add_row(text(_SECTIONS.get(section, section), style="italic"), "", "", "")
        table.add_row(
            text(f"  {change.title}"),
            _number(change.before),
            _number(change.after),
            text(ratio_text(change), style="yellow" if change.grew else ""),
            style="bold" if change.total else "",
        )
    return table


def invariance_lines(costs: Comparison) -> Iterator[Text]:
    """Whether RepConvs kept their weights and MACs, and what grew, in words."""
    repconvs = sum(layer.role == "repconv" for layer in costs.before.layers)
    if costs.invariant:
        yield text(f"invariant: weights and MACs of all {repconvs} RepConvs, one by one", style="green")
    for violation in costs.violations:
        yield text(f"NOT INVARIANT: {violation}", style="bold red")
    if not costs.grew:
        yield text("grew: nothing")
    for section, words in _SECTIONS.items():
        growing = (change for change in costs.grew if change.section == section)
        grew = ", ".join(f"{change.title} (x {ratio_text(change)})" for change in growing)
        if grew:
            yield text(f"grew, {words}: {grew}")


def ratio_text(change: Change) -> str:
    """The ratio of a row: "1 exactly", "1.037", "new" where there was nothing before."""
    if change.before == change.after:
        return "1 exactly"
    ratio = change.ratio
    if ratio is None:
        return "new"
    rounded = f"{ratio:.4g}"
    return f"{ratio:.6g}" if rounded == "1" else rounded


def _number(value: int | float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}".rstrip("0").rstrip(".")


# -- verification --------------------------------------------------------------------------------------------


def verification_line(verification: VerificationSummary) -> Text:
    """What was compared and how closely it agreed, in one line."""
    if not verification.performed:
        return text("NOT VERIFIED: verification was switched off", style="bold yellow")
    compared = f"{verification.pairs_compared:,} of {verification.pairs_required:,} required pairs compared"
    if verification.worst_error is not None:
        compared += f", worst error {verification.worst_error:.2g} of the largest value"
        compared += f" at {verification.worst_tensor}" if verification.worst_tensor else ""
        compared += f" (allowed {verification.tolerance:.2g})" if verification.tolerance is not None else ""
    if verification.batches:
        compared += f", batch sizes {', '.join(map(str, verification.batches))}"
    if verification.randomised:
        compared += ", on randomised parameters too"
    if verification.seconds is not None:
        compared += f", {verification.seconds:.1f} s"
    if verification.left_out:
        compared += f"; left out: {'; '.join(verification.left_out)}"
    if verification.passed:
        quickly = " quickly" if verification.mode == "quick" else ""
        return text(f"verified{quickly}: {compared}", style="green")
    failure = f": {verification.failure}" if verification.failure else ""
    return text(f"VERIFICATION FAILED{failure} ({compared})", style="bold red")


def classifier_line(rounding: ClassifierRounding) -> Text:
    """What it changes to store classifiers in int8, in one line."""
    return text(
        f"classifier in int8 ({', '.join(rounding.layers)}): {rounding.output} moves by {rounding.largest_change:.2g} "
        f"at most, {100 * rounding.relative_change:.2g} % of its largest value, on random inputs"
    )


def make_table(*headers: str, numbers: int = 0) -> Table:
    """An empty table in the house's style, the last `numbers` columns for numbers."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, safe_box=True)
    for index, header in enumerate(headers):
        is_number = index >= len(headers) - numbers
        table.add_column(header, justify="right" if is_number else "left", no_wrap=is_number)
    return table
