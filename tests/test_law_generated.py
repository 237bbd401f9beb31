"""The law over generated networks: whatever is compiled is judged right, and little is refused.

A failure names the seed; `generated.draw_case(seed)` gives the model and the options again.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import pytest
from generated import Case, draw_case
from generated.judging import complaints
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from reptran_compiler.compiler import compile_model
from reptran_compiler.pipeline import Refusal, Transformation, transform
from reptran_compiler.provenance import apply_move, rearranged_layers, stored_weights
from reptran_compiler.verification import check_equivalent

SEEDS = range(60)
MORE_SEEDS = range(1000, 1500)

#: What may be refused, by what the message says of it; anything else is a failure.
EXPECTED = ("no layer that can be rewritten", "names no layer")


@lru_cache(maxsize=len(SEEDS))
def compiled(seed: int) -> tuple[Case, Transformation | Refusal]:
    """A case, and its compilation or refusal."""
    case = draw_case(seed)
    try:
        return case, transform(case.model, case.options)
    except Refusal as refusal:
        return case, refusal


def made(number: int) -> tuple[Case, Transformation]:
    """The compilation with this number among those of `SEEDS` that are not refused."""
    for seed in SEEDS:
        case, outcome = compiled(seed)
        if isinstance(outcome, Transformation):
            if number == 0:
                return case, outcome
            number -= 1
    raise LookupError("too many seeds are refused")


def wrong(seed: int) -> list[str]:
    """What is wrong with what the compiler did with a seed; a refusal for an expected reason is not."""
    case, outcome = compiled(seed)
    if isinstance(outcome, Refusal):
        return [] if any(reason in str(outcome) for reason in EXPECTED) else [f"refused: {outcome}"]
    return complaints(case, outcome)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_generated_network_obeys_the_law(seed: int) -> None:
    assert wrong(seed) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", MORE_SEEDS)
def test_many_more_generated_networks_obey_the_law(seed: int) -> None:
    assert wrong(seed) == []


def test_little_is_refused_and_everything_occurs() -> None:
    """The generator does not degenerate: it compiles nearly everything, with every role and construct in it."""
    refused = [seed for seed in SEEDS if isinstance(compiled(seed)[1], Refusal)]
    assert len(refused) <= len(SEEDS) // 6
    roles: Counter[str] = Counter()
    operators: Counter[str] = Counter()
    for seed in SEEDS:
        case, outcome = compiled(seed)
        operators.update({node.op_type for node in case.model.graph.node})
        if isinstance(outcome, Transformation):
            roles.update(plan.role for plan in outcome.layers)
            roles["other boundary"] += len(outcome.boundaries)
    assert roles["repconv"] > 3 * len(SEEDS)
    assert min(roles[role] for role in ("stem", "classifier", "boundary", "depthwise", "other boundary")) >= 3
    common = "Sign Where Less PRelu BatchNormalization Concat Split Slice Pad Resize MaxPool Transpose MatMul Gemm"
    assert [op for op in common.split() if operators[op] < 3] == []


@pytest.mark.parametrize("number", range(0, 45, 4))
def test_a_canonical_source_is_compiled_to_the_same(number: int) -> None:
    """Canonicalisation is idempotent: the canonical form is its own canonical form, and has the same result."""
    case, first = made(number)
    again = transform(first.canonical, case.options)
    assert _operators(again.canonical) == _operators(first.canonical)
    for before, after in ((first.canonical, again.canonical), (first.result, again.result)):
        report = check_equivalent(before, after)
        assert report.ok, [str(failure) for failure in report.failures]
    assert _operators(again.result) == _operators(first.result)


@pytest.mark.parametrize("seed", SEEDS[1::10])
def test_beta_1_gives_the_source_back(seed: int) -> None:
    case = draw_case(seed)
    assert compile_model(case.model, 1).model == case.model


@pytest.mark.parametrize("number", range(2, 45, 4))
def test_the_weights_of_every_repconv_are_those_of_the_source_in_another_order(number: int) -> None:
    case, outcome = made(number)
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
            old, moved = np.sign(old), np.sign(moved)
        assert np.array_equal(moved, new), move.layer
        assert np.array_equal(np.sort(old, axis=None), np.sort(new, axis=None)), move.layer


@pytest.mark.parametrize("number", range(3, 45, 10))
def test_the_same_source_gives_the_same_bytes(number: int) -> None:
    case, outcome = made(number)
    again = transform(draw_case(case.seed).model, case.options)
    assert again.result.SerializeToString(deterministic=True) == outcome.result.SerializeToString(deterministic=True)


def test_a_case_is_the_same_every_time() -> None:
    assert draw_case(7).model == draw_case(7).model
    assert draw_case(7).options == draw_case(7).options
    assert draw_case(7).model != draw_case(8).model


@pytest.mark.parametrize("seed", SEEDS)
def test_a_generated_file_is_valid(seed: int) -> None:
    onnx.checker.check_model(draw_case(seed).model, full_check=True)


def _operators(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def _stored(model: ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
