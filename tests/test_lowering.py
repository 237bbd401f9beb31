"""`--optimize` and `--weights packed`: a result as it is deployed computes what it did, and costs less."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import compile_file
from lowered_networks import NETWORKS, asked, channels_last, first, kinds, lowered, stored, straight, tiny
from onnx import ModelProto, helper, numpy_helper
from small_networks import network
from spelled import spelled

from benchmarks.generated.cases import draw_case
from benchmarks.layers import residual_network
from reptran_compiler.cli.main import main
from reptran_compiler.cli.verify import main as verify_main
from reptran_compiler.compiler import BadInput, CompileError, Refusal, compile_model
from reptran_compiler.lowering import lower
from reptran_compiler.provenance import recorded_options
from reptran_compiler.rewriting import known_rules
from reptran_compiler.runtime import random_feeds, run
from reptran_compiler.transformation import Options

#: With AVX2 alone, integers are ConvInteger; otherwise MatMulInteger takes most layers.
WAYS = ("float", "int8", "int8 for avx2", "auto")


@pytest.mark.parametrize("beta", [1, 2])
@pytest.mark.parametrize("weights", ["latent", "packed"])
@pytest.mark.parametrize("way", ["none", *WAYS])
@pytest.mark.parametrize("kind", NETWORKS)
def test_what_is_lowered_is_verified(kind: str, way: str, weights: str, beta: int) -> None:
    """Every network, lowered in every way, and the source itself (beta 1)."""
    made = compile_model(NETWORKS[kind](), beta, **asked(way), weights=weights)
    lowers = way != "none" or weights == "packed"
    assert made.verified or not (lowers or beta > 1)
    if lowers:
        assert made.judgement is not None
        assert all(report.coverage.required for report in made.judgement.lowering)


@pytest.mark.parametrize("seed", [3, 21, 27, 43, 57])
@pytest.mark.parametrize(("way", "weights"), [("float", "latent"), ("int8", "packed")])
def test_generated_networks_are_lowered(seed: int, way: str, weights: str) -> None:
    """Networks of every construct, indices and binarisations without Where among them."""
    case = draw_case(seed)
    given = case.options
    made = compile_model(
        case.model,
        given.beta,
        scope=given.scope,
        fc=given.fc,
        bn=given.bn,
        exclude=given.exclude,
        include=given.include,
        dims=dict(case.dims),
        optimize=way,
        weights=weights,
    )
    assert made.verified and made.judgement is not None and made.judgement.lowering


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["latent", "packed"])
def test_hundreds_of_generated_networks_compute_in_integers(weights: str) -> None:
    """Those that are refused are so without lowering, too."""
    products = 0
    for seed in range(300):
        case = draw_case(seed)
        names = ("scope", "fc", "bn", "exclude", "include")
        given = {name: getattr(case.options, name) for name in names} | {"dims": dict(case.dims), "quick": True}
        try:
            made = compile_model(case.model, case.options.beta, optimize="int8", weights=weights, **given)
        except (CompileError, Refusal):
            with pytest.raises((CompileError, Refusal)):
                compile_model(case.model, case.options.beta, **given)
            continue
        assert made.verified
        products += kinds(made.model).count("MatMulInteger")
    assert products > 100


@pytest.mark.parametrize("repeat", ["tile", "concat", "expand"])
@pytest.mark.parametrize("way", ["none", *WAYS])
def test_a_rep_network_is_lowered_as_it_is(way: str, repeat: str) -> None:
    """The last step of one that was trained: it computes what it did, in the operators that a compilation writes."""
    rep = compile_model(tiny(), 2, repeat=repeat, verify=False).model
    made = compile_model(rep, 1, **asked(way), weights="packed")
    assert made.verified and made.summary.notes == ()
    if repeat != "expand":  # what three operators repeat is not joined into one
        assert made.summary.costs is not None and made.summary.costs.grew == ()
        direct = compile_model(tiny(), 2, **asked(way), weights="packed", repeat=repeat, verify=False).model
        assert sorted(kinds(made.model)) == sorted(kinds(direct))


def test_one_copy_is_its_own_mean() -> None:
    """With beta 1, an operator that mixes channels reads what it read, and a map that is an output stays it."""
    behind = [
        helper.make_node("LRN", ["y"], ["z"], name="mixes", size=3),
        helper.make_node("Sign", ["z"], ["s2"], name="sign2"),
        helper.make_node("LRN", ["s2"], ["t"], name="mixes signs", size=3),
    ]
    source = network(behind=behind, opset=18)
    source.graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in ("z", "s2"))
    made = compile_model(source, 1, optimize="float", strict=True)
    assert made.verified and made.summary.notes == ()
    assert {"Mean", "Split"}.isdisjoint(kinds(made.model)) and kinds(made.model).count("LRN") == 2


def test_every_rule_is_needed() -> None:
    """None of the phase `lower` is without a network here that it lowers."""
    rep = compile_model(tiny(), 2, verify=False).model
    made = compile_model(rep, 1, optimize="float", verify=False).transformation
    assert made is not None
    applied = {report.rule for report in made.reports if report.applied}
    for make, packed in itertools.product(NETWORKS.values(), ("packed", "binary")):
        for way, beta, cpu in (("float", 1, "vnni"), ("float", 2, "vnni"), ("int8", 2, "vnni"), ("int8", 2, "avx2")):
            made = compile_model(make(), beta, optimize=way, weights=packed, cpu=cpu, verify=False).transformation
            assert made is not None
            applied |= {report.rule for report in made.reports if report.applied}
    assert {rule.name for rule in known_rules(()) if rule.phase == "lower"} <= applied


@pytest.mark.parametrize("value", [1.0, -1.0, 0.0])
def test_padded_signs_cost_no_padding(value: float) -> None:
    """In either number format, and the layer binarises where it convolves; a product pads its codes."""
    for way, layer in (("float", "Conv"), ("int8 for avx2", "ConvInteger")):
        _, made = lowered(channels_last(value), way)
        assert {"Pad", "Transpose"}.isdisjoint(kinds(made))
        assert layer in kinds(made)


def test_an_activation_is_computed_once_and_not_for_each_copy() -> None:
    _, made = lowered(channels_last(), "float")
    maker = {name: node for node in made.graph.node for name in node.output}
    bent = first(made, "Relu")
    # 8 filters are half a block: the convolution has them twice, and Concat copies blocks.
    layer = maker[bent.input[0]]
    assert (layer.op_type, list(stored(made, layer.input[1]).dims)[0]) == ("Conv", 16)
    assert [node.op_type for node in made.graph.node if bent.output[0] in node.input] == ["Concat"]


@pytest.mark.parametrize("way", ["float", "int8 for avx2"])
def test_copies_that_nothing_makes_differ_are_convolved_once(way: str) -> None:
    """The first layer behind the stem reads one copy; with a bit a weight its weights stay what they are."""
    result, made = lowered(straight(), way)
    layers = [node for node in made.graph.node if node.op_type in ("Conv", "ConvInteger")]
    read = {tuple(stored(made, node.input[1]).dims) for node in layers}
    assert (16, 8, 3, 3) in read and (16, 16, 3, 3) not in read
    assert (16, 16, 3, 3) in {tuple(tensor.dims) for tensor in result.graph.initializer}
    _, packed = lowered(straight(), way, "packed")
    assert any("/bits" in tensor.name for tensor in packed.graph.initializer)


def test_every_drop_in_layer_is_convolved_once() -> None:
    """With `--scope layer` all of them read copies of one map: half of the multiply-accumulates at beta 2."""
    made = compile_model(straight(), 2, scope="layer", optimize="float")
    assert made.verified
    summed = {tuple(tensor.dims) for tensor in made.model.graph.initializer if "/summed" in tensor.name}
    assert summed == {(16, 8, 3, 3), (16, 32, 3, 3)}


def test_what_a_binarisation_does_not_see_is_not_computed() -> None:
    """Bounds around 0, and a scale and an offset of their own: what is left is one operator and its bounds."""
    _, made = lowered(straight(), "float")
    maker = {name: node for node in made.graph.node for name in node.output}
    signs = [node for node in made.graph.node if node.op_type == "Clip"]
    assert len(signs) == 2  # binarisations; the Clip in front of one is gone
    behind = maker[signs[1].input[0]]
    assert behind.op_type == "Conv" and maker[behind.input[0]].op_type == "Concat"
    assert maker[maker[behind.input[0]].input[0]].op_type == "MaxPool"


@pytest.mark.parametrize("beta", [1, 2])
def test_cheap_operators_take_the_place_of_dear_ones(beta: int) -> None:
    """PRelu and Sign go; in the blocked layout nothing is left that turns a map over between the layers."""
    _, floats = lowered(tiny(), "float", beta=beta)
    blocked = {"Conv", "Add", "Concat", "Clip", "Relu", "AveragePool", "ReduceMean", "Reshape", "Gemm"}
    # Without replication between them, onnxruntime fuses a scale with the convolution in front.
    assert set(kinds(floats)) <= blocked | ({"Mul"} if beta == 1 else set())
    result, integers = lowered(tiny(), "int8", beta=beta)
    assert "PRelu" not in kinds(integers) and "Sign" not in kinds(integers)
    # All convolutions but the stem.
    layers = kinds(integers).count("MatMulInteger") + kinds(integers).count("ConvInteger")
    assert layers == kinds(result).count("Conv") - 1


@pytest.mark.parametrize("way", WAYS)
def test_one_offset_stands_in_front_of_each_operator_that_needs_one(way: str) -> None:
    """ReActNet shifts its stream in front of and behind each activation and in front of each binarisation."""
    result, made = lowered(tiny(), way)

    def shifts(model: ModelProto) -> int:
        stored = {tensor.name for tensor in model.graph.initializer}
        return sum(node.op_type == "Add" and not stored.isdisjoint(node.input) for node in model.graph.node)

    assert shifts(made) < shifts(result)


@pytest.mark.parametrize("way", WAYS)
def test_the_network_computes_what_it_did(way: str) -> None:
    """Without cuts, on inputs that turn no sign: the same class, the same numbers up to rounding."""
    result, made = lowered(tiny(), way)
    feeds = random_feeds(result, batch=4, seed=3)
    before, after = run(result, feeds), run(made, feeds)
    for name, values in before.items():
        assert np.allclose(values, after[name], atol=1e-3 * np.abs(values).max())


def test_packed_weights_are_a_bit_each() -> None:
    """31 times smaller, less what a table needs once."""
    result, made = lowered(tiny(), "none", "packed")
    signs = [
        t for t in result.graph.initializer if np.isin(numpy_helper.to_array(t), (-1, 1)).all() and len(t.dims) == 4
    ]
    assert signs
    bits = {t.name: t for t in made.graph.initializer if t.data_type == onnx.TensorProto.UINT8}
    for tensor in signs:
        stored = numpy_helper.to_array(bits[f"{tensor.name}/bits"])
        values = numpy_helper.to_array(tensor)
        assert stored.nbytes * 32 == values.nbytes
        assert np.array_equal(np.unpackbits(stored) * 2.0 - 1, values.reshape(-1))


@pytest.mark.parametrize("way", ["none", "float", "int8", "int8 for avx2"])
@pytest.mark.parametrize(
    ("channels", "taps", "zeros", "bits"),
    [(8, 3, 0, 1), (8, 3, 1, 2), (6, 1, 0, 2), (6, 1, 1, 2), (2, 3, 0, 2), (6, 3, 0, 2), (7, 1, 0, 8), (5, 3, 1, 8)],
)
def test_every_binary_layer_is_packed(channels: int, taps: int, zeros: int, bits: int, way: str) -> None:
    """Weights that are 0 take a second bit; where 8 does not divide their number, they take what fills the bytes."""
    draw = np.random.default_rng(channels)
    weights = draw.choice([-1.0, 1.0], (channels, channels, taps, taps))
    weights.reshape(-1)[:zeros] = 0.0
    model = network(filters=channels, w=weights, **{"stem.w": draw.normal(size=(channels, 3, 3, 3))})
    _, made = lowered(model, way, "packed", beta=1)
    packed = [numpy_helper.to_array(t) for t in made.graph.initializer if t.name.endswith("/bits")]
    if way.startswith("int8") and bits == 8:
        assert not packed, "a byte a weight is what an integer layer stores anyway"
    else:
        assert [each.size * 8 for each in packed] == [weights.size * bits]


def test_an_opset_without_integers_keeps_its_floats() -> None:
    """Int8 Clip is of opset 12: the source's opset stays, and its layers compute in floats."""
    _, made = lowered(spelled(9), "int8")
    assert {"ConvInteger", "MatMulInteger"}.isdisjoint(kinds(made))
    assert {entry.version for entry in made.opset_import if entry.domain == ""} == {9}


