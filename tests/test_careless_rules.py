"""The catalogue of careless rules: each is refused by name, with the reason, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from benchmarks.careless.catalogue import CATALOGUE
from benchmarks.careless.entries import Careless
from benchmarks.careless.network import small_network
from benchmarks.careless.packages import broken_package
from benchmarks.careless.rows import in_a_graph
from benchmarks.careless.running import in_engine, run_here, through_command

MODEL = small_network()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "model" / "model.onnx"
    file.parent.mkdir()
    onnx.save(MODEL, file)
    return file


@pytest.mark.parametrize("rule", CATALOGUE, ids=lambda each: each.name)
def test_a_careless_rule(rule: Careless, source: Path, tmp_path: Path) -> None:
    """Through `--rules` as a user gives it, and in an engine in the test mode; the graph is as before."""
    file = tmp_path / f"{rule.name}.py"
    file.write_text(rule.source)
    ended = through_command(rule, file, source, run_here, paranoid=False)
    assert ended.as_expected(rule, rule.normal), ended
    again = in_engine(rule, file, MODEL, paranoid=True)
    assert again is None or again.as_expected(rule, in_a_graph(rule.paranoid)), again


@pytest.mark.parametrize("rule", [each for each in CATALOGUE if each.normal != each.paranoid], ids=lambda r: r.name)
def test_what_only_the_test_mode_finds(rule: Careless, source: Path, tmp_path: Path) -> None:
    file = tmp_path / f"{rule.name}.py"
    file.write_text(rule.source)
    ended = through_command(rule, file, source, run_here, paranoid=True)
    assert ended.as_expected(rule, rule.paranoid), ended


def test_names_are_told_apart() -> None:
    assert len({rule.name for rule in CATALOGUE}) == len(CATALOGUE)


def test_an_entry_point_that_does_not_load(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, path = broken_package(tmp_path)
    monkeypatch.syspath_prepend(str(path))
    file = tmp_path / "right.py"
    file.write_text(rule.source)
    ended = through_command(rule, file, source, run_here, paranoid=False)
    assert ended.as_expected(rule, rule.normal), ended
