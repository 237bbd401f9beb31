"""Declared effects are executed: careless rules are refused, with the node, the numbers and a reproducer."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto
from workbench import bench, model_of, node, norm

from reptran_compiler.rewriting import Cost, Effect, Refused, Rule, preserves, reparametrises, rule

LARGE = {"var": np.array([1e-4, 2e-4, 0.5, 1.0])}


def rule_of(pattern: Any, rewrite: Any, *, effect: Effect | None = None, cost: Cost | None = None, **more: Any) -> Rule:
    """A rule of some functions, one that declares that it preserves where no effect is given."""
    body = type("Body", (), {"pattern": pattern, "rewrite": rewrite, **more})
    return rule("careless", effect=effect or preserves(), cost=cost)(body)


def refusal(model: ModelProto, careless: Rule) -> Refused:
    """How the engine refuses a rule; the graph stays as it was."""
    on_bench = bench(model)
    before = on_bench.bytes
    with pytest.raises(Refused) as refused:
        on_bench.apply(careless)
    assert on_bench.bytes == before
    return refused.value


def bn(p: Any, x: Any) -> Any:
    return p.BatchNormalization(x, *p.consts("gamma beta mean var"), name="bn")


def affine(m: Any, g: Any, epsilon: float, factor: float = 1.0) -> Any:
    """A BatchNormalization as Mul and Add."""
    scale = factor * m.gamma.values / np.sqrt(m.var.values + np.float32(epsilon))
    shift = m.beta.values - m.mean.values * scale
    product = g.node("Mul", [m.x, g.constant("scale", scale.reshape(1, -1, 1, 1))]).outputs[0]
    return g.node("Add", [product, g.constant("shift", shift.reshape(1, -1, 1, 1))], like=m.bn).outputs[0]


def normalised(**attributes: Any) -> ModelProto:
    """y = BN(x)."""
    return model_of(node("BatchNormalization", "x gamma beta mean var", "y", **attributes), **{**norm(), **LARGE})


def test_epsilon_forgotten() -> None:
    error = refusal(normalised(epsilon=1e-3), rule_of(bn, lambda m, g: affine(m, g, 0)))
    assert "rule 'careless' at node 'y' breaks its declaration (preserves)" in str(error)
    assert "it should give" in str(error)
    assert "values differ" in str(error)


def test_epsilon_taken_for_the_default() -> None:
    refusal(normalised(epsilon=1e-3), rule_of(bn, lambda m, g: affine(m, g, 1e-5)))


def test_the_right_rule_is_applied() -> None:
    right = rule_of(bn, lambda m, g: affine(m, g, m.bn.attrs.get("epsilon", 1e-5)))
    for attributes in ({"epsilon": 1e-3}, {}):
        on_bench = bench(normalised(**attributes))
        assert on_bench.apply(right) == 1
        assert on_bench.ops == ["Mul", "Add"]


def test_training_mode_ignored() -> None:
    """In training mode the statistics are those of the batch, and the node has further outputs."""
    training = model_of(
        node("BatchNormalization", "x gamma beta mean var", "y m v", training_mode=1), **{**norm(), **LARGE}
    )
    error = refusal(training, rule_of(bn, lambda m, g: affine(m, g, 1e-5)))
    assert "at node 'y' breaks its declaration" in str(error)


def test_a_wrong_constant() -> None:
    refusal(normalised(), rule_of(bn, lambda m, g: affine(m, g, 1e-5, factor=1.001)))


def mean_and_variance_swapped(m: Any, g: Any) -> Any:
    return g.node("BatchNormalization", [m.x, m.gamma, m.beta, m.var, m.mean], m.bn.attrs, like=m.bn).outputs[0]


def test_operands_in_the_wrong_places() -> None:
    refusal(normalised(), rule_of(bn, mean_and_variance_swapped))


CARELESS = {
    "operands of Sub swapped": (
        model_of(node("Neg", "x", "a"), node("Sub", "a x", "y")),
        lambda p: p.Sub(p.any("a"), p.any("b")),
        lambda m, g: g.node("Sub", [m.b, m.a]).outputs[0],
        "values differ",
    ),
    "a shape": (
        model_of(node("GlobalAveragePool", "x", "a"), node("Relu", "a", "y")),
        lambda p, x: p.GlobalAveragePool(x),
        lambda m, g: g.node("Flatten", [m.x]).outputs[0],
        r"float32\[2, 4, 1, 1\] became float32\[2, 36\]",
    ),
    "a type": (
        model_of(node("Relu", "x", "a"), node("Relu", "a", "y")),
        lambda p, x: p.Relu(x),
        lambda m, g: g.node("Cast", [m.x], {"to": 11}).outputs[0],
        r"float32\[2, 4, 3, 3\] became float64\[2, 4, 3, 3\]",
    ),
    "sign(0)": (
        model_of(node("Sign", "x", "y"), shape=("N", 4, 3, 3)),
        lambda p, x: p.Sign(x),
        lambda m, g: g.node(
            "Where",
            [
                g.node("GreaterOrEqual", [m.x, g.constant("zero", np.float32(0))]).outputs[0],
                g.constant("one", np.float32(1)),
                g.constant("minus", np.float32(-1)),
            ],
        ).outputs[0],
        "it should give 0 and gives 1",
    ),
    "a bound that random numbers do not reach": (
        model_of(node("Clip", "x lo hi", "y"), lo=np.float32(0), hi=np.float32(6)),
        lambda p, x: p.Clip(x, p.const("lo"), p.const("hi")),
        lambda m, g: g.node("Relu", [m.x]).outputs[0],
        "it should give 6 and gives 7.5",
    ),
    "a strict comparison": (
        model_of(node("Greater", "x at", "m"), node("Cast", "m", "y", to=1), at=np.float32(0.25)),
        lambda p, x: p.Greater(x, p.const("at")),
        lambda m, g: g.node("GreaterOrEqual", [m.x, m.at]).outputs[0],
        "it should give",
    ),
    "one of two outputs": (
        model_of(node("Split", "x", "a b", axis=1), node("Sub", "a b", "y")),
        lambda p, x: p.Split(x),
        lambda m, g: [g.node("Split", [m.x], {"axis": 1}, outputs=2).outputs[place] for place in (1, 0)],
        "values differ",
    ),
    "a group": (
        model_of(node("Conv", "x w", "y", group=2), w=np.random.default_rng(0).normal(size=(4, 2, 1, 1))),
        lambda p, x: p.Conv(x, p.const("w"), name="conv"),
        lambda m, g: g.node(
            "Conv", [m.x, g.constant("w", np.concatenate([m.w.values] * 2, axis=1))], like=m.conv
        ).outputs[0],
        "values differ",
    ),
}


@pytest.mark.parametrize("what", CARELESS)
def test_a_rule_that_overlooks(what: str) -> None:
    model, pattern, rewrite, words = CARELESS[what]
    with pytest.raises(Refused, match=words):
        bench(model).apply(rule_of(pattern, rewrite))
    refusal(model, rule_of(pattern, rewrite))


def test_only_a_second_batch_size_tells() -> None:
    """A constant that has the first run's batch in it."""

    def frozen(m: Any, g: Any) -> Any:
        return g.node("Reshape", [m.x, g.constant("shape", [m.facts.of(m.x).shape[0], 36])]).outputs[0]

    error = refusal(
        model_of(node("Flatten", "x", "a"), node("Relu", "a", "y")), rule_of(lambda p, x: p.Flatten(x), frozen)
    )
    assert "does not run" in str(error)


