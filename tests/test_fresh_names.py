"""Names that a graph gives out."""

from __future__ import annotations

from tiny_networks import plain

from reptran_compiler.model import import_model


def test_fresh_names_are_the_hint_or_the_next_free_number() -> None:
    graph = import_model(plain())
    assert [graph.fresh("made") for _ in range(3)] == ["made", "made.2", "made.3"]
    assert graph.fresh("made.5") == "made.5"
    assert [graph.fresh("made") for _ in range(3)] == ["made.4", "made.6", "made.7"]


def test_fresh_names_are_never_those_of_the_model() -> None:
    model = plain()
    graph = import_model(model)
    taken = [model.graph.input[0].name, model.graph.initializer[0].name, model.graph.node[0].output[0]]
    assert not {graph.fresh(name) for name in taken} & set(taken)
