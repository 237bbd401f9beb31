"""`verify_pair`: what it accepts, and that it accepts nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper
from verified_pairs import (
    NETWORKS,
    change,
    node,
    original,
    rep,
    retrained,
    set_attribute,
    stored,
    without_names,
)

from reptran_compiler.errors import BadInput
from reptran_compiler.gate import Verification, verify_pair

HINT = "say --retrained"


def failed(made: Verification, *kinds: str) -> str:
    """All failures, where checks of these kinds failed (among others), in one text."""
    assert made.exit_code == 3 and not made.passed
    assert {*kinds} <= {check.kind for check in made.failed}, made.failures
    return "\n".join(made.failures)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in NETWORKS),
        ("everything", {"bn": "keep", "weights": "binary", "fc": "fold"}),
        ("joined", {"scope": "layer"}),
        ("joined", {"exclude": ("two",)}),
        ("plain", {"beta": 4}),
    ],
)
def test_real_pairs_pass(name: str, options: dict[str, Any]) -> None:
    """With something to show for every check; options are taken from the metadata."""
    see_passed(name, options, {})


@pytest.mark.parametrize("mode", ["retrained", "layers_only"])
@pytest.mark.parametrize(("name", "options"), [("everything", {}), ("gated", {"bn": "keep", "scope": "layer"})])
def test_real_pairs_pass_in_every_mode(name: str, options: dict[str, Any], mode: str) -> None:
    see_passed(name, options, {mode: True})


def see_passed(name: str, options: dict[str, Any], mode: dict[str, bool]) -> None:
    """Verify a pair, and see that every kind of check passed."""
    made = verify_pair(original(name), rep(name, **options), **mode)
    assert made.passed and made.exit_code == 0, made.failures
    assert {check.kind for check in made.checks} == {"file", "layer", "law", "costs"}
    assert all(check.detail for check in made.checks)
    assert made.beta == options.get("beta", 2)


@pytest.mark.parametrize("name", ["plain", "dense"])
@pytest.mark.parametrize("options", [{}, {"bn": "keep", "weights": "binary"}], ids=["default", "keep"])
def test_a_retrained_network_has_to_be_announced(name: str, options: dict[str, Any]) -> None:
    trained = retrained(rep(name, **options))
    assert HINT in failed(verify_pair(original(name), trained), "law")
    assert verify_pair(original(name), trained, retrained=True).passed
    assert verify_pair(original(name), trained, layers_only=True).passed


# Values. One that is wrong fails, unless the network is said to be retrained.


def negated(name: str) -> Callable[[ModelProto], None]:
    """The first number of a stored tensor turned around."""

    def plant(model: ModelProto) -> None:
        def turn(value: Any) -> Any:
            value.reshape(-1)[0] *= -1
            return value

        change(model, name, turn)

    return plant


def rolled(name: str) -> Callable[[ModelProto], None]:
    """The values of a stored tensor, each in the place of another."""
    return lambda model: change(model, name, lambda value: np.roll(value.reshape(-1), 1).reshape(value.shape))


def of(layer: str, position: int = 1) -> str:
    """The tensor that a layer of the plain network reads."""
    return node(rep("plain"), layer).input[position]


@pytest.mark.parametrize("plant", [negated, rolled])
@pytest.mark.parametrize("layer", ["stem", "one", "two", "fc"])
def test_a_wrong_weight_fails_and_is_named(layer: str, plant: Callable[[str], Callable[[ModelProto], None]]) -> None:
    model = rep("plain")
    plant(of(layer))(model)
    made = verify_pair(original("plain"), model)
    text = failed(made, "law")
    assert f"'{layer}" in made.failures[0] and HINT in text
    assert verify_pair(original("plain"), model, retrained=True).passed


def test_a_number_that_moves_less_than_the_law_can_see_is_seen() -> None:
    """Beside sums of hundreds of +-1, a mean may move by a thousandth; it is not that of the compilation."""
    model = rep("plain", bn="keep")
    norm = next(each for each in model.graph.node if each.op_type == "BatchNormalization" and each.name == "two.bn")
    change(model, norm.input[3], lambda value: value * np.float32(1.001))
    assert repr(norm.input[3]) in failed(verify_pair(original("plain"), model), "law")


def test_values_count_where_the_parameters_of_the_original_prove_nothing() -> None:
    """Fresh BatchNormalization: what is swapped changes nothing to be seen, and yet is no result of the compiler."""
    assert any("randomised" in note for note in verify_pair(original("fresh"), rep("fresh")).notes)
    model = rep("fresh", bn="keep")
    norms = [each for each in model.graph.node if each.op_type == "BatchNormalization"]
    norms[1].input[2], norms[1].input[3] = norms[1].input[3], norms[1].input[2]  # bias and mean, both zero
    assert "prove nothing" in failed(verify_pair(original("fresh"), model), "law")


# Structure. What is wrong fails, retrained or not.


def reads(name: str, position: int, tensor: str) -> Callable[[ModelProto], None]:
    """A node that reads another tensor."""
    return lambda model: node(model, name).input.__setitem__(position, tensor)


def swapped(first: tuple[str, int], second: tuple[str, int]) -> Callable[[ModelProto], None]:
    """Two places that read what the other one should."""

    def plant(model: ModelProto) -> None:
        places = [(node(model, name).input, position) for name, position in (first, second)]
        (one, i), (two, j) = places
        one[i], two[j] = two[j], one[i]

    return plant


def operator(name: str, op: str) -> Callable[[ModelProto], None]:
    """Another operator in a node's place."""
    return lambda model: setattr(node(model, name), "op_type", op)


