"""Patterns: what they match, and what they say where they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto
from workbench import bench, model_of, node

from reptran_compiler.rewriting import Match, Mismatch

K = np.arange(1.0, 5.0).reshape(1, 4, 1, 1)
W = np.ones((4, 2, 1, 1))


def scaled(p: Any, x: Any) -> Any:
    return p.Relu(p.Mul(x, p.const("k")))


@pytest.mark.parametrize("operands", ["x k", "k x"])
def test_commutative_operands_match_in_either_order(operands: str) -> None:
    found = bench(model_of(node("Mul", operands, "a"), node("Relu", "a", "y"), k=K)).match(scaled, "y")
    assert isinstance(found, Match)
    assert (found.x.name, found.k.name) == ("x", "k")
    assert [each.name for each in found.nodes] == ["y", "a"]


def test_operands_of_sub_have_an_order() -> None:
    found = bench(model_of(node("Sub", "k x", "y"), k=K)).match(lambda p, x: p.Sub(x, p.const("k")), "y")
    assert found == Mismatch("k", "x", "is not a constant")


def layer(p: Any, x: Any) -> Any:
    return p.Conv(x, p.const("w"), p.const("b", optional=True), name="conv")


def test_an_optional_trailing_operand_may_be_absent() -> None:
    bare = model_of(node("Conv", "x w", "y", group=2), w=W)
    found = bench(bare).match(layer, "y")
    assert isinstance(found, Match)
    assert found.get("b") is None
    biased = model_of(node("Conv", "x w b", "y", group=2), w=W, b=np.ones(4))
    found = bench(biased).match(layer, "y")
    assert isinstance(found, Match)
    assert found.b.name == "b"


def test_an_operand_that_is_needed_and_absent_is_named() -> None:
    found = bench(model_of(node("Conv", "x w", "y", group=2), w=W)).match(
        lambda p, x: p.Conv(x, p.const("w"), p.const("b")), "y"
    )
    assert found == Mismatch("b", "", "is absent")


def test_a_left_out_operand_in_the_middle_is_absent() -> None:
    """ONNX writes it as an empty name: Clip without a lower bound."""
    clip = model_of(node("Clip", "x - hi", "y"), hi=np.float32(1))
    found = bench(clip).match(lambda p, x: p.Clip(x, p.const("lo", optional=True), p.const("hi")), "y")
    assert isinstance(found, Match)
    assert found.get("lo") is None
    assert found.hi.name == "hi"


def test_more_operands_than_the_pattern_has_do_not_match() -> None:
    found = bench(model_of(node("Conv", "x w b", "y", group=2), w=W, b=np.ones(4))).match(
        lambda p, x: p.Conv(x, p.const("w"), name="conv"), "y"
    )
    assert found == Mismatch("conv", "y", "has 3 inputs, not 2")


def binarisation(p: Any, x: Any) -> Any:
    return p.either(p.Sign(x), p.Relu(p.either(p.Neg(x), p.Abs(x))))


@pytest.mark.parametrize(("ops", "matches"), [(["Sign"], True), (["Neg", "Relu"], True), (["Abs", "Relu"], True)])
def test_alternatives(ops: list[str], matches: bool) -> None:
    found = bench(chain(*ops)).match(binarisation, f"t{len(ops)}")
    assert isinstance(found, Match) is matches
    assert found.x.name == "x"


def test_no_alternative_fits() -> None:
    found = bench(chain("Tanh", "Relu")).match(binarisation, "t2")
    assert found == Mismatch("Neg", "t1", "is a Tanh")


def chain(*ops: str) -> ModelProto:
    """Operators of one operand behind each other, t1, t2 ..."""
    names = ["x", *(f"t{number}" for number in range(1, len(ops) + 1))]
    nodes = [node(op, names[place], names[place + 1]) for place, op in enumerate(ops)]
    return model_of(*nodes, outputs=names[-1:])


def test_a_constant_is_a_stored_tensor() -> None:
    computed = model_of(node("Neg", "x", "k"), node("Mul", "x k", "a"), node("Relu", "a", "y"))
    found = bench(computed).match(scaled, "y")
    assert isinstance(found, Mismatch)
    assert found.reason == "is not a constant"


def test_a_test_of_an_operand() -> None:
    def doubled(p: Any, x: Any) -> Any:
        return p.Mul(x, p.const("two", test=lambda tensor: (tensor.values == 2).all()))

    assert isinstance(bench(model_of(node("Mul", "x k", "y"), k=np.float32(2))).match(doubled, "y"), Match)
    found = bench(model_of(node("Mul", "x k", "y"), k=np.float32(3))).match(doubled, "y")
    assert isinstance(found, Mismatch)


@pytest.mark.parametrize(("group", "matches"), [({"group": 2}, True), ({"group": 1}, False), ({}, False)])
def test_an_attribute_has_a_value(group: dict[str, int], matches: bool) -> None:
    w = W if group.get("group") == 2 else np.ones((4, 4, 1, 1))
    found = bench(model_of(node("Conv", "x w", "y", **group), w=w)).match(
        lambda p, x: p.Conv(x, p.const("w"), name="conv", group=2), "y"
    )
    assert isinstance(found, Match) is matches
    if isinstance(found, Mismatch):
        assert found == Mismatch("conv", "y", "its group is 1")


@pytest.mark.parametrize("attributes", [{}, {"group": 1}])
def test_an_attribute_that_is_absent_has_its_default(attributes: dict[str, int]) -> None:
    """Exporters leave `group=1` out, or write it: a pattern need not care."""
    plain = model_of(node("Conv", "x w", "y", **attributes), w=np.ones((4, 4, 1, 1)))
    assert isinstance(bench(plain).match(lambda p, x: p.Conv(x, p.const("w"), group=1), "y"), Match)
    found = bench(plain).match(lambda p, x: p.Conv(x, p.const("w"), pads=lambda pads: pads is None), "y")
    assert isinstance(found, Match), "an attribute without a default is None"


def test_an_attribute_passes_a_test() -> None:
    turned = model_of(node("Transpose", "x", "y", perm=[0, 2, 1, 3]))
    assert isinstance(bench(turned).match(lambda p, x: p.Transpose(x, perm=[0, 2, 1, 3]), "y"), Match)
    assert isinstance(bench(turned).match(lambda p, x: p.Transpose(x, perm=lambda perm: perm[1] == 2), "y"), Match)
    found = bench(turned).match(lambda p, x: p.Transpose(x, name="turn", perm=lambda perm: perm[1] == 3), "y")
    assert found == Mismatch("turn", "y", "its perm is [0, 2, 1, 3]")


def residue(p: Any, x: Any) -> Any:
    return p.Add(p.Sub(p.any("b"), x), x)


@pytest.mark.parametrize(("last", "matches"), [("x", True), ("z", False)])
def test_an_operand_met_twice_is_the_same_tensor(last: str, matches: bool) -> None:
    """By identity: `z` is as good as equal to `x`, and is another tensor."""
    model = model_of(
        node("Identity", "x", "z"), node("Sign", "x", "s"), node("Sub", "s x", "d"), node("Add", f"d {last}", "y")
    )
    found = bench(model).match(residue, "y")
    assert isinstance(found, Match) is matches


def test_equal_constants_are_not_the_same_operand() -> None:
    model = model_of(node("Mul", "x k", "a"), node("Mul", "a l", "y"), k=K, l=K)
    found = bench(model).match(lambda p, x: p.Mul(p.Mul(x, p.const("k")), p.const("k")), "y")
    assert isinstance(found, Mismatch)
    assert found.reason == "is not the tensor met before under this name"


def test_a_pattern_may_read_its_own_middle_twice() -> None:
    """Hard swish, x * (y = ...): the fan-out stays inside of the match."""

    def squared(p: Any, x: Any) -> Any:
        inner = p.Relu(x, name="inner")
        return p.Mul(inner, inner)

    model = model_of(node("Relu", "x", "r"), node("Mul", "r r", "y"))
    found = bench(model).match(squared, "y")
    assert isinstance(found, Match)
    assert found.inner.name == "r"
    two = model_of(node("Relu", "x", "r"), node("Relu", "x", "q"), node("Mul", "r q", "y"))
    other = bench(two).match(squared, "y")
    assert isinstance(other, Mismatch)
    assert other.reason == "is not the operator met before under this name"


@pytest.mark.parametrize(
    ("behind", "outputs"),
    [([node("Neg", "a", "z")], ["y", "z"]), ([], ["y", "a"])],
    ids=["another reader", "a graph output"],
)
def test_a_middle_that_is_read_outside_does_not_match(behind: list[Any], outputs: list[str]) -> None:
    """Nobody's rule has to think of it: the engine turns the match down."""
    model = model_of(node("Mul", "x k", "a"), node("Relu", "a", "y"), *behind, outputs=outputs, k=K)
    assert bench(model).match(scaled, "y") == Mismatch("expression", "a", "is also read outside the match")


