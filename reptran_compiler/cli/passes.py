"""`--list-passes` and `--explain`: what the passes declare, and what each rule said of a node."""

from __future__ import annotations

import sys
from dataclasses import replace
from difflib import get_close_matches

import numpy as np

from reptran_compiler.cli.arguments import Arguments
from reptran_compiler.cli.options import options
from reptran_compiler.compilation import transform_source
from reptran_compiler.errors import BadInput
from reptran_compiler.explaining import explanation
from reptran_compiler.model.io import read_model
from reptran_compiler.pipeline import available_rules
from reptran_compiler.qonnx import readable
from reptran_compiler.reporting import make_console, progress
from reptran_compiler.sign_zero import plus_at_zero
from reptran_compiler.text import printable
from reptran_compiler.trial import try_source


def list_passes(arguments: Arguments) -> int:
    """Print every pass in the order that it runs in: its phase, effect and cost. Returns the exit code.

    Passes that only some options ask for are among them; their descriptions name the option.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for header in ("pass", "phase", "effect", "cost", "what it does"):
        table.add_column(header, overflow="fold")
    for rule in available_rules(replace(options(arguments), bn="fold", weights="binary")):
        cells = (rule.name, rule.phase, rule.effect.kind, str(rule.cost or "-"), rule.summary)
        table.add_row(*map(Text, cells))
    make_console().print(table)
    return 0


@np.errstate(all="ignore")
def explain(arguments: Arguments) -> int:
    """Print what became of a node, and what each rule said of it. Returns the exit code.

    Raises:
        BadInput: the model has no such node, or does not run.
        Refusal: the model cannot be rewritten.
    """
    assert arguments.model is not None and arguments.explain is not None, "`parse` sees to that"
    wanted = options(arguments)
    with progress(make_console(sys.stderr), quiet=arguments.quiet) as step:
        step("running the source", 0, None)
        source = readable(read_model(arguments.model))
        trial = try_source(source.model, dims=arguments.dims, threads=arguments.threads)
        if wanted.sign_zero == "plus":
            source = replace(source, model=plus_at_zero(source.model, trial, threads=arguments.threads)[0])
        step("rewriting", 0, None)
        transformation = transform_source(source.model, wanted, trial)
        lines = explanation(source.model, transformation, available_rules(wanted), arguments.explain)
    if lines is None:
        names = sorted({node.name for node in source.model.graph.node if node.name})
        close = ", ".join(map(repr, get_close_matches(arguments.explain, names)))
        similar = f"; there are {close}" if close else f", whose nodes are called like {names[:3]}"
        raise BadInput(f"there is no node {arguments.explain!r} in {source.name}{similar}")
    console = make_console()
    console.print(printable(f"{arguments.explain}:"), soft_wrap=True)
    for line in lines or ["no rule looked at it: it begins no pattern"]:
        console.print(printable(f"  {line}"), soft_wrap=True)
    return 0