def without(name: str) -> Callable[[ModelProto], None]:
    """A node left out: what it made is what it read."""

    def plant(model: ModelProto) -> None:
        gone = node(model, name)
        for each in model.graph.node:
            each.input[:] = [gone.input[0] if tensor == gone.output[0] else tensor for tensor in each.input]
        model.graph.node.remove(gone)

    return plant


def dilated(model: ModelProto) -> None:
    """A layer that reads further apart, and still gives a map of the size that it should."""
    set_attribute(model, "one", "dilations", [2, 2])
    set_attribute(model, "one", "pads", [2, 2, 2, 2])


MISTAKES: dict[str, tuple[str, Callable[[ModelProto], None], str]] = {
    "pads": ("plain", lambda model: set_attribute(model, "one", "pads", [0, 1, 2, 1]), "'one'"),
    "dilations": ("plain", dilated, "'one'"),
    "a skipped operator": ("plain", without("one.act"), "one.act"),
    "a short cut": ("plain", reads("two.sign", 0, "stem.bn"), "two.sign"),
    "wires of equal shape": ("plain", reads("one.add", 1, "one.bn/Mul/out"), "one.add"),
    "order of operands": ("joined", swapped(("join", 0), ("join", 1)), "join"),
    "order of scale and bias": ("plain", swapped(("one.bn/Mul", 1), ("one.bn", 1)), "one.bn"),
    "one parameter for two": ("plain", reads("one.bn", 1, "one.bn/Mul/scale"), "one.bn"),
    "no binarisation": ("plain", operator("two.sign", "Tanh"), "'two'"),
    "another activation": ("plain", operator("one.add", "Max"), "one.add"),
    "an attribute": ("plain", lambda model: set_attribute(model, "fc", "alpha", 2.0), "'fc'"),
    "a pad value": (
        "everything",
        lambda model: change(model, node(model, "padded.in").input[2], lambda old: -old),
        "padded",
    ),
    "bounds of a slice": ("everything", swapped(("upper", 1), ("lower", 1)), "er'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_another_structure_is_no_training(mistake: str) -> None:
    name, plant, place = MISTAKES[mistake]
    model = retrained(rep(name))
    plant(model)
    text = failed(verify_pair(original(name), model, retrained=True))
    assert place in text, text
    model = rep(name)
    plant(model)
    made = verify_pair(original(name), model)
    assert made.exit_code == 3 and HINT not in "\n".join(made.failures), made.failures


def test_weights_that_are_not_binary_any_more_fail() -> None:
    model = rep("plain", weights="binary")
    change(model, of("one"), lambda value: value * 0.5)
    assert "no binary layer any more" in failed(verify_pair(original("plain"), model, retrained=True), "layer")


def test_numbers_that_are_none_are_no_training() -> None:
    model = rep("plain")
    change(
        model, "one.bn/offset", lambda value: np.where(np.arange(value.size).reshape(value.shape) == 3, np.nan, value)
    )
    for mode in ({"retrained": True}, {"layers_only": True}):
        assert "'one.bn/offset'" in failed(verify_pair(original("plain"), model, **mode), "law")


def test_layers_alone_say_what_they_do_not_check() -> None:
    """A short cut between layers is not seen; a layer's own form is."""
    model = retrained(rep("plain"))
    reads("two.sign", 0, "stem.bn")(model)
    made = verify_pair(original("plain"), model, layers_only=True)
    assert made.passed and made.mode == "layers"
    assert any("NOT checked" in note for note in made.notes)
    dilated(model)
    assert "dilations 2x2" in failed(verify_pair(original("plain"), model, layers_only=True), "layer")


# Files that other tools wrote.


@pytest.mark.parametrize("name", ["plain", "gated"])
def test_names_mean_nothing(name: str) -> None:
    """Layers are found by how they are connected; a wrong value is still seen, and named as the compilation does."""
    assert verify_pair(original(name), without_names(rep(name))).passed
    assert verify_pair(original(name), without_names(retrained(rep(name))), retrained=True).passed
    model = rep("plain")
    negated(of("one"))(model)
    assert "'one'" in failed(verify_pair(original("plain"), without_names(model)), "law")


def test_a_retrained_network_may_have_the_form_of_other_options() -> None:
    """Its metadata is lost, and its BatchNormalization was folded, or kept, by whoever wrote it."""
    model = retrained(rep("plain", bn="keep", weights="binary"))
    del model.metadata_props[:]
    made = verify_pair(original("plain"), model, retrained=True)
    assert made.passed and any("--bn keep" in note for note in made.notes)


def test_what_is_stored_twice_may_be_stored_once_where_it_is_equal() -> None:
    model = rep("plain")
    assert np.array_equal(stored(model, "one/repeats"), stored(model, "two/repeats"))
    reads("two/Tile", 1, "one/repeats")(model)
    assert verify_pair(original("plain"), model).passed
    assert verify_pair(original("plain"), retrained(model), retrained=True).passed


# What the files are said to be.


def test_another_beta_contradicts_the_metadata_or_fails() -> None:
    model = rep("plain", beta=4)
    with pytest.raises(BadInput, match="--beta 2 contradicts .* beta 4"):
        verify_pair(original("plain"), model, 2)
    failed(verify_pair(original("plain"), model, 2, ignore_metadata=True), "layer", "law")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"scope": "layer"}, "--scope layer contradicts .* scope network"),
        ({"fc": "fold"}, "--fc fold contradicts"),
        ({"bn": "keep"}, "--bn keep contradicts"),
        ({"weights": "binary"}, "--weights binary contradicts"),
        ({"exclude": ["one"]}, "--exclude 'one' contradicts .* exclude nothing"),
        ({"rules": ["some.py"]}, "--rules 'some.py' contradicts"),
    ],
)
def test_flags_that_contradict_the_metadata_are_refused(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        verify_pair(original("plain"), rep("plain"), **flags)


def test_without_metadata_flags_and_defaults_count() -> None:
    model = rep("plain", scope="layer")
    del model.metadata_props[:]
    failed(verify_pair(original("plain"), model), "law")
    made = verify_pair(original("plain"), model, scope="layer")
    assert made.passed and any("does not record its beta" in note for note in made.notes)


@pytest.mark.parametrize(
    ("key", "value"), [("reptran.options", "{"), ("reptran.options", '{"fc": "drop"}'), ("reptran.beta", "two")]
)
def test_metadata_that_makes_no_sense_is_refused(key: str, value: str) -> None:
    model = rep("plain")
    next(entry for entry in model.metadata_props if entry.key == key).value = value
    with pytest.raises(BadInput, match="makes no sense"):
        verify_pair(original("plain"), model)
    assert verify_pair(original("plain"), model, ignore_metadata=True).passed


def test_rules_are_named_by_metadata_and_never_loaded_by_it() -> None:
    model = rep("plain")
    entry = next(entry for entry in model.metadata_props if entry.key == "reptran.options")
    entry.value = entry.value.replace('"rules":[]', '"rules":["mine.py"]')
    with pytest.raises(BadInput, match=r"--rules mine\.py"):
        verify_pair(original("plain"), model)


def test_options_that_narrow_the_check_are_told() -> None:
    made = verify_pair(original("joined"), rep("joined", exclude=("two",)))
    assert made.passed and any("taken from the metadata" in note and "'two'" in note for note in made.notes)


def test_files_in_the_wrong_order_are_refused() -> None:
    model = rep("plain")
    with pytest.raises(BadInput, match="Rep network itself"):
        verify_pair(model, original("plain"))
    del model.metadata_props[:]
    with pytest.raises(BadInput, match="already a Rep network"):
        verify_pair(model, original("plain"))


def test_an_original_is_no_rep_network_of_itself() -> None:
    failed(verify_pair(original("plain"), original("plain")), "layer", "law")


def test_an_original_that_cannot_be_compiled_is_refused() -> None:
    with pytest.raises(BadInput, match="cannot be compiled as asked.*--exclude 'nothing' names no layer"):
        verify_pair(original("plain"), rep("plain"), exclude=["nothing"], ignore_metadata=True)


def test_provenance_is_told() -> None:
    model = rep("plain")
    for key, value in (("reptran.source_sha256", "0" * 64), ("reptran.verified", "false")):
        next(entry for entry in model.metadata_props if entry.key == key).value = value
    notes = " ".join(verify_pair(original("plain"), model).notes)
    assert "another file" in notes and "not verified" in notes


def test_another_interface_ends_the_checks() -> None:
    model = rep("plain")
    node(model, "fc").output[0] = model.graph.output[0].name = "scores"
    made = verify_pair(original("plain"), model, budgets=["macs=+100%"])
    assert "scores" in failed(made, "file")
    assert [check.word for check in made.checks] == ["failed", "skipped", "skipped", "skipped"]


def test_a_parameter_that_can_be_fed_fails() -> None:
    """A graph input with a default: whoever runs the file could put other weights in their place."""
    model = rep("plain")
    name = of("one")
    model.graph.input.append(helper.make_tensor_value_info(name, 1, stored(model, name).shape))
    assert repr(name) in failed(verify_pair(original("plain"), model), "file")


def test_a_file_that_does_not_run_fails() -> None:
    model = rep("plain")
    model.graph.node.append(helper.make_node("NoSuchOperator", ["input"], ["more"]))
    assert "NoSuchOperator" in failed(verify_pair(original("plain"), model), "file")


# Budgets.


@pytest.mark.parametrize(
    "name", ["macs", "ops", "total-params", "conv-params", "bytes", "nodes", "peak-activation-bytes"]
)
def test_a_budget_is_exceeded_by_one_unit(name: str) -> None:
    pair = original("plain"), rep("plain")
    loose = verify_pair(*pair, budgets=[f"{name}<=1G"]).checks[-1]
    found = int(loose.detail.split()[0].replace(",", ""))
    assert verify_pair(*pair, budgets=[f"{name}<={found}"]).passed
    made = verify_pair(*pair, budgets=[f"{name}<={found - 1}"])
    assert made.exit_code == 1 and made.failures[0].endswith("exceeded by 1")


def test_what_theory_keeps_costs_nothing_more() -> None:
    """With the classifier folded, multiply-accumulates and weights are those of the original."""
    budgets = ["macs=0%", "ops=0%", "bops=0", "conv-params=0", "binary-params=0"]
    assert verify_pair(original("plain"), rep("plain", fc="fold"), budgets=budgets).passed
    made = verify_pair(original("plain"), rep("plain"), budgets=budgets)
    assert [check.name for check in made.failed] == ["macs=0%", "ops=0%"]


def test_a_wrong_network_within_its_budgets_is_wrong() -> None:
    model = rep("plain")
    negated(of("one"))(model)
    assert verify_pair(original("plain"), model, budgets=["macs=-1"]).exit_code == 3
