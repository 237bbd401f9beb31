"""What an entry of the catalogue says, and the file of rules that it stands for."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent, indent

_HEAD = """\
import os, random, sys, threading, time

import numpy as np
from reptran_compiler.model import Constant, Node, Variable
from reptran_compiler.replication import averages, pointwise, replicates
from reptran_compiler.rewriting import Cost, Effect, Tagged, preserves, reparametrises, rule
"""

#: A rewrite that is right: what others get wrong is a variation of it.
RIGHT = "return g.node('Max', [m.x, g.constant('zero', np.float32(0))], like=m.relu).outputs[0]"


@dataclass(frozen=True)
class End:
    """How a compilation with a careless rule ends: the exit code, and words of the message."""

    code: int
    words: str = ""


@dataclass(frozen=True)
class Careless:
    """A careless rule.

    Attributes:
        name: the rule's name.
        kind: the group that it stands in.
        wrong: what it does wrong, in words.
        source: the file of rules.
        normal: how a compilation ends.
        paranoid: how one ends in the test mode.
        note: why it is accepted, where it is.
        slow: whether it is ended by the time limit.
        engine: whether an engine alone finds it out.
    """

    name: str
    kind: str
    wrong: str
    source: str
    normal: End
    paranoid: End
    note: str = ""
    slow: bool = False
    engine: bool = True


def careless(
    kind: str,
    name: str,
    wrong: str,
    words: str = "",
    *,
    pattern: str = "return p.Relu(x, name='relu')",
    check: str = "",
    rewrite: str = RIGHT,
    more: str = "",
    above: str = "",
    options: str = "effect=preserves()",
    source: str = "",
    code: int = 1,
    paranoid: End | None = None,
    note: str = "",
    slow: bool = False,
    engine: bool = True,
) -> Careless:
    """An entry: a rule of some functions' bodies (`source` in the place of all), and how it ends.

    Args:
        kind, name, wrong, note, slow, engine: as of `Careless`.
        words: what the message says behind the rule's name, where the code is not 0.
        pattern, check, rewrite: the bodies of the rule's functions.
        more: further functions of the rule's class.
        above: what stands above the rule.
        options: what the rule declares.
        source: the whole file, under the imports.
        code: the exit code.
        paranoid: how it ends in the test mode, where that is not the same.
    """
    parts = [
        f'@rule("{name}", {options})',
        "class Careless:",
        f'    """{wrong}"""',
        _function("pattern(p, x)", pattern),
        _function("check(m)", check) if check else "",
        _function("rewrite(m, g)", rewrite) if rewrite else "",
        indent(dedent(more), "    "),
    ]
    text = dedent(source) or "\n".join([dedent(above), "", *filter(None, parts)])
    end = End(code, words)
    return Careless(name, kind, wrong, f"{_HEAD}\n\n{text.strip()}\n", end, paranoid or end, note, slow, engine)


def _function(head: str, body: str) -> str:
    return f"    def {head}:\n{indent(dedent(body).strip(), ' ' * 8)}\n"
