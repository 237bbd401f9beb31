"""Write docs/api.md, the reference of the public API, from its docstrings: `python scripts/api_docs.py`."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "api.md"
#: The modules whose `__all__` is the public API, in the order of the page.
MODULES = (
    "reptran_compiler",
    "reptran_compiler.compiler",
    "reptran_compiler.gate",
    "reptran_compiler.rewriting",
    "reptran_compiler.replication",
    "reptran_compiler.verification",
    "reptran_compiler.reproducer",
    "reptran_compiler.testing",
)
_HEAD = """# Reference

The public API: what `__all__` of these modules names ([what that promises](stability.md)). Arrays are NumPy's, models
are `onnx.ModelProto`. This page is made of the docstrings, by `python scripts/api_docs.py`; for how to write a rule see
[writing-rules.md](writing-rules.md).
"""
_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):$")
_ITEM = re.compile(r"^(?P<name>[\w*][\w, .*]*): (?P<text>.*)$")


def page() -> str:
    """The whole page."""
    parts, seen = [_HEAD], set[int]()
    for name in MODULES:
        module = importlib.import_module(name)
        parts.append(f"## {name}\n\n{prose(module.__doc__ or '')}\n")
        for each in sorted(module.__all__, key=str.lower):
            value = getattr(module, each)
            if id(value) not in seen:
                seen.add(id(value))
                parts.append(entry(each, value, name))
    return "\n".join(parts)


def entry(name: str, value: Any, module: str) -> str:
    """What the page says of a public name."""
    if inspect.isclass(value):
        return "\n".join(_class(name, value))
    if inspect.isroutine(value):
        return f"### {name}\n\n```text\n{name}{signature(value)}\n```\n\n{prose(inspect.getdoc(value) or '')}\n"
    return f"### {name}\n\n{comment(name, module) or 'A constant.'}\n"


def _class(name: str, value: type) -> Iterator[str]:
    yield f"### {name}\n"
    own = "__init__" in vars(value) and not getattr(value, "_is_protocol", False)
    if own or is_dataclass(value):
        yield f"```text\n{name}{signature(value)}\n```\n"
    elif issubclass(value, Exception):
        bases = ", ".join(base.__name__ for base in value.__bases__)
        yield f"```text\nclass {name}({bases})\n```\n"
    yield prose(inspect.getdoc(value) or "") + "\n"
    for member, found in members(value):
        if isinstance(found, property):
            yield f"**`{member}`**: {prose(inspect.getdoc(found) or '')}\n"
        else:
            yield f"**`{member}{signature(getattr(value, member))}`**\n\n{prose(inspect.getdoc(found) or '')}\n"


def members(value: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class defines itself."""
    for name, found in vars(value).items():
        plain = found.__func__ if isinstance(found, (classmethod, staticmethod)) else found
        if not name.startswith("_") and (inspect.isfunction(plain) or isinstance(plain, property)):
            yield name, found


def signature(value: Any) -> str:
    """A signature as the source has it, one line, or one parameter a line where that is long."""
    found = inspect.signature(value)
    shown, star = [], False
    for each in found.parameters.values():
        if each.name == "self" or each.name.startswith("_"):
            continue
        if each.kind is each.KEYWORD_ONLY and not star:
            shown.append("*")
        star = star or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        shown.append(_parameter(each))
    back = "" if found.return_annotation in (found.empty, "None", None) else f" -> {found.return_annotation}"
    line = f"({', '.join(shown)}){back}"
    if len(line) <= 100:
        return line
    return "(\n" + "".join(f"    {each},\n" for each in shown) + f"){back}"


def _parameter(each: inspect.Parameter) -> str:
    stars = "*" if each.kind is each.VAR_POSITIONAL else "**" if each.kind is each.VAR_KEYWORD else ""
    kind = "" if each.annotation is each.empty else f": {each.annotation}"
    if each.default is each.empty:
        return f"{stars}{each.name}{kind}"
    plain = each.default is None or isinstance(each.default, (bool, int, float, str, tuple, frozenset))
    default = repr(each.default) if plain else getattr(each.default, "__name__", "...")
    return f"{each.name}{kind} = {default}"


def prose(text: str) -> str:
    """A docstring as Markdown: sections become lists, examples become code."""
    lines, made = inspect.cleandoc(text).splitlines(), list[str]()
    inside = False
    for line in lines:
        section = _SECTION.match(line)
        item = _ITEM.match(line.strip()) if inside else None
        if section:
            inside = True
            made += [f"*{section[1]}*", ""] if made and not made[-1] else ["", f"*{section[1]}*", ""]
        elif inside and line.startswith("    ") and not line.startswith("     "):
            made.append(f"- `{item['name']}`: {item['text']}" if item else f"- {line.strip()}")
        elif inside and line.startswith("     "):
            made.append(f"  {line.strip()}")
        else:
            inside = inside and not line
            made.append(line)
    return "\n".join(made).strip()


def comment(name: str, package: str) -> str:
    """What the `#:` lines over a constant say, in whichever module of a package defines it."""
    for found in sorted(each for each in sys.modules if each.startswith(package)):
        file = getattr(sys.modules[found], "__file__", None)
        source = Path(file).read_text(encoding="utf-8") if file else ""
        if not re.search(rf"^{name}\b.*=", source, re.MULTILINE):
            continue
        lines = source.splitlines()
        at = next(node.lineno for node in ast.parse(source).body if _assigns(node, name)) - 1
        above = []
        while at and lines[at - 1].startswith("#:"):
            at -= 1
            above.append(lines[at][2:].strip())
        return "\n".join(reversed(above))
    return ""


def _assigns(node: ast.stmt, name: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