def test_auto_chooses_for_the_processor_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Layers that VNNI makes much faster, and AVX2 hardly: the same bytes each time, and what they are for is told."""
    model = residual_network(128, 3, 28)
    made = {cpu: compile_model(model, 1, optimize="auto", cpu=cpu, verify=False).model for cpu in ("vnni", "avx2")}
    assert {cpu: "MatMulInteger" in kinds(each) for cpu, each in made.items()} == {"vnni": True, "avx2": False}
    for cpu, each in made.items():
        assert recorded_options(each)["cpu"] == cpu
        flags = ("--beta", "1", "--optimize", "auto", "--cpu", cpu, "--no-verify")
        assert compile_file(model, tmp_path, capsys, *flags).model == each


def test_qonnx_is_not_written_for_onnxruntime(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in (["--optimize", "int8"], ["--weights", "packed"]):
        done = compile_file(tiny(), tmp_path, capsys, "--emit", "qonnx", *more)
        assert (done.code, done.written) == (2, ())
        assert f"{more[0]} " in done.err
    with pytest.raises(BadInput, match="optimize"):
        compile_model(tiny(), 2, optimize="float", emit="qonnx")


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("way", ["float", "int8"])
def test_binarisation_is_exact_around_zero(way: str, scaled: bool) -> None:
    """At 0, at the smallest normal numbers, at the largest, and on both sides of each channel's threshold; behind
    scales, of which no product is rounded."""
    scales = np.exp2(np.array([0, 3, -5, 20, -12, 1, 90, -30] * 2)) * np.array([1, -1] * 8)
    shifts = np.array([0.0, 0.1, -0.3, 2.5, 1e-3, -7.0, 1e-30, 100.0] * 2, np.float32)
    tiny_, huge = np.float32(2.0**-126), np.float32(3e38)
    near = [np.nextafter(-shift, np.float32(to)) for shift in shifts[:8] for to in (-np.inf, np.inf)]
    points = np.array([0.0, -0.0, tiny_, -tiny_, 1.0, -1.0, huge, -huge, *-shifts[:8], *near], np.float32)
    if scaled:
        at = -shifts[:8].astype(np.float64) / scales[:8]
        around = [np.nextafter(np.float32(x), np.float32(to)) for x in at for to in (-np.inf, np.inf)]
        points = np.concatenate([points, at.astype(np.float32), np.array(around, np.float32)])
        product = points[:, None] * scales
        normal = (product == 0) | ((np.abs(product) >= tiny_) & (np.abs(product) < huge))
        points = points[normal.all(axis=1)]
    points = points[(points == 0) | (np.abs(points) >= tiny_)]
    front = helper.make_node("Mul", ["x", "scale"], ["c"], name="scaled")
    source = helper.make_model(
        helper.make_graph(
            [
                *([front] if scaled else []),
                helper.make_node("Add", ["c" if scaled else "x", "shift"], ["d"], name="shifted"),
                helper.make_node("Sign", ["d"], ["s"], name="sign"),
                helper.make_node("Conv", ["s", "w"], ["y"], name="layer"),
            ],
            "signs",
            [helper.make_tensor_value_info("x", 1, ["N", 16, points.size, 1])],
            [helper.make_tensor_value_info("y", 1, ["N", 16, points.size, 1])],
            [
                numpy_helper.from_array(shifts.reshape(16, 1, 1), "shift"),
                numpy_helper.from_array(scales.astype(np.float32).reshape(16, 1, 1), "scale"),
                numpy_helper.from_array(2 * np.eye(16, dtype=np.float32)[:, :, None, None] - 1, "w"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    made = lower(source, Options(optimize=way), known_rules(())).model
    assert "Sign" not in kinds(made)
    feed = {"x": np.broadcast_to(points[None, None, :, None], (2, 16, points.size, 1)).copy()}
    assert np.array_equal(run(source, feed)["y"], run(made, feed)["y"])


def test_a_vector_is_binarised_without_sign() -> None:
    """In front of a linear layer, at 0 and around it."""
    draw = np.random.default_rng(0)
    source = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Sign", ["x"], ["s"], name="sign"),
                helper.make_node("MatMul", ["s", "w"], ["y"], name="layer"),
            ],
            "signs",
            [helper.make_tensor_value_info("x", 1, ["N", 6])],
            [helper.make_tensor_value_info("y", 1, ["N", 4])],
            [numpy_helper.from_array(np.sign(draw.normal(size=(6, 4))).astype(np.float32), "w")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    made = lower(source, Options(optimize="float"), known_rules(())).model
    assert "Sign" not in kinds(made)
    feed = {"x": np.array([[0.0, -0.0, 1e-30, -1e-30, 7.0, -7.0], draw.normal(size=6)], np.float32)}
    assert np.array_equal(run(source, feed)["y"], run(made, feed)["y"])


def test_reptran_verify_says_what_to_verify_instead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A lowered network has other layers than its source: the one that it was lowered from is what can be compared."""
    for more in (["--optimize", "float"], ["--weights", "packed"]):
        assert compile_file(tiny(), tmp_path, capsys, *more).code == 0
        assert verify_main([str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx"), "--beta", "2"]) == 2
        assert "was lowered for onnxruntime" in capsys.readouterr().err


def test_explain_follows_a_node_into_its_lowered_form(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["models/files/reactnet-tiny.onnx", "--optimize", "int8", "--explain", "node_Conv_345"])
    said = capsys.readouterr().out
    assert code == 0
    assert "integer-product: applied" in said
    assert "in the lowered form" in said
