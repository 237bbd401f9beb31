"""What sweeps over generated networks found, each as the smallest network that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper
from small_networks import SIGN, if_node, loop_node, network
from tiny_networks import Net

from reptran_compiler import compile_model
from reptran_compiler.compiler import NothingToDo, Refusal, VerificationFailed
from reptran_compiler.pipeline import Options, transform
from reptran_compiler.runtime import Comparison, compare, random_feeds, tensor_facts
from reptran_compiler.verification import SpecOptions, check_law
from reptran_compiler.verification.cutpoints import data_tensors, find_cuts
from reptran_compiler.verification.protograph import ProtoGraph

DRAW = np.random.default_rng(5)
SIGNS = np.sign(DRAW.normal(size=(8, 8)))
FLAG = helper.make_tensor_value_info("flag", 9, [])


def node(op: str, reads: Sequence[str], *makes: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, list(reads), list(makes), name=makes[0], **attributes)


def find_cuts_of(model: ModelProto) -> list[str]:
    """The tensors behind the judge's cuts."""
    graph = ProtoGraph(model)
    facts = tensor_facts(model, random_feeds(model, batch=2))
    return [cut.output for cut in find_cuts(graph, facts, data_tensors(graph))]


def layers(model: ModelProto) -> list[str]:
    """The layers that became RepConvs; the result is verified."""
    result = compile_model(model, 2)
    assert result.verified
    return [layer.name for layer in result.summary.layers if layer.role == "repconv"]


def test_a_shape_is_computed_behind_an_operator_whose_shape_is_not_followed() -> None:
    behind = [
        node("Einsum", ["y", "y"], "e", equation="nchw,ndhw->nchw"),
        node("Flatten", ["e"], "vector"),
        node("Shape", ["e"], "n"),
        node("Reshape", ["vector", "n"], "t"),
    ]
    assert layers(network(SIGN, behind=behind)) == ["layer"]


def test_a_residue_is_a_sign_where_the_shape_is_not_followed() -> None:
    between = [
        node("Einsum", ["a", "a"], "e", equation="nchw,ndhw->nchw"),
        node("Sign", ["e"], "b"),
        node("Tanh", ["e"], "p"),
        node("Sub", ["b", "p"], "d"),
        node("Add", ["d", "p"], "s"),
    ]
    assert layers(network(*between)) == ["layer"]


def test_the_spelling_of_keras_is_a_binarisation() -> None:
    between = [
        node("GreaterOrEqual", ["a", "zero"], "up"),
        node("Not", ["up"], "down"),
        node("Cast", ["down"], "low", to=1),
        node("Mul", ["low", "minus"], "minus low"),
        node("Cast", ["up"], "high", to=1),
        node("Mul", ["high", "one"], "one high"),
        node("Add", ["one high", "minus low"], "b"),
        node("Tanh", ["a"], "p"),
        node("Sub", ["b", "p"], "d"),
        node("Add", ["p", "d"], "s"),
    ]
    model = network(*between, zero=np.array(0.0), one=np.array(1.0), minus=np.array(-1.0))
    assert layers(model) == ["layer"]
    (plan,) = [each for each in transform(model, Options()).layers if each.name == "layer"]
    assert plan.binary


@pytest.mark.parametrize("opset", [9, 10])
@pytest.mark.parametrize("scope", ["network", "layer"])
def test_a_hidden_gemm_keeps_a_bias_where_the_opset_asks_for_one(opset: int, scope: str) -> None:
    model = network(SIGN, opset=opset, hw=SIGNS, hb=DRAW.normal(size=8), ob=DRAW.normal(size=5))
    del model.graph.node[-1:]
    model.graph.node.extend(
        [
            node("Sign", ["f"], "fs"),
            node("Gemm", ["fs", "hw", "hb"], "hidden"),
            node("Relu", ["hidden"], "hr"),
            node("Gemm", ["hr", "fc.w", "ob"], "o", transB=1),
        ]
    )
    result = compile_model(model, 2, scope=scope)
    assert result.verified
    assert [plan.role for plan in result.transformation.layers if plan.name == "hidden"] == ["repconv"]


@pytest.mark.parametrize("beta", [2, 4])
@pytest.mark.parametrize("scope", ["network", "layer"])
def test_a_result_that_says_nothing_of_itself_is_a_rep_network(beta: int, scope: str) -> None:
    """Though its layers' filters are no longer divisible, and though its binary layer has real weights."""
    for weights in (SIGNS, DRAW.normal(size=(8, 8))):
        result = compile_model(network(w=weights.reshape(8, 8, 1, 1)), beta, scope=scope).model
        del result.metadata_props[:]
        with pytest.raises(NothingToDo, match="already a Rep network"):
            compile_model(result, 8)