def test_the_ends_of_a_match_may_be_read_outside() -> None:
    model = model_of(
        node("Mul", "x k", "a"), node("Relu", "a", "y"), node("Add", "x k", "z"), node("Neg", "y", "u"),
        outputs=["y", "z", "u"], k=K,
    )  # fmt: skip
    assert isinstance(bench(model).match(scaled, "y"), Match)


def test_any_operator_and_free_operands() -> None:
    model = model_of(node("Split", "x", "a b", axis=1), node("Concat", "b a x", "y", axis=1))
    for name in ("a", "y"):
        assert isinstance(bench(model).match(lambda p: p.op("*"), name), Match)
    assert isinstance(bench(model).match(lambda p: p.op("Add Concat", name="join"), "y"), Match)
    assert bench(model).match(lambda p: p.op("Add Mul"), "y") == Mismatch("Add/Mul", "y", "is a Concat")


def test_operators_of_other_domains_have_their_domain_in_front() -> None:
    from onnx import helper

    double = helper.make_function(
        "com.example", "Relu", ["i"], ["o"], [node("Add", "i i", "o")], [helper.make_opsetid("", 17)]
    )
    custom = node("Relu", "x", "y", domain="com.example")
    on_bench = bench(model_of(custom, functions=[double], domains=["com.example"]))
    assert isinstance(on_bench.match(lambda p, x: p.op("com.example.Relu", x), "y"), Match)
    assert on_bench.match(lambda p, x: p.Relu(x), "y") == Mismatch("Relu", "y", "is a com.example.Relu")


