"""The judge sees every mistake of the catalogue and names its place, and lets harmless changes pass.

Each mistake is planted once here, in the smallest network that can contain it; `python -m benchmarks.planted` plants it
in more.
"""

from __future__ import annotations

from functools import cache

import pytest

from benchmarks import planted as benchmark
from tests.planted.catalogue import KINDS, THEMES
from tests.planted.gate import Outcome, try_kind
from tests.planted.harmless import HARMLESS
from tests.planted.kinds import Kind, RuleKind
from tests.planted.subjects import subjects

compilations = cache(subjects)


@cache
def first_outcome(kind: Kind | RuleKind) -> Outcome:
    """What becomes of a mistake in the smallest network that can contain it."""
    found = (try_kind(kind, subject, engine=False) for subject in compilations())
    return next(outcome for outcome in found if outcome is not None)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_planted_mistake_is_seen(kind: Kind | RuleKind) -> None:
    assert first_outcome(kind).first


def test_the_place_of_nine_mistakes_in_ten_is_named() -> None:
    assert sum(first_outcome(kind).right for kind in KINDS) >= benchmark.NAMED * len(KINDS)


@pytest.mark.parametrize("network", ["joined", "plain", "se_grouped.dynamo"])
@pytest.mark.parametrize("change", HARMLESS)
def test_a_harmless_change_is_accepted(change: str, network: str) -> None:
    subject = next(each for each in compilations() if each.network == network)
    assert subject.refusals(HARMLESS[change]) == ()


def test_the_catalogue_names_every_kind_once() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 60


def test_the_table_in_the_docs_is_that_of_the_catalogue() -> None:
    listed = benchmark.listed_kinds(benchmark.DOCUMENT.read_text("utf-8"))
    assert listed == [(theme.title, kind.name) for theme in THEMES for kind in theme.kinds]