def test_what_a_body_reads_counts_for_the_layer_in_front() -> None:
    behind = [if_node("y", "t")]
    with pytest.raises(Refusal, match="a subgraph of If 'choice' reads 'y', which would be wide"):
        compile_model(network(SIGN, behind=behind, inputs=[FLAG], two=np.array(2.0)), 2)


def test_what_stands_behind_a_body_is_told_to_be_narrow_for_it() -> None:
    """Drop-in layers are those that the whole network would have: behind an If that reads a map nobody can tell."""
    behind = [if_node("y", "t"), helper.make_node("Conv", ["t", "w"], ["u"], name="second")]
    model = network(SIGN, behind=behind, inputs=[FLAG], two=np.array(2.0))
    found = next(node for node in model.graph.node if node.name == "pool")
    found.input[0] = "u"
    with pytest.raises(Refusal, match="a subgraph of If 'choice' reads 'y', which would be wide"):
        compile_model(model, 2, scope="layer")
    assert compile_model(network(SIGN, behind=behind[:1], inputs=[FLAG], two=np.array(2.0)), 2, scope="layer").verified


def test_the_body_of_a_loop_reads_a_stored_tensor() -> None:
    loop = loop_node("y", "t")
    loop.attribute[0].g.node[1].input[1] = "half"
    model = network(SIGN, behind=[loop], trips=np.array(2), half=np.array(0.5))
    assert layers(model) == ["layer"]


def test_stored_signs_are_shared_as_the_latent_weights_are() -> None:
    between = [
        node("Sign", ["latent"], "w1"),
        node("Sign", ["a"], "s1"),
        node("Conv", ["s1", "w1"], "c1", pads=[1] * 4),
        node("Sign", ["latent"], "w2"),
        node("Sign", ["c1"], "s2"),
        node("Conv", ["s2", "w2"], "c2", pads=[1] * 4),
        node("Sign", ["c2"], "s"),
    ]
    model = network(*between, latent=DRAW.normal(size=(8, 8, 3, 3)))
    result = compile_model(model, 2, weights="binary", scope="layer").model
    read = {each.name: each.input[1] for each in result.graph.node if each.op_type == "Conv"}
    assert read["c1"] == read["c2"]


def test_the_mean_of_rounded_copies_is_compared() -> None:
    """A boundary behind a rounding reads the mean of the copies as they were rounded."""
    behind = [node("Concat", ["y", "a"], "j", axis=1), node("Round", ["j"], "r"), node("Softmax", ["r"], "t", axis=1)]
    made = transform(network(behind=behind, **{"fc.w": DRAW.normal(size=(5, 16))}), Options())
    options = SpecOptions(2)
    assert check_law(made.canonical, made.result, options).ok
    (mean,) = [each for each in made.result.graph.node if each.output[0] == "r/mean"]
    mean.op_type = "Max"
    assert check_law(made.canonical, made.result, options).failures[0].tensor == "r/mean"


def test_a_shuffle_behind_a_turned_map_is_one() -> None:
    """Reshape, Transpose, Reshape twice over: the last Reshape of the first three is the first one of a shuffle."""
    between = [
        node("Reshape", ["a", "lines"], "l"),
        node("Reshape", ["l", "map"], "m"),
        node("Transpose", ["m"], "turned", perm=[0, 1, 3, 2]),
        node("Reshape", ["turned", "cut"], "c"),
        node("Transpose", ["c"], "swapped", perm=[0, 2, 1, 3, 4]),
        node("Reshape", ["swapped", "map"], "b"),
        node("Sign", ["b"], "s"),
    ]
    shapes = {"lines": [0, 8, 36], "map": [0, 8, 6, 6], "cut": [0, 2, 4, 6, 6]}
    assert layers(network(*between, **{name: np.array(shape) for name, shape in shapes.items()})) == ["layer"]


def test_affines_along_channels_merge_where_copies_lie_along_space() -> None:
    behind = [
        node("MatMul", ["y", "space"], "mixed"),
        node("BatchNormalization", ["mixed", "scale", "shift", "mean", "variance"], "normal"),
        node("Add", ["normal", "bias"], "t"),
    ]
    stored = {name: DRAW.uniform(0.5, 1.5, 8) for name in ("scale", "shift", "mean", "variance")}
    space, bias = DRAW.normal(size=(6, 5)), DRAW.normal(size=(8, 1, 1))
    result = compile_model(network(SIGN, behind=behind, space=space, bias=bias, **stored), 2)
    assert result.verified
    assert {layer.name: layer.role for layer in result.summary.layers}["mixed"] == "boundary"
    assert "normal" not in {name for made in result.model.graph.node for name in made.output}, "it became a Mul"


