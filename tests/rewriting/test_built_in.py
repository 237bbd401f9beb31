"""The built-in rules on the worked examples, watched: each does what it reports, and nothing else.

A rule that turns a match down must have left no trace, and one that was applied must have changed something.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from reptran_compiler.model import Node
from reptran_compiler.pipeline import Options, transform
from reptran_compiler.rewriting import Engine, Rule

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


class Watched:
    """An engine's attempts, each with a fingerprint of the graph before and after."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.applied: dict[str, int] = {}
        self.turned_down: dict[str, int] = {}
        self.wrong: list[str] = []
        attempt = Engine._try

        def watched(engine: Engine, rule: Rule, node: Node) -> Node | None:
            if not rule.pattern.accepts(node):
                return attempt(engine, rule, node)
            name = node.name
            before, tags = _fingerprint(engine), dict(engine.facts.tags)
            made = attempt(engine, rule, node)
            changed = _fingerprint(engine) != before
            told = changed or dict(engine.facts.tags) != tags or rule.effect.kind != "preserves"
            counts = self.turned_down if made is None else self.applied
            counts[rule.name] = counts.get(rule.name, 0) + 1
            if made is None and changed:
                self.wrong.append(f"{rule.name} at {name} reports a mismatch and changed the graph")
            if made is not None and not told:
                self.wrong.append(f"{rule.name} at {name} reports a match and changed nothing")
            return made

        monkeypatch.setattr(Engine, "_try", watched)


def _fingerprint(engine: Engine) -> list[tuple[object, ...]]:
    """What the graph is made of; stored values never change, so that their tensors stand for them."""
    graph = engine.graph
    return [
        (id(each), each.name, each.op, *(f"{name}={value}" for name, value in each.attrs.items()), *_tensors(each))
        for each in (*graph.nodes, *graph.beside)
    ] + [(id(tensor), tensor.name) for tensor in graph.outputs]


def _tensors(node: Node) -> list[tuple[int, str]]:
    return [(id(tensor), tensor.name) for tensor in (*node.inputs, *node.outputs)]


FILES = sorted(GOLDEN.glob("*.onnx"))
CASES = [(file, Options()) for file in FILES] + [(file, Options(bn="keep", scope="layer")) for file in FILES[::4]]


@pytest.mark.parametrize(("file", "options"), CASES, ids=lambda case: getattr(case, "stem", getattr(case, "scope", "")))
def test_rules_do_what_they_report(file: Path, options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    transform(onnx.load(str(file)), options)
    assert watched.wrong == []
    assert watched.applied, "nothing was applied"
    assert watched.turned_down, "nothing was turned down"