def test_a_refusal_has_a_reproducer() -> None:
    """Two models of the region, before and after: they run by themselves, and differ."""
    error = refusal(normalised(epsilon=1e-3), rule_of(bn, lambda m, g: affine(m, g, 0)))
    assert error.application is not None
    models = [error.application.before_region.model, error.application.after_region.model]
    sessions = [ort.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]) for each in models]
    image = np.random.default_rng(0).normal(size=(1, 4, 3, 3)).astype(np.float32)
    before, after = (each.run(None, {each.get_inputs()[0].name: image})[0] for each in sessions)
    assert before.shape == after.shape
    assert not np.allclose(before, after, rtol=1e-3)


def test_effects_are_executed_unless_the_engine_is_told_not_to() -> None:
    on_bench = bench(normalised(), check=False)
    assert on_bench.apply(rule_of(bn, lambda m, g: affine(m, g, 0))) == 1


def blocks(m: Any, g: Any, order: tuple[int, ...] = (0, 1)) -> Any:
    """Conv(x; W) summed over both halves of the input channels."""
    total = None
    for half in order:
        places = g.constant("half", [2 * half, 2 * half + 1])
        part = g.node("Gather", [m.x, places], {"axis": 1}).outputs[0]
        weight = g.constant("part", m.w.values[:, 2 * order.index(half) : 2 * order.index(half) + 2])
        term = g.node("Conv", [part, weight]).outputs[0]
        total = term if total is None else g.node("Add", [total, term]).outputs[0]
    return total


CONVOLVED = model_of(node("Conv", "x w", "y"), w=np.random.default_rng(0).normal(size=(3, 4, 1, 1)))


def conv(p: Any, x: Any) -> Any:
    return p.Conv(x, p.const("w"), name="conv", group=1)


def doubled(m: Any, g: Any) -> Any:
    return g.node("Conv", [m.x, g.constant("w", 2 * m.w.values)], like=m.conv).outputs[0]


def test_a_reparametrisation_is_held_against_its_witness() -> None:
    def twice(m: Any, g: Any) -> Any:
        old = g.node("Conv", [m.x, m.w]).outputs[0]
        return g.node("Add", [old, old]).outputs[0]

    once = {"check": lambda m: m.require(m.conv.source is None or m.w.name == "w", "is done")}
    agreed = rule_of(conv, doubled, effect=reparametrises(), witness=twice, **once)
    assert bench(CONVOLVED).apply(agreed) == 1
    error = refusal(CONVOLVED, rule_of(conv, doubled, effect=reparametrises(), witness=lambda m, g: blocks(m, g)))
    assert "rule 'careless' at node 'y' breaks its declaration (reparametrises)" in str(error)


def test_a_cost_that_does_not_hold() -> None:
    growing = rule_of(conv, blocks_with_spare_weights, cost=Cost(weights="=="))
    assert "rule 'careless' at node 'y' declares weights ==, but 12 became 24" in str(refusal(CONVOLVED, growing))
    growing = rule_of(conv, blocks_with_spare_weights, cost=Cost(weights=">=", macs="<="))
    assert "declares macs <=, but 216 became 432" in str(refusal(CONVOLVED, growing))


def blocks_with_spare_weights(m: Any, g: Any) -> Any:
    """Conv(x; W) as Conv([x | x]; [W | 0])."""
    weight = g.constant("w", np.concatenate([m.w.values, np.zeros_like(m.w.values)], axis=1))
    twice = g.node("Concat", [m.x, m.x], {"axis": 1}).outputs[0]
    return g.node("Conv", [twice, weight], like=m.conv).outputs[0]


def test_a_cost_that_holds() -> None:
    once = {"check": lambda m: m.require(m.w.name == "w", "is done")}
    same = rule_of(conv, lambda m, g: blocks(m, g), cost=Cost(weights="==", macs="=="), **once)
    assert bench(CONVOLVED).apply(same) == 1
