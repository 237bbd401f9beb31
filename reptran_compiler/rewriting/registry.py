"""Where rules come from: the built-in package, entry points, and files."""

from __future__ import annotations

import importlib
import pkgutil
import runpy
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from reptran_compiler.rewriting.limit import TimeLimit, TookTooLong
from reptran_compiler.rewriting.rules import PHASES, Rule
from reptran_compiler.rewriting.shield import shielded

#: The entry-point group that rules register in: a rule, several, or a module that holds some.
GROUP = "reptran_compiler.passes"
_BUILT_IN = "reptran_passes"


class NoSuchRule(Exception):
    """A source of rules cannot be used, or a name is not that of a rule. The message is one line."""


def known_rules(further: Sequence[str | Rule] = (), *, seconds: float = 60.0) -> tuple[Rule, ...]:
    """All rules, in the order in which they run: by phase, order and name.

    Args:
        further: rules, and Python files with rules; files are executed.
        seconds: how long a file may take.

    Raises:
        NoSuchRule: a file or an entry point does not load or holds no rule, or two rules have one name.
    """
    rules: dict[str, Rule] = {}
    for source, found in (*_built_in(), *_entry_points(), *(_given(each, seconds) for each in further)):
        for rule in found:
            if rules.setdefault(rule.name, rule) is not rule:
                raise NoSuchRule(f"{source}: there is a pass {rule.name!r} already; give this one another name")
    return tuple(sorted(rules.values(), key=lambda each: (PHASES.index(each.phase), each.order, each.name)))


def select(rules: Sequence[Rule], names: Sequence[str]) -> tuple[Rule, ...]:
    """The rules of some names, in the order given; phases keep theirs.

    Raises:
        NoSuchRule: no rule has one of the names.
    """
    known = {rule.name: rule for rule in rules}
    for name in names:
        if name not in known:
            close = ", ".join(map(repr, get_close_matches(name, known)))
            similar = f", only {close}" if close else ""
            raise NoSuchRule(f"--passes {name!r}: there is no such pass{similar} (--list-passes shows all)")
    return tuple(known[name] for name in dict.fromkeys(names))


def is_built_in(rule: Rule) -> bool:
    """Whether a rule belongs to the compiler."""
    return any(rule is each for _, rules in _built_in() for each in rules)


def _built_in() -> list[tuple[str, list[Rule]]]:
    modules = [importlib.import_module(name) for name in _built_in_modules()]
    return [(module.__name__, rules_of(module)) for module in modules]


@cache
def _built_in_modules() -> tuple[str, ...]:
    package = importlib.import_module(_BUILT_IN)
    return tuple(
        f"{_BUILT_IN}.{name}" for name in sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    )


def _entry_points() -> list[tuple[str, list[Rule]]]:
    found = []
    for point in sorted(entry_points(group=GROUP), key=lambda each: (each.name, each.value)):
        try:
            with shielded():
                loaded = point.load()
        except (Exception, SystemExit) as error:
            raise NoSuchRule(f"the entry point {point.name} = {point.value!r} does not load: {_words(error)}") from None
        found.append((f"entry point {point.name}", rules_of(loaded)))
        if not found[-1][1]:
            raise NoSuchRule(f"the entry point {point.name} = {point.value!r} is no rule and holds none")
    return found


def _given(source: str | Rule, seconds: float) -> tuple[str, list[Rule]]:
    return (f"rule {source.name!r}", [source]) if isinstance(source, Rule) else (source, _of_file(source, seconds))


def _of_file(file: str, seconds: float) -> list[Rule]:
    try:
        with shielded():
            values = TimeLimit(seconds).run(lambda: runpy.run_path(file))
    except SystemExit as error:
        what = f"the file ended the process (exit code {error.code}): it must only define rules"
        raise NoSuchRule(f"--rules {file}: {what}") from None
    except TookTooLong as error:
        raise NoSuchRule(f"--rules {file}: {error}: it must only define rules") from None
    except Exception as error:
        raise NoSuchRule(f"--rules {file}: {_words(error)}") from None
    rules = rules_of(list(values.values()))
    if not rules:
        raise NoSuchRule(f"--rules {file}: defines no rule")
    return rules


def rules_of(source: Any) -> list[Rule]:
    """The rules of an object: itself, the values of a module, or the elements of a collection."""
    if isinstance(source, Rule):
        return [source]
    if isinstance(source, ModuleType):
        source = list(vars(source).values())
    if isinstance(source, Iterable) and not isinstance(source, (str, bytes)):
        return list({id(each): each for each in source if isinstance(each, Rule)}.values())
    return []


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
