"""`--list-passes` and `--explain`: what the passes declare, and what each rule said of a node."""

from __future__ import annotations

from reptran_compiler.cli.arguments import Arguments
from reptran_compiler.cli.options import options
from reptran_compiler.compilation import transform_source
from reptran_compiler.errors import BadInput
from reptran_compiler.model.io import read_model
from reptran_compiler.pipeline import Transformation, available_rules
from reptran_compiler.reporting import make_console
from reptran_compiler.trial import try_source


def list_passes(arguments: Arguments) -> int:
    """Print every pass in the order that it runs in, with its effect. Returns the exit code."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for header in ("pass", "effect", "what it does"):
        table.add_column(header, overflow="fold")
    for rule in available_rules(options(arguments)):
        table.add_row(Text(rule.name), Text(rule.effect.kind), Text(rule.summary))
    make_console().print(table)
    return 0


def explain(arguments: Arguments) -> int:
    """Print what became of a node, and what each rule said of it. Returns the exit code.

    Raises:
        BadInput: the model has no such node, or does not run.
        Refusal: the model cannot be rewritten.
    """
    assert arguments.model is not None and arguments.explain is not None, "`parse` sees to that"
    source = read_model(arguments.model)
    trial = try_source(source.model, dims=arguments.dims, threads=arguments.threads)
    transformation = transform_source(source.model, options(arguments), trial)
    lines = explanation(transformation, arguments.explain)
    if not lines:
        known = {node.name for node in source.model.graph.node if node.name}
        if arguments.explain not in known:
            similar = _similar(arguments.explain, known)
            raise BadInput(f"there is no node {arguments.explain!r} in {source.name}{similar}")
        lines = ["no rule looked at it: it begins no pattern"]
    console = make_console()
    console.print(f"{arguments.explain}:", soft_wrap=True)
    for line in lines:
        console.print(f"  {line}", soft_wrap=True)
    return 0


def explanation(transformation: Transformation, node: str) -> list[str]:
    """What became of a node, and what each rule said of it, a line each; empty where nothing is known."""
    lines = []
    for plan in transformation.layers:
        if plan.name == node:
            kind = f"{'binary ' if plan.binary else ''}{plan.op} layer, {plan.role}"
            lines.append(f"{kind}: {plan.reason}" if plan.reason else kind)
    lines += [f"boundary: {reason}" for name, reason in transformation.boundaries if name == node]
    for report in transformation.reports:
        if node in report.applied:
            lines.append(f"{report.rule}: applied")
        elif node in report.missed:
            lines.append(f"{report.rule}: no, {report.missed[node]}")
    return lines


def _similar(name: str, known: set[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, sorted(known), 3)
    return f"; there are {', '.join(map(repr, close))}" if close else ""
