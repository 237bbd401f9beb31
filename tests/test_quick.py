"""A quick verification: every pair once, said aloud, and nothing passes that a network's shapes or values show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnx.parser
import pytest
from numpy.typing import NDArray

from reptran_compiler.cli.main import main
from reptran_compiler.compiler import Refusal, compile_model
from reptran_compiler.runtime import Session
from reptran_compiler.trial import try_source
from tests.planted.catalogue import KINDS
from tests.planted.gate import try_kind
from tests.planted.subjects import subjects

Array = NDArray[Any]
TINY = Path(__file__).parents[1] / "models" / "files" / "reactnet-tiny.onnx"
CARELESS = """
from reptran_compiler.rewriting import preserves, rule

@rule("drops-norm", effect=preserves())
class DropsNorm:
    \"\"\"A BatchNormalization is nothing.\"\"\"

    def pattern(p, x):
        return p.BatchNormalization(x, *p.consts("scale bias mean var"), name="norm")

    def rewrite(m, g):
        return g.node("Identity", [m.x]).outputs[0]
"""


def recorded(path: Path) -> str:
    return next(each.value for each in onnx.load(str(path)).metadata_props if each.key == "reptran.verified")


def test_every_pair_is_compared_and_what_is_left_out_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for mode in ("full", "quick"):
        out, report = tmp_path / f"{mode}.onnx", tmp_path / f"{mode}.json"
        assert main([str(TINY), "-o", str(out), "--verify", mode, "--json", str(report)]) == 0
        found[mode] = json.loads(report.read_text())["verification"]
    full, quick = found["full"], found["quick"]
    assert (full["mode"], full["left_out"], quick["mode"]) == ("full", [], "quick")
    assert quick["pairs_compared"] == quick["pairs_required"] == full["pairs_required"]
    assert (full["batches"], quick["batches"]) == ([2, 3], [2])
    assert "effects" in quick["left_out"][0] and "batch 3" in quick["left_out"][1]
    assert (recorded(tmp_path / "full.onnx"), recorded(tmp_path / "quick.onnx")) == ("true", "quick")
    said = " ".join(capsys.readouterr().out.split())
    assert "verified quickly: " in said and all(each in said for each in quick["left_out"])


def test_rules_from_elsewhere_are_executed(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(CARELESS)
    with pytest.raises(Refusal, match="rule 'drops-norm' at node .* breaks its declaration"):
        compile_model(TINY, rules=[str(tmp_path / "rules.py")], quick=True)


@pytest.mark.parametrize("name", ["a frozen batch in a Reshape", "beta for beta^2", "scales of the neighbour"])
def test_planted_mistakes_are_seen(name: str) -> None:
    kind = next(each for each in KINDS if each.name == name)
    outcomes = (try_kind(kind, replace(each, quick=True), engine=False) for each in subjects())
    first = next(outcome for outcome in outcomes if outcome is not None)
    assert first.first and first.right


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_source_that_runs_with_one_batch_only_is_found_out(size: int) -> None:
    """The frozen batch of an exporter's example: at other sizes than that of the quick look, too."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 17]>
        frozen (float[batch, 4] x) => (float[batch, 4] y)
        <int64[2] shape = {{{size}, 4}}>
        {{ z = Reshape(x, shape)  y = Sign(z) }}""")
    assert try_source(model, quick=True).batches == try_source(model).batches == (size,)


def test_a_source_is_run_once_where_its_shapes_tell_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[int] = []
    run = Session.run

    def counted(session: Session, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        fed.extend(len(array) for name, array in feeds.items() if name == "input")
        return run(session, feeds, outputs)

    monkeypatch.setattr(Session, "run", counted)
    model = onnx.load(str(TINY))
    assert model.graph.input[0].name == "input"
    batches = [try_source(model, quick=quick).batches for quick in (False, True)]
    assert batches == [(2, 3), (2, 3)] and fed == [2, 3, 2]