def test_rounding_to_half_precision_is_no_mistake() -> None:
    """A number near the middle of two float16 numbers may become either: what is behind the Cast is fed."""
    there, back = node("Cast", ["a"], "half", to=10), node("Cast", ["half"], "full", to=1)
    assert find_cuts_of(network(there, back, node("Sign", ["full"], "s"))) == ["half", "s"]


def test_scales_along_channels_serve_copies_along_space() -> None:
    behind = [
        node("MatMul", ["y", "space"], "mixed"),
        node("QuantizeLinear", ["mixed", "steps", "zeros"], "q", axis=1),
        node("DequantizeLinear", ["q", "steps", "zeros"], "t", axis=1),
    ]
    steps, zeros = DRAW.uniform(0.05, 0.2, 8).astype(np.float32), np.full(8, 128, np.uint8)
    result = compile_model(network(SIGN, behind=behind, space=DRAW.normal(size=(6, 5)), steps=steps, zeros=zeros), 2)
    assert result.verified
    assert not [note for note in result.summary.notes if note.startswith("q:")], "QuantizeLinear is no boundary"


@pytest.mark.parametrize("last", ["norm", "bias", "computed bias"])
def test_affines_of_interleaved_copies_are_carried(last: str) -> None:
    """A Flatten of (space, channels) lays the copies of each place side by side."""
    lasts = {
        "norm": [node("BatchNormalization", ["v", "scale", "shift", "mean", "variance"], "u")],
        "bias": [node("Add", ["v", "shift"], "u")],
        "computed bias": [node("Exp", ["narrow"], "b"), node("Add", ["v", "b"], "u")],
    }
    behind = [
        node("Transpose", ["y"], "last", perm=[0, 2, 3, 1]),
        node("Flatten", ["last"], "v"),
        node("Flatten", ["x"], "pixels"),
        node("Concat", ["pixels"] * 3, "all", axis=1),
        node("Slice", ["all", "from", "to", "from"], "narrow"),
        *lasts[last],
        node("Reshape", ["u", "column"], "t"),
    ]
    stored = {name: DRAW.uniform(0.5, 1.5, 288) for name in ("scale", "shift", "mean", "variance")}
    stored |= {
        "column": np.array([0, 288, 1, 1]),
        "from": np.array([1]),
        "to": np.array([289]),
        "fc.w": DRAW.normal(size=(5, 288)),
    }
    model = network(SIGN, behind=behind, **stored)
    result = compile_model(model, 2)
    assert result.verified
    assert not [note for note in result.summary.notes if note.startswith("u:")], "it is no boundary"


def sorted_rows(read: str = "") -> ModelProto:
    """Rows of the layer's map are sorted; its weights are 0.1 and -0.1, so that many sums are equal but for rounding.

    Args:
        read: whether what comes behind reads the sorted numbers alone, or their "places" as well.
    """
    behind = [helper.make_node("TopK", ["y", "six"], ["rows", "places"], name="sort", axis=3)]
    behind.append(helper.make_node("Cast", ["places"], ["real"], name="cast", to=1))
    behind.append(helper.make_node("Add", ["rows", "real" if read else "rows"], ["t"], name="add"))
    weights = np.random.default_rng(0).choice([0.1, -0.1], (8, 8, 3, 3))
    return network(SIGN, behind=behind if read else [behind[0], behind[2]], w=weights, six=np.array([6]))


@pytest.mark.parametrize("read", ["", "places"])
def test_places_of_what_is_sorted_are_choices(read: str) -> None:
    """They jump where two numbers change places: they are fed behind, as the place of the largest is; the numbers
    themselves are compared, and so is how they are sorted."""
    assert compile_model(sorted_rows(read), 2).verified
    made = transform(sorted_rows(read), Options())
    spec = SpecOptions(beta=2)
    assert check_law(made.canonical, made.result, spec).ok
    for wrong in ("largest", "axis"):
        broken = ModelProto.FromString(made.result.SerializeToString())
        (sort,) = (node for node in broken.graph.node if node.op_type == "TopK")
        kept = [each for each in sort.attribute if each.name != wrong]
        del sort.attribute[:]
        sort.attribute.extend([*kept, helper.make_attribute(wrong, {"largest": 0, "axis": 2}[wrong])])
        assert not check_law(made.canonical, broken, spec).ok, wrong


