"""Rules of the phase `replicate` from elsewhere: carriers in one line, and what they may not claim."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import ModelProto, helper
from workbench import node

from reptran_compiler.compiler import compile_model
from reptran_compiler.pipeline import Options, Refusal, Transformation, transform

IMPORTS = "from reptran_compiler.replication import pointwise, replicates, spatial, Wide\n"
IMPORTS += "from reptran_compiler.rewriting import Cost, Tagged, reparametrises, rule\n"
ONE_LINE = IMPORTS + "own = pointwise('com.example.Own')\n"


def network(body: str = "Tanh", **attributes: int) -> ModelProto:
    """stem -> com.example.Own (a local function) -> Sign -> binary layer -> pooling -> classifier."""
    import numpy as np
    from onnx import numpy_helper

    draw = np.random.default_rng(0)
    stored = {
        "stem.w": draw.normal(size=(8, 3, 3, 3)),
        "w": np.sign(draw.normal(size=(8, 8, 3, 3))),
        "fc.w": draw.normal(size=(5, 8)),
    }
    function = helper.make_function(
        "com.example", "Own", ["i"], ["o"], [node(body, "i", "o", **attributes)], [helper.make_opsetid("", 17)]
    )
    nodes = [
        node("Conv", "x stem.w", "stem", pads=[1] * 4),
        node("Own", "stem", "own", domain="com.example"),
        node("Sign", "own", "sign"),
        node("Conv", "sign w", "layer", pads=[1] * 4),
        node("GlobalAveragePool", "layer", "pool"),
        node("Flatten", "pool", "flat"),
        node("Gemm", "flat fc.w", "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", 1, ["N", 3, 6, 6])],
        [helper.make_tensor_value_info("fc", 1, ["N", 5])],
        [numpy_helper.from_array(value.astype("float32"), name) for name, value in stored.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=8)


def transformed(model: ModelProto, rules: str, folder: Path) -> Transformation:
    """The model, transformed with a file of rules."""
    file = folder / "rules.py"
    file.write_text(rules)
    return transform(model, Options(rules=(str(file),)))


def test_an_operator_without_a_rule_is_a_boundary() -> None:
    found = transform(network(), Options())
    assert dict(found.boundaries).keys() == {"own"}
    assert "com.example.Own" in dict(found.boundaries)["own"]


def test_one_line_carries_an_operator(tmp_path: Path) -> None:
    found = transformed(network(), ONE_LINE, tmp_path)
    assert found.boundaries == ()
    assert found.per_copy == frozenset({"com.example.Own"})


def test_what_one_line_carries_is_verified(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(ONE_LINE)
    result = compile_model(network(), rules=[str(tmp_path / "rules.py")])
    assert result.verified
    assert "own" not in {row.name for row in result.summary.layers if row.reason}


@pytest.mark.parametrize(("body", "attributes"), [("Softmax", {"axis": 1}), ("LpNormalization", {"axis": 1})])
def test_an_operator_that_mixes_channels_is_not_pointwise(
    body: str, attributes: dict[str, int], tmp_path: Path
) -> None:
    """Said to act on each element alone; run on copies that differ, it does not."""
    with pytest.raises(Refusal) as refused:
        transformed(network(body, **attributes), ONE_LINE, tmp_path)
    said = str(refused.value)
    assert "rule 'carry-com-example-own' at node 'own' breaks its declaration (replicates)" in said
    assert "it should give" in said
    assert {"refused-before", "refused-after"} <= set(refused.value.reproducer)


WITNESS = (
    IMPORTS
    + """
@rule("own", effect=reparametrises(), phase="replicate", order=40)
class Own:
    def pattern(p, x):
        return p.op("com.example.Own", x)
    def check(m):
        m.require(m.context.wide(m.x) is not None, "is not wide")
    def rewrite(m, g):
        return Tagged(g.node({built!r}, [m.x], like=m.root).outputs[0], m.context.wide(m.x))
    def witness(m, g):
        return g.node("Tanh", [m.x]).outputs[0]
"""
)


def test_a_witness_that_agrees(tmp_path: Path) -> None:
    found = transformed(network(), WITNESS.format(built="Tanh"), tmp_path)
    assert found.boundaries == ()


def test_a_witness_that_disagrees(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="rule 'own' at node 'own' breaks its declaration"):
        transformed(network(), WITNESS.format(built="Softsign"), tmp_path)


FALSE_STATE = (
    IMPORTS
    + """
@rule("own", effect=replicates(), phase="replicate", order=40)
class Own:
    def pattern(p, x):
        return p.op("com.example.Own", x)
    def check(m):
        m.require(m.context.wide(m.x) is not None, "is not wide")
    def rewrite(m, g):
        return Tagged(m.root.outputs[0], {tag})
"""
)


@pytest.mark.parametrize("tag", ["Wide(2, 6)", "Wide(1, 4)", "None", "Wide(1, 8, outer=2)"])
def test_a_false_claim_of_where_copies_lie(tag: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="rule 'own' at node 'own'"):
        transformed(network(), FALSE_STATE.format(tag=tag), tmp_path)


def test_a_true_claim_of_where_copies_lie(tmp_path: Path) -> None:
    assert transformed(network(), FALSE_STATE.format(tag="m.context.wide(m.x)"), tmp_path).boundaries == ()


def test_a_cost_is_counted_on_the_narrow_region_and_the_wide_one(tmp_path: Path) -> None:
    """A layer of one's own that keeps all rows, beta times as wide: more weights than it declares."""
    text = (
        IMPORTS
        + """
import numpy as np
@rule("greedy", effect=replicates(), cost=Cost(weights="=="), phase="replicate", order=5)
class Greedy:
    def pattern(p, x):
        return p.Conv(x, p.const("w"), name="conv")
    def check(m):
        m.require(m.context.wide(m.x) is not None, "is not wide")
    def rewrite(m, g):
        wide = g.constant("w", np.concatenate([m.w.values] * m.context.beta, axis=0))
        made = g.node("Conv", [m.x, wide], {**m.conv.attrs, "group": m.context.beta}, like=m.conv).outputs[0]
        return Tagged(made, Wide(1, m.w.values.shape[0], equal=False))
"""
    )
    with pytest.raises(Refusal, match="rule 'greedy' at node 'layer' declares weights ==, but 576 became 1152"):
        transformed(network(), text, tmp_path)
