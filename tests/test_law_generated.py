"""Generated networks: whatever is drawn is compiled, judged right, recognised, and the same from every process.

A failure of hypothesis shows the smallest network's decisions; `python -m benchmarks.generated --only SEED` repeats a
seed. The sweep over thousands is `python -m benchmarks.generated`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from benchmarks.generated import CONSTRUCTS, REFUSED, Case, Seeded, draw, draw_case, runs
from benchmarks.generated.checks import EXPECTED, Outcome, examine
from benchmarks.generated.sweep import Row, sweep
from benchmarks.generated.table import ENOUGH, operators, shortcomings, table
from reptran_compiler.compiler import compile_model
from reptran_compiler.pipeline import Refusal, Transformation, transform
from reptran_compiler.provenance import apply_move, rearranged_layers, stored_weights
from reptran_compiler.verification import check_equivalent

SEEDS = range(3000, 3006)
MORE_SEEDS = range(4000, 4200)


class Shrinking:
    """Decisions that hypothesis draws, and makes simpler where a network fails."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def integer(self, low: int, high: int) -> int:
        """An integer; the lower the plainer."""
        return int(self._data.draw(st.integers(low, high)))


@settings(
    max_examples=6,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
@given(data=st.data())
def test_any_network_holds(data: st.DataObject) -> None:
    case = draw(Shrinking(data))
    assume(runs(case))
    assert examine(case).failures == ()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_drawn_network_holds(seed: int) -> None:
    assert examine(draw_case(seed)).failures == ()


@pytest.mark.slow
@pytest.mark.parametrize("seed", MORE_SEEDS)
def test_many_more_drawn_networks_hold(seed: int) -> None:
    assert examine(draw_case(seed)).failures == ()


def test_processes_with_other_hashes_agree() -> None:
    (row,) = sweep(SEEDS[:1], 1)
    assert row.outcome.digest and row.outcome.failures == ()


# The generator.


def test_a_case_is_the_same_every_time() -> None:
    assert draw_case(7) == draw_case(7)
    assert draw_case(7).model != draw_case(8).model


def test_everything_is_drawn() -> None:
    """Each construct and each operator of the judge's table occurs (how often, the sweep says)."""
    cases = [draw(Seeded(seed)) for seed in range(400)]
    seen = {name for case in cases for name in case.constructs}
    assert seen == set(CONSTRUCTS)
    types = {node.op_type for case in cases for node in case.model.graph.node}
    assert set(operators()) <= types


@pytest.mark.parametrize("seed", range(40))
def test_a_generated_file_is_valid(seed: int) -> None:
    onnx.checker.check_model(draw_case(seed).model, full_check=True)


# The table: what is not as it has to be is said.


def rows(**changed: Any) -> list[Row]:
    """As many rows as shares are held to, each with everything in it; the first one changed."""
    full = Row(0, frozenset(CONSTRUCTS), frozenset(operators()), (), 9, Outcome(digest="d", differing=1))
    made = [replace(full, seed=seed) for seed in range(ENOUGH)]
    return [replace(made[0], **changed), *made[1:]]


def test_a_sweep_without_fault_says_nothing() -> None:
    assert shortcomings(rows()) == []
    assert "1,000 compiled and passed, 0 refused (0.0 %), 0 failed" in table(rows(), "made by hand")


def test_a_failing_graph_is_said() -> None:
    assert shortcomings(rows(outcome=Outcome(("law: wrong",)))) == ["seed 0: law: wrong"]


def test_what_is_too_rare_or_refused_too_often_is_said() -> None:
    few = [replace(row, constructs=frozenset(REFUSED), operators=frozenset(), outcome=Outcome()) for row in rows()]
    found = shortcomings(few)
    assert len(found) == len(CONSTRUCTS) - len(REFUSED) + len(operators()) + 1
    assert found[-1] == "copies differ in 0.0 % of the graphs only"
    refused = [replace(row, outcome=replace(row.outcome, refusal=EXPECTED[0])) for row in rows()]
    assert shortcomings(refused) == ["100.0 % of the graphs are refused"]


# The compiler on what is drawn.


@lru_cache(maxsize=len(SEEDS))
def made(seed: int) -> tuple[Case, Transformation]:
    """A compilation; the test is skipped where the case is refused."""
    case = draw_case(seed)
    try:
        return case, transform(case.model, replace(case.options, dims=tuple(sorted(case.dims.items())), check=False))
    except Refusal as refusal:
        pytest.skip(str(refusal))


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_a_canonical_source_is_compiled_to_the_same(seed: int) -> None:
    """Canonicalisation is idempotent: the canonical form is its own canonical form, and has the same result."""
    case, first = made(seed)
    again = transform(first.canonical, replace(case.options, dims=tuple(sorted(case.dims.items())), check=False))
    assert _operators(again.canonical) == _operators(first.canonical)
    for before, after in ((first.canonical, again.canonical), (first.result, again.result)):
        report = check_equivalent(before, after, dims=case.dims)
        assert report.ok, [str(failure) for failure in report.failures]
    assert _operators(again.result) == _operators(first.result)


@pytest.mark.parametrize("seed", SEEDS[1::4])
def test_beta_1_gives_the_source_back(seed: int) -> None:
    case = draw_case(seed)
    assert compile_model(case.model, 1, dims=case.dims).model == case.model


@pytest.mark.parametrize("seed", SEEDS)
def test_the_weights_of_every_repconv_are_those_of_the_source_in_another_order(seed: int) -> None:
    case, outcome = made(seed)
    repconvs = {plan.name for plan in outcome.layers if plan.role == "repconv"}
    assert {move.layer for move in outcome.moves} >= repconvs
    assert all(rearranged_layers(outcome).values())
    sources, results = _stored(outcome.canonical), _stored(outcome.result)
    names = stored_weights(outcome.result)
    for move in outcome.moves:
        if move.layer not in repconvs:
            continue
        old, new = sources[move.source], results[move.result or names[move.layer]]
        moved = apply_move(move, old)
        if case.options.weights == "binary" and not np.array_equal(moved, new):
            up = bool((new[moved == 0] == 1).any())
            old, moved = (np.where(values >= 0, 1, -1) if up else np.sign(values) for values in (old, moved))
        assert np.array_equal(moved, new), move.layer
        assert np.array_equal(np.sort(old, axis=None), np.sort(new, axis=None)), move.layer


def _operators(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def _stored(model: ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
