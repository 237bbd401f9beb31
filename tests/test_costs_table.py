"""Counting ReActNet-A: the table of the specification to the unit."""

from __future__ import annotations

import pytest
from counted_networks import reactnet_a

from reptran_compiler.costs import Comparison, CostReport, count


@pytest.fixture(scope="module")
def reactnet() -> tuple[CostReport, CostReport]:
    return count(reactnet_a(1)), count(reactnet_a(2))


TABLE = [
    ("stem_weights", 864, 864),
    ("stem_affine", 64, 64),
    ("stem_statistics", 64, 64),
    ("binary_weights_3x3", 25_113_600, 25_113_600),
    ("binary_weights_1x1", 3_139_584, 3_139_584),
    ("bn_affine", 21_824, 43_648),
    ("bn_statistics", 21_824, 43_648),
    ("prelu_slopes", 10_912, 21_824),
    ("learnable_biases", 31_744, 63_488),
    ("factored_scales", 10_912, 21_824),
    ("classifier_weights", 1_024_000, 2_048_000),
    ("classifier_bias", 1_000, 1_000),
]
MACS = [
    ("stem", 10_838_016, 10_838_016),
    ("binary_3x3", 4_277_403_648, 4_277_403_648),
    ("binary_1x1", 539_492_352, 539_492_352),
    ("classifier", 1_024_000, 2_048_000),
]


def test_reactnet_a_parameters_by_kind(reactnet: tuple[CostReport, CostReport]) -> None:
    before, after = reactnet
    assert dict(before.parameters) == {kind: count for kind, count, _ in TABLE}
    assert dict(after.parameters) == {kind: count for kind, _, count in TABLE}
    assert (before.trainable, after.trainable) == (29_343_592, 30_432_072)


def test_reactnet_a_operations(reactnet: tuple[CostReport, CostReport]) -> None:
    before, after = reactnet
    assert dict(before.macs) == {kind: count for kind, count, _ in MACS}
    assert dict(after.macs) == {kind: count for kind, _, count in MACS}
    assert before.bops == after.bops == 4_277_403_648 + 539_492_352
    assert (before.ops, after.ops) == (87_126_016, 88_150_016)
    assert isinstance(before.ops, int)


def test_reactnet_a_per_element_work(reactnet: tuple[CostReport, CostReport]) -> None:
    before, after = reactnet
    assert (before.per_element_work, after.per_element_work) == (29_378_048, 58_354_688)
    assert not before.notes


def test_reactnet_a_ratios_of_the_table(reactnet: tuple[CostReport, CostReport]) -> None:
    comparison = Comparison(*reactnet)
    ratios = {change.kind: change.ratio for change in comparison.changes}
    assert ratios["binary_weights_3x3"] == ratios["binary_3x3"] == ratios["stem_affine"] == 1
    assert ratios["bn_affine"] == ratios["prelu_slopes"] == ratios["classifier_weights"] == 2
    assert ratios["trainable"] == pytest.approx(1.037, abs=5e-4)
    assert ratios["ops"] == pytest.approx(1.012, abs=5e-4)
    assert ratios["per_element_work"] == pytest.approx(1.99, abs=5e-3)


def test_reactnet_a_repconvs_are_invariant(reactnet: tuple[CostReport, CostReport]) -> None:
    comparison = Comparison(*reactnet)
    assert comparison.invariant
    assert not comparison.violations
    assert not comparison.totals_equal
    repconvs = [pair for pair in comparison.layers if pair.before and pair.before.role == "repconv"]
    assert len(repconvs) == 13 * 2 + 5
    grew = {change.kind for change in comparison.grew}
    assert {"bn_affine", "prelu_slopes", "learnable_biases", "classifier_weights", "classifier"} <= grew
    assert not grew & {"binary_weights_3x3", "binary_1x1", "stem_weights", "trainable", "ops"}
