"""The public API: documented to the last definition, and the reference page says what the docstrings say."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import reptran_passes

import reptran_compiler
from reptran_compiler.rewriting import Rule

ROOT = Path(__file__).resolve().parent.parent
_SPEC = importlib.util.spec_from_file_location("api_docs", ROOT / "scripts" / "api_docs.py")
assert _SPEC is not None and _SPEC.loader is not None
api_docs = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(api_docs)


def modules() -> list[ModuleType]:
    """All modules of the compiler and of its passes."""
    found = [reptran_compiler, reptran_passes]
    for package in (reptran_compiler, reptran_passes):
        names = [each.name for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
        found += [importlib.import_module(name) for name in names if not name.endswith("__main__")]
    return found


def definitions(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The public classes, functions, methods and properties that a module defines."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(value):
            yield name, value
            for member, found in api_docs.members(value):
                yield f"{name}.{member}", getattr(value, member) if callable(found) else found
        elif inspect.isfunction(value):
            yield name, value


def test_every_public_definition_is_documented() -> None:
    bare = []
    for module in modules():
        if not (module.__doc__ or "").strip():
            bare.append(module.__name__)
        bare += [f"{module.__name__}.{name}" for name, value in definitions(module) if not inspect.getdoc(value)]
    assert bare == []


def test_every_rule_says_what_it_does() -> None:
    rules = [value for module in modules() for value in vars(module).values() if isinstance(value, Rule)]
    assert rules
    assert [each.name for each in rules if not each.summary] == []


@pytest.mark.parametrize("name", api_docs.MODULES)
def test_public_names_exist_once(name: str) -> None:
    module = importlib.import_module(name)
    assert [each for each in module.__all__ if not hasattr(module, each)] == []
    assert len(set(module.__all__)) == len(module.__all__)


def test_the_reference_is_current() -> None:
    page = ROOT / "docs" / "api.md"
    assert page.read_text(encoding="utf-8") == api_docs.page(), "run `python scripts/api_docs.py`"


def test_every_public_constant_has_a_comment() -> None:
    assert "A constant." not in api_docs.page()


def test_the_api_is_typed() -> None:
    """What a type checker is told of public functions is whole: each parameter, and what comes back."""
    bare = []
    for name in api_docs.MODULES:
        module = importlib.import_module(name)
        for each in module.__all__:
            value = getattr(module, each)
            if inspect.isfunction(value) and any(
                kind is inspect.Parameter.empty
                for kind in (
                    inspect.signature(value).return_annotation,
                    *(parameter.annotation for parameter in inspect.signature(value).parameters.values()),
                )
            ):
                bare.append(f"{name}.{each}")
    assert bare == []