def test_copies_along_the_first_axis_are_interleaved() -> None:
    """Features of all positions in front of the batch: the magnitudes of copies are put together there, too."""
    turned = [
        helper.make_node("Transpose", ["y"], ["last"], name="last", perm=[0, 2, 3, 1]),
        helper.make_node("Flatten", ["last"], ["flat"], name="rows", axis=1),
        helper.make_node("Transpose", ["flat"], ["columns"], name="turn", perm=[1, 0]),
        helper.make_node("Mul", ["columns", "half"], ["scaled"], name="scale"),
        helper.make_node("Transpose", ["scaled"], ["back"], name="return", perm=[1, 0]),
        helper.make_node("Reshape", ["back", "image"], ["again"], name="image"),
        helper.make_node("Transpose", ["again"], ["t"], name="first", perm=[0, 3, 1, 2]),
    ]
    model = network(SIGN, behind=turned, half=np.array(0.5), image=np.array([0, 6, 6, 8]))
    assert layers(model) == ["layer"]


def two_layers(second: str = "w") -> ModelProto:
    """A layer, and a second one behind a Relu, with weights of the given name."""
    behind = [
        helper.make_node("Relu", ["y"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", second], ["t"], name="second", pads=[1] * 4),
    ]
    return network(SIGN, behind=behind, v=DRAW.normal(size=(8, 8, 3, 3)))


@pytest.mark.parametrize("bn", ["fold", "keep"])
def test_layers_that_share_weights_get_their_own(bn: str) -> None:
    """Where one of them is left alone: more is stored then, with --scope layer as well."""
    result = compile_model(two_layers(), 2, scope="layer", bn=bn, exclude=["^second$"])
    assert result.verified
    assert [layer.role for layer in result.summary.layers if layer.name in ("layer", "second")] == [
        "repconv",
        "boundary",
    ]


@pytest.mark.parametrize("repeat", ["tile", "concat", "expand"])
def test_a_drop_in_layer_of_real_numbers_is_known_again(repeat: str) -> None:
    """Its input is repeated and its output, though the binary layer was left alone and the metadata is lost."""
    made = compile_model(two_layers("v"), 2, scope="layer", exclude=["^layer$"], repeat=repeat).model
    del made.metadata_props[:]
    with pytest.raises(NothingToDo, match="'second'"):
        compile_model(made, 2)


@pytest.mark.parametrize("kind", ["InstanceNormalization", "Tanh"])
def test_what_makes_much_of_a_rounding_is_fed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A normalisation of what is nearly constant, and small numbers made of large ones: what they read is compared,
    and they compute with numbers that are not ill-conditioned."""
    away = 9e5 * (np.arange(8) > 0)
    stored = {"scale": 2.7 * np.ones(8), "bias": 9e5 - 2 * away, "zeros": np.zeros(8), "ones": np.ones(8)}
    norm = node("BatchNormalization", ["e", "scale", "bias", "zeros", "ones"], "p")
    behind = [node("Elu", ["y"], "e"), norm, node("Add", ["p", "away"], "q")]
    if kind == "Tanh":
        behind += [node("Tanh", ["q"], "h"), node("Add", ["h", "q"], "t")]
    else:
        behind += [node("InstanceNormalization", ["q", "ones", "zeros"], "t")]
    model = network(behind=behind, away=away.reshape(1, 8, 1, 1), **stored)
    assert compile_model(model, 2).verified
    monkeypatch.setattr("reptran_compiler.verification.bends._AMPLIFIES", frozenset())
    with pytest.raises(VerificationFailed):
        compile_model(model, 2)


@pytest.mark.parametrize("bound", ["Tanh", "Clip"])
def test_what_is_fed_is_what_the_tensor_can_be(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number between 0 and 1, which has an inverse hyperbolic cosine of its reciprocal: no NaN is compared, of which
    kernels of MaxPool make this or that."""
    holds_nan = []

    def compared(actual: NDArray[Any], expected: NDArray[Any], *rest: Any, **more: Any) -> Comparison:
        holds_nan.append(bool(np.isnan(expected).any()))
        return compare(actual, expected, *rest, **more)

    for module in ("batch", "equivalence"):
        monkeypatch.setattr(f"reptran_compiler.verification.{module}.compare", compared)
    behind = [node("Sigmoid", ["y"], "g_"), node("Mul", ["g_", "high"], "h_"), node("Add", ["h_", "low"], "c_")]
    if bound == "Clip":
        behind[1:] = [node("Clip", ["g_", "low", "high"], "c_")]
    behind += [node("Reciprocal", ["c_"], "r_"), node("Acosh", ["r_"], "l_"), node("Tanh", ["c_"], "u_")]
    behind += [node("Add", ["l_", "u_"], "m_"), node("MaxPool", ["m_"], "t", kernel_shape=[2, 2], pads=[0, 0, 1, 1])]
    assert compile_model(network(behind=behind, low=0.1, high=0.8), 2).verified
    assert holds_nan and not any(holds_nan)


def test_a_number_without_axes_is_fed_to_rules() -> None:
    """What a rule reads may be a scalar that is computed."""
    largest = node("ReduceMax", ["x"], "u", keepdims=0)
    shift = [largest, node("CastLike", ["u", "a"], "v"), node("Sub", ["a", "v"], "d"), node("Add", ["d", "five"], "b")]
    assert compile_model(network(*shift, node("Sign", ["b"], "s"), five=2.0), 2).verified


def test_denormal_numbers_are_a_few_steps_apart() -> None:
    """A network whose offsets and scales underflow: what is left of them is rounding, in rules and for the judge."""
    stored = {"offset": np.full((1, 8, 1, 1), 3e-20), "scale": np.linspace(1, 9, 8).reshape(1, 8, 1, 1) * 1e-25}
    tiny = [node("Mul", ["e", "small"], "h"), node("Add", ["h", "offset"], "p"), node("Mul", ["p", "scale"], "t")]
    model = network(behind=[node("Elu", ["y"], "e"), *tiny], small=1e-20, **stored)
    assert compile_model(model, 2).verified


def test_an_operator_without_a_rule_gives_no_copies_along_the_batch() -> None:
    """Its input has its channels where its output has the batch: there is nothing to tile."""
    inner = helper.make_node("Gemm", ["i", "v"], ["j"], transA=1)
    turned = helper.make_function("acme", "Turned", ["i", "v"], ["j"], [inner], [helper.make_opsetid("", 17)])
    behind = [
        node("GlobalMaxPool", ["y"], "p"),
        node("Flatten", ["p"], "f0"),
        node("Transpose", ["f0"], "f1"),
        helper.make_node("Turned", ["f1", "v"], ["r"], name="turned", domain="acme"),
        node("Unsqueeze", ["r", "axes"], "t"),
    ]
    model = network(behind=behind, functions=[turned], domains=["acme"], v=DRAW.normal(size=(8, 8)), axes=[2, 3])
    with pytest.raises(Refusal, match="Turned 'turned' is no operator that carries copies, and axis 0"):
        compile_model(model, 2)


def test_a_function_without_inputs_is_a_constant() -> None:
    """The axes of a Slice come from a local function: they are the channels."""
    inner = helper.make_node("Constant", [], ["j"], value_ints=[1])
    axes = helper.make_function("acme", "Axes", [], ["j"], [inner], [helper.make_opsetid("", 17)])
    call = helper.make_node("Axes", [], ["axes"], name="axes", domain="acme")
    turned = node("Slice", ["y", "last", "least", "axes", "last"], "r")
    model = network(
        behind=[call, turned, node("Add", ["y", "r"], "t")],
        functions=[axes],
        domains=["acme"],
        last=np.array([-1]),
        least=np.array([-(2**31)]),
    )
    made = compile_model(model, 2)
    assert made.verified


def test_normalisations_that_share_numbers_get_their_own_when_they_are_folded() -> None:
    """Exporters store the ones of layers without a scale once; more is stored then, with --scope layer as well."""
    net = Net()
    x = net.real_conv("input", "stem", (8, 3, 3), pads=[1] * 4)
    ones = net.store("ones", np.ones(8, np.float32))
    for number in range(2):
        weight = net.store(f"w{number}", np.sign(net.normal(8, 8, 3, 3)))
        y = net.add("Conv", [net.sign(x, f"sign{number}"), weight], f"conv{number}", pads=[1] * 4)
        others = [net.store(f"{what}{number}", np.abs(net.normal(8)) + 0.5) for what in ("shift", "mean", "var")]
        x = net.add("BatchNormalization", [y, ones, *others], f"norm{number}")
    model = net.head(x, 8)
    made = compile_model(model, 2, scope="layer")
    assert made.verified and made.summary.costs is not None
    assert made.summary.costs.after.trainable == made.summary.costs.before.trainable + 8
