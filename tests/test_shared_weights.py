"""Weights that sessions of the judge share: what is computed with them is what it was when each model held its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from reptran_compiler.compiler import compile_model
from reptran_compiler.model import referred
from reptran_compiler.runtime import RuntimeFailure, Session, random_feeds, run
from reptran_compiler.verification import protograph
from reptran_compiler.verification.cutting import cut_part
from reptran_compiler.verification.protograph import ProtoGraph

TINY = Path(__file__).parents[1] / "models" / "files" / "reactnet-tiny.onnx"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every constant counts as a large one."""
    for module in (referred, protograph):
        monkeypatch.setattr(module, "LARGE_TENSOR", 1)
    yield


def branching() -> onnx.ModelProto:
    """A body that reads a tensor of the outer graph, and a stored tensor that is a graph output."""
    given = helper.make_tensor_value_info("given", TensorProto.FLOAT, [2])
    body = helper.make_graph([helper.make_node("Identity", ["twice"], ["given"])], "body", [], [given])
    nodes = [
        helper.make_node("Add", ["stored", "stored"], ["twice"]),
        helper.make_node("If", ["choice"], ["chosen"], then_branch=body, else_branch=body),
        helper.make_node("Add", ["x", "chosen"], ["y"]),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("y", "stored")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])]
    inputs.append(helper.make_tensor_value_info("choice", TensorProto.BOOL, []))
    stored = [numpy_helper.from_array(np.array([1, 2], np.float32), "stored")]
    graph = helper.make_graph(nodes, "branching", inputs, outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("make", [lambda: onnx.load(str(TINY)), branching], ids=["tiny", "branching"])
def test_a_part_without_its_weights_computes_what_the_model_does(make) -> None:  # type: ignore[no-untyped-def]
    model = make()
    graph, feeds = ProtoGraph(model), random_feeds(model, batch=2)
    part = cut_part(graph, {}, {}, graph.outputs, graph.weights)
    assert graph.weights and not {tensor.name for tensor in part.graph.initializer} - set(graph.outputs)
    found = Session(part, weights=graph.weights).run(feeds)
    assert all(np.array_equal(found[name], wanted) for name, wanted in run(model, feeds).items())


@pytest.mark.usefixtures("small")
def test_without_its_weights_a_part_does_not_run() -> None:
    graph = ProtoGraph(onnx.load(str(TINY)))
    with pytest.raises(RuntimeFailure):
        Session(cut_part(graph, {}, {}, graph.outputs, graph.weights))


def test_verification_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = compile_model(TINY).judgement
    for module in (referred, protograph):
        monkeypatch.setattr(module, "LARGE_TENSOR", 1)
    shared = compile_model(TINY).judgement
    assert plain is not None and shared is not None and shared.ok
    assert [report.coverage for report in shared.reports] == [report.coverage for report in plain.reports]
    assert [report.distances for report in shared.reports] == [report.distances for report in plain.reports]