def test_an_operator_inside_stands_for_its_first_output() -> None:
    model = model_of(node("Split", "x", "a b", axis=1), node("Relu", "b", "y"))
    found = bench(model).match(lambda p, x: p.Relu(p.Split(x)), "y")
    assert found == Mismatch("Split", "b", "is not the first output of 'a'")


def test_a_name_that_the_pattern_does_not_bind_is_an_error() -> None:
    found = bench(model_of(node("Relu", "x", "y"))).match(lambda p, x: p.Relu(x), "y")
    assert isinstance(found, Match)
    assert found.get("weight") is None
    with pytest.raises(AttributeError, match="binds nothing to the name 'weight'"):
        _ = found.weight


def test_the_attempt_that_came_furthest_is_explained() -> None:
    """Not the last one tried: the other order of a commutative operator, another alternative."""
    model = model_of(node("Sign", "x", "s"), node("Neg", "s", "n"), node("Mul", "n k", "y"), k=np.float32(2))
    found = bench(model).match(lambda p, x: p.Mul(p.Neg(p.Abs(x)), p.const("k")), "y")
    assert found == Mismatch("Abs", "s", "is a Sign")


def test_a_mismatch_says_part_place_and_reason() -> None:
    model = model_of(node("Tanh", "x", "a"), node("Relu", "a", "y"))
    found = bench(model).match(scaled, "y")
    assert isinstance(found, Mismatch)
    assert (found.part, found.where, found.reason) == ("Mul", "a", "is a Tanh")
    assert str(found) == "Mul at a: is a Tanh"
