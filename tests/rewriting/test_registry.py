"""Where rules come from: the built-in package, entry points of other packages, and files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reptran_compiler.pipeline import Options, Refusal, available_rules
from reptran_compiler.rewriting import PHASES, NoSuchRule, is_built_in, known_rules, select
from reptran_compiler.rewriting.registry import rules_of

ROOT = Path(__file__).resolve().parents[2]
RULE = """
from reptran_compiler.rewriting import preserves, rule

@rule({name!r}, effect=preserves(), phase={phase!r}, order={order})
class Body:
    '''Relu goes.'''
    def pattern(p, x):
        return p.Relu(x)
    def rewrite(m, g):
        return m.x
"""


def source(name: str = "mine", phase: str = "canonicalise", order: int = 50) -> str:
    """A file with a rule."""
    return RULE.format(name=name, phase=phase, order=order)


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, text: str, value: str) -> None:
    """A package in a folder that Python looks into, with an entry point."""
    (folder / f"{module}.py").write_text(text)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[reptran_compiler.passes]\n{module} = {value}\n")
    monkeypatch.syspath_prepend(str(folder))


def written(folder: Path, text: str, name: str = "rules.py") -> str:
    """A file."""
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_file_brings_its_rules(tmp_path: Path) -> None:
    found = known_rules([written(tmp_path, source("one") + source("two").replace("Body", "Other"))])
    assert {"one", "two"} < {rule.name for rule in found}
    own = [rule for rule in found if not is_built_in(rule)]
    assert [rule.name for rule in own] == ["one", "two"]


@pytest.mark.parametrize("value", ["acme_rules", "acme_rules:Body"])
def test_an_entry_point_is_a_module_or_a_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.delitem(__import__("sys").modules, "acme_rules", raising=False)
    installed(tmp_path, monkeypatch, "acme_rules", source("acme"), value)
    assert "acme" in {rule.name for rule in known_rules()}


@pytest.mark.parametrize(
    ("module", "text", "value", "words"),
    [
        (
            "acme_gone",
            source(),
            "acme_nowhere",
            "the entry point acme_gone = 'acme_nowhere' does not load: ModuleNotFound",
        ),
        ("acme_broken", "1 / 0", "acme_broken", "does not load: ZeroDivisionError"),
        ("acme_less", source(), "acme_less:Missing", "does not load: AttributeError"),
        ("acme_empty", "number = 1", "acme_empty", "is no rule and holds none"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, text: str, value: str, words: str
) -> None:
    installed(tmp_path, monkeypatch, module, text, value)
    with pytest.raises(NoSuchRule, match=words):
        known_rules()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("number = 1", "defines no rule"),
        ("def broken(:", "SyntaxError"),
        ("import acme_nowhere", "ModuleNotFoundError: No module named 'acme_nowhere'"),
        (source("fold-bn"), "there is a pass 'fold-bn' already; give this one another name"),
        (
            source().replace("effect=preserves(), ", ""),
            "TypeError: rule.. missing 1 required keyword-only argument: 'effect'",
        ),
        (source(phase="polish"), "there is no phase 'polish'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(NoSuchRule, match=f"--rules {re.escape(file)}: .*{words}|{re.escape(file)}: {words}"):
        known_rules([file])
    with pytest.raises(Refusal) as refused:
        available_rules(Options(rules=(file,)))
    assert refused.value.exit_code == 2


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoSuchRule, match="No such file"):
        known_rules([str(tmp_path / "rules.py")])


def test_two_files_with_one_name(tmp_path: Path) -> None:
    files = [written(tmp_path, source("mine"), name) for name in ("a.py", "b.py")]
    with pytest.raises(NoSuchRule, match=r"b\.py: there is a pass 'mine' already"):
        known_rules(files)


def test_rules_are_ordered_by_phase_order_and_name(tmp_path: Path) -> None:
    text = "".join(
        source(name, phase, order).replace("Body", name.upper())
        for name, phase, order in (
            ("d", "finish", 1),
            ("b", "canonicalise", 1),
            ("a", "canonicalise", 1),
            ("c", "finish", 0),
        )
    )
    found = known_rules([written(tmp_path, text)])
    keys = [(PHASES.index(rule.phase), rule.order, rule.name) for rule in found]
    assert keys == sorted(keys)
    assert [rule.name for rule in found if not is_built_in(rule)] == ["a", "b", "c", "d"]


def test_passes_select_and_order(tmp_path: Path) -> None:
    rules = known_rules()
    names = [rules[3].name, rules[1].name]
    assert [rule.name for rule in select(rules, [*names, names[0]])] == names
    with pytest.raises(NoSuchRule, match="--passes 'polish': there is no such pass"):
        select(rules, ["polish"])


def test_a_module_lends_its_rules() -> None:
    import reptran_passes.identity as module

    assert [rule.name for rule in rules_of(module)] == ["identity"]
    assert rules_of("identity") == []
    assert rules_of(3) == []


def test_built_in_passes_are_registered_as_anyones_are() -> None:
    """One entry point for each file, and each file holds a rule."""
    files = {path.stem for path in (ROOT / "passes" / "reptran_passes").glob("*.py")} - {"__init__"}
    text = (ROOT / "pyproject.toml").read_text()
    section = text.split('[project.entry-points."reptran_compiler.passes"]\n')[1].split("\n[")[0]
    points = dict(line.split(" = ") for line in section.strip().splitlines())
    assert points == {name.replace("_", "-"): f'"reptran_passes.{name}"' for name in files}


def test_built_in_passes_found_twice_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By folder, and by the entry point of an installed copy."""
    alone = [rule.name for rule in known_rules()]
    text = (ROOT / "pyproject.toml").read_text()
    section = text.split('[project.entry-points."reptran_compiler.passes"]\n')[1].split("\n[")[0]
    info = tmp_path / "reptran_compiler_copy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: reptran-compiler-copy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[reptran_compiler.passes]\n{section.replace(chr(34), '')}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [rule.name for rule in known_rules()] == alone
