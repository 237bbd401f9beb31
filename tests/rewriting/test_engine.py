"""The engine: what it commits, what it takes back, and what it keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto
from workbench import Bench, bench, model_of, node, norm

from reptran_compiler.model import export_model
from reptran_compiler.rewriting import Refused, Rule, preserves, rule

K = np.arange(1.0, 5.0).reshape(1, 4, 1, 1)


def rule_of(pattern: Any, rewrite: Any, check: Any = None, name: str = "tried") -> Rule:
    """A rule that declares that it preserves."""
    parts = {"pattern": pattern, "rewrite": rewrite, **({"check": check} if check else {})}
    return rule(name, effect=preserves())(type("Body", (), parts))


def scaled() -> ModelProto:
    """y = BN(x * k), z = softmax(y)."""
    nodes = [
        node("Mul", "x k", "a"),
        node("BatchNormalization", "a gamma beta mean var", "y"),
        node("Softmax", "y", "z"),
    ]
    return model_of(*nodes, outputs=["y", "z"], k=K, **norm())


def bn_of_mul(p: Any, x: Any) -> Any:
    return p.BatchNormalization(p.Mul(x, p.const("k"), name="mul"), *p.consts("gamma beta mean var"), name="bn")


def half_done(m: Any, g: Any) -> Any:
    """Builds operators, and leaves them behind."""
    made = g.node("Mul", [m.x, g.constant("made", np.float32(2))], name="made")
    return g.node("Add", [made.outputs[0], m.k], like=m.bn)


def fails(m: Any, g: Any) -> Any:
    half_done(m, g)
    raise KeyError("epsilon")


def gives_up(m: Any, g: Any) -> Any:
    half_done(m, g)
    m.require(False, "cannot be done after all", m.mul)


def is_wrong(m: Any, g: Any) -> Any:
    return half_done(m, g).outputs[0]


def does_not_run(m: Any, g: Any) -> Any:
    return g.node("Reshape", [m.x, g.constant("shape", [7, 7])]).outputs[0]


def edits_an_attribute(m: Any, g: Any) -> Any:
    m.bn.attrs["epsilon"] = 0.5
    return m.x


def edits_an_operand(m: Any, g: Any) -> Any:
    m.bn.inputs[0] = m.x
    return m.bn.outputs[0]


def renames(m: Any, g: Any) -> Any:
    m.mul.name, m.x.name = "scale", "image"
    return g.node("Identity", [m.bn.outputs[0]]).outputs[0]


def edits_then_gives_up(m: Any, g: Any) -> Any:
    m.mul.attrs["axis"] = 1
    m.require(False, "no")


def edits_a_reader(m: Any, g: Any) -> Any:
    for reader in list(m.bn.outputs[0].outputs):
        reader.attrs["axis"] = 3
    return half_done(m, g).outputs[0]


def edits_values(m: Any, g: Any) -> Any:
    gamma = m.gamma.values
    gamma *= m.k.values.reshape(-1)
    return g.node("BatchNormalization", [m.x, *m.bn.inputs[1:]], m.bn.attrs, like=m.bn).outputs[0]


def stores_values(m: Any, g: Any) -> Any:
    m.gamma.values = m.gamma.values * 2
    return m.x


MISTAKES = {
    fails: "rule 'tried' at node 'y' failed: KeyError: 'epsilon'",
    is_wrong: "rule 'tried' at node 'y' breaks its declaration",
    does_not_run: "rule 'tried' at node 'y': what it wrote does not run",
    edits_an_attribute: "edits the operator 'y' in place",
    edits_an_operand: "edits the operator 'y' in place",
    renames: "renames the graph's input or output 'x'",
    edits_then_gives_up: "edits the operator 'a' in place",
    edits_a_reader: "edits the operator 'z' in place",
    edits_values: "read-only",
    stores_values: "no setter|can't set",
    lambda m, g: g.node("Relu", [m.x]): r"rewrite returns a Node, which is no tensor: return its .outputs\[0\]",
    lambda m, g: None: "rewrite returns a NoneType, which is no tensor",
    lambda m, g: [m.x, m.x]: "returns 2 tensors for 1 outputs",
    lambda m, g: []: "returns 0 tensors for 1 outputs",
}


@pytest.mark.parametrize("rewrite", MISTAKES, ids=lambda each: each.__name__)
def test_a_rule_that_fails_leaves_the_graph_as_it_was(rewrite: Any) -> None:
    on_bench = bench(scaled())
    before = on_bench.bytes
    with pytest.raises(Refused, match=MISTAKES[rewrite]):
        on_bench.apply(rule_of(bn_of_mul, rewrite))
    assert on_bench.bytes == before
    assert not on_bench.graph.beside
    assert on_bench.apply(FUSE) == 1, "the graph is usable still"


def test_a_rule_that_gives_up_leaves_the_graph_as_it_was() -> None:
    on_bench = bench(scaled())
    before = on_bench.bytes
    assert on_bench.apply(rule_of(bn_of_mul, gives_up)) == 0
    assert on_bench.bytes == before
    assert not on_bench.graph.beside
    missed = on_bench.engine.reports["tried"].missed["y"]
    assert (missed.part, missed.where, missed.reason) == ("check", "a", "cannot be done after all")


def test_a_check_that_fails_names_the_rule_and_the_node() -> None:
    def check(m: Any) -> None:
        m.require(m.weights.size == 1, "never asked")

    with pytest.raises(Refused, match="rule 'tried' at node 'y' failed: AttributeError: the pattern binds nothing"):
        bench(scaled()).apply(rule_of(bn_of_mul, is_wrong, check))


def fused_right(m: Any, g: Any) -> Any:
    k = m.k.values.reshape(-1)
    deviation = np.sqrt(m.var.values + m.bn.attrs.get("epsilon", 1e-5))
    scale = (m.gamma.values * k / deviation).astype(np.float32).reshape(1, -1, 1, 1)
    shift = (m.beta.values - m.gamma.values * m.mean.values / deviation).reshape(1, -1, 1, 1)
    product = g.node("Mul", [m.x, g.constant("scale", scale)]).outputs[0]
    return g.node("Add", [product, g.constant("shift", shift)], like=m.bn).outputs[0]


FUSE = rule_of(bn_of_mul, fused_right, name="fuse")


def test_what_takes_a_place_takes_its_name() -> None:
    on_bench = bench(scaled())
    assert on_bench.apply(FUSE) == 1
    assert on_bench.ops == ["Mul", "Add", "Softmax"]
    assert [each.name for each in on_bench.graph.outputs] == ["y", "z"]
    assert on_bench.graph.nodes[1].outputs[0].name == "y"
    assert on_bench.node("y").op == "Add", "like= hands the operator's name on"


def test_an_operator_hands_its_metadata_on() -> None:
    model = scaled()
    model.graph.node[1].doc_string = "first norm"
    model.graph.node[1].metadata_props.add(key="layer", value="1")
    on_bench = bench(model)
    on_bench.apply(FUSE)
    found = export_model(on_bench.graph).graph.node[1]
    assert (found.op_type, found.doc_string) == ("Add", "first norm")
    assert [(each.key, each.value) for each in found.metadata_props] == [("layer", "1")]


def test_a_graph_output_that_would_lose_its_name_stays() -> None:
    """y = Identity(x): without the Identity, the output would be the input."""
    drop = rule_of(lambda p, x: p.Identity(x), lambda m, g: m.x)
    on_bench = bench(model_of(node("Identity", "x", "y")))
    assert on_bench.apply(drop) == 0
    assert on_bench.engine.reports["tried"].missed["y"].reason == "is a graph output and would lose its name"
    inner = bench(model_of(node("Identity", "x", "a"), node("Relu", "a", "y")))
    assert inner.apply(drop) == 1
    assert inner.ops == ["Relu"]


def test_a_rule_that_changes_nothing_does_not_count_as_applied() -> None:
    on_bench = bench(scaled())
    before = on_bench.bytes
    assert on_bench.apply(rule_of(bn_of_mul, lambda m, g: m.bn.outputs[0])) == 0
    assert on_bench.bytes == before
    assert on_bench.engine.reports["tried"].missed["y"].reason == "changes nothing"


def test_a_root_with_several_outputs_is_replaced_as_a_whole() -> None:
    def gathered(m: Any, g: Any) -> Any:
        halves = [g.constant("half", [place, place + 1]) for place in (0, 2)]
        return [g.node("Gather", [m.x, half], {"axis": 1}, name="half").outputs[0] for half in halves]

    model = model_of(
        node("Split", "x", "a b", axis=1), node("Neg", "a", "y"), node("Abs", "b", "z"), outputs=["y", "z"]
    )
    on_bench = bench(model)
    assert on_bench.apply(rule_of(lambda p, x: p.Split(x), gathered)) == 1
    assert sorted(on_bench.ops) == ["Abs", "Gather", "Gather", "Neg"]
    assert on_bench.node("y").inputs[0].name == "a"
    assert on_bench.node("z").inputs[0].name == "b"


def test_an_output_that_is_read_cannot_be_dropped() -> None:
    def first_half(m: Any, g: Any) -> Any:
        return g.node("Gather", [m.x, g.constant("half", [0, 1])], {"axis": 1}).outputs[0]

    model = model_of(
        node("Split", "x", "a b", axis=1), node("Neg", "a", "y"), node("Abs", "b", "z"), outputs=["y", "z"]
    )
    with pytest.raises(Refused, match="rule 'tried' at node 'a' returns 1 tensors for 2 outputs"):
        bench(model).apply(rule_of(lambda p, x: p.Split(x), first_half))


def test_an_output_that_nobody_reads_may_be_dropped() -> None:
    def without_indices(m: Any, g: Any) -> Any:
        return g.node("MaxPool", [m.x], m.root.attrs, like=m.root).outputs[0]

    on_bench = bench(model_of(node("MaxPool", "x", "y indices", kernel_shape=[2, 2])))
    once = rule_of(lambda p, x: p.MaxPool(x), without_indices, lambda m: m.require(len(m.root.outputs) == 2, "is done"))
    assert on_bench.apply(once) == 1


def test_operators_that_nothing_reads_any_more_go() -> None:
    on_bench = bench(scaled())
    on_bench.apply(rule_of(bn_of_mul, fused_right))
    assert "a" not in {tensor.name for each in on_bench.graph.nodes for tensor in each.outputs}


def test_a_shared_constant_is_edited_for_one_reader_only() -> None:
    """Initializers that are shared by value: the other reader keeps what it had."""
    nodes = [node("Mul", "x k", "a"), node("BatchNormalization", "a gamma beta mean var", "b"), node("Mul", "b k", "y")]
    on_bench = bench(model_of(*nodes, k=K, **norm()))
    assert on_bench.apply(FUSE) == 1
    assert np.array_equal(on_bench.node("y").inputs[1].values, K)


def differences() -> Bench:
    """Two look-alikes: c = a - b, d = b - a."""
    return bench(
        model_of(
            node("Relu", "x", "a"), node("Neg", "x", "b"), node("Sub", "a b", "c"), node("Sub", "b a", "d"),
            node("Mul", "c d", "y"),
        )
    )  # fmt: skip


def test_executed_regions_hide_no_other_order_of_operands() -> None:
    """Right at the first of two look-alikes, wrong at the second: what was executed once is not what is there."""

    def by_name(m: Any, g: Any) -> Any:
        return g.node("Sub", sorted([m.a, m.b], key=lambda tensor: str(tensor.name)), like=m.root).outputs[0]

    once = rule_of(lambda p: p.Sub(p.any("a"), p.any("b")), by_name)
    with pytest.raises(Refused, match="at node 'd' breaks its declaration"):
        differences().apply(once)


@pytest.mark.parametrize("third", [3.0, 2.0])
def test_executed_regions_hide_no_other_constant(third: float) -> None:
    """Doubling by a rule that never looks at the factor: right twice, and wrong where the factor is 3."""

    def doubled(m: Any, g: Any) -> Any:
        return g.node("Add", [m.x, m.x], like=m.root).outputs[0]

    names = "x a b y".split()
    nodes = [node("Mul", f"{names[i]} k{i}", names[i + 1]) for i in range(3)]
    on_bench = bench(model_of(*nodes, k0=np.float32(2), k1=np.float32(2), k2=np.float32(third)))
    careless = rule_of(lambda p, x: p.Mul(x, p.const("k")), doubled)
    if third == 2:
        assert on_bench.apply(careless) == 3
    else:
        with pytest.raises(Refused, match="at node 'y' breaks its declaration"):
            on_bench.apply(careless)


@pytest.mark.parametrize("times", [1, 2])
def test_a_rule_that_matches_what_it_wrote_is_refused(times: int) -> None:
    """One more operator in each round, or twice as many."""

    def more(m: Any, g: Any) -> Any:
        inner = m.x if times == 2 else m.root.outputs[0]
        for _ in range(times):
            inner = g.node("Relu", [inner]).outputs[0]
        return inner

    with pytest.raises(Refused, match="rule 'tried' grew the graph from 2 to .* let its check turn down what is done"):
        bench(chain_of_two()).apply(rule_of(lambda p, x: p.Relu(x), more))


def chain_of_two() -> ModelProto:
    """y = -relu(x)."""
    return model_of(node("Relu", "x", "a"), node("Neg", "a", "y"))


def test_a_rule_that_undoes_itself_is_refused() -> None:
    turn = rule_of(lambda p: p.Add(p.any("a"), p.any("b")), lambda m, g: g.node("Add", [m.b, m.a]).outputs[0])
    on_bench = bench(model_of(node("Relu", "x", "a"), node("Add", "a x", "y")))
    with pytest.raises(Refused, match="rule 'tried' rewrites for ever: after 8 times the graph is what it was after 4"):
        on_bench.apply(turn)
