"""`--optimize` and `--weights packed`: a result as it is deployed computes what it did, and costs less."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import compile_file
from everything import everything
from onnx import ModelProto, NodeProto, helper, numpy_helper
from small_networks import network
from spelled import spelled

from benchmarks.generated.cases import draw_case
from benchmarks.layers import residual_network
from reptran_compiler.cli.main import main
from reptran_compiler.cli.verify import main as verify_main
from reptran_compiler.compiler import BadInput, compile_model
from reptran_compiler.lowering import lower
from reptran_compiler.provenance import recorded_options
from reptran_compiler.rewriting import known_rules
from reptran_compiler.runtime import random_feeds, run
from reptran_compiler.transformation import Options
from reptran_compiler.verification import check_lowered

WAYS = ("float", "int8", "auto")


def tiny() -> ModelProto:
    """Blocks of ReActNet's kind, in maps that onnxruntime holds in blocks."""
    return onnx.load("models/files/reactnet-tiny.onnx")


def steep() -> ModelProto:
    """An activation whose slopes are on both sides of 1, one that is steeper than 1 throughout, and a map of 8
    channels, which no block holds; the layer's input is +1 at 0."""
    slopes = np.linspace(0.25, 2.0, 8).reshape(8, 1, 1)
    between = [
        helper.make_node("PRelu", ["a", "slopes"], ["b"], name="bent"),
        helper.make_node("PRelu", ["b", "steeper"], ["c"], name="steep"),
        helper.make_node("Add", ["c", "shift"], ["d"], name="shifted"),
        helper.make_node("GreaterOrEqual", ["d", "zero"], ["m"], name="mask"),
        helper.make_node("Where", ["m", "one", "minus"], ["s"], name="sign"),
    ]
    return network(
        *between,
        opset=18,
        slopes=slopes,
        steeper=slopes + 1,
        shift=np.linspace(-1, 1, 8).reshape(1, 8, 1, 1),
        zero=0.0,
        one=1.0,
        minus=-1.0,
    )


def channels_last(value: float = 1.0) -> ModelProto:
    """A layer as Larq has it: its binarisation between Transposes, padded there, with a Relu behind the layer."""
    draw = np.random.default_rng(1)
    pads = np.array([0, 1, 2, 0, 0, 1, 0, 0])
    between = [
        helper.make_node("Transpose", ["a"], ["last"], name="there", perm=[0, 2, 3, 1]),
        helper.make_node("Sign", ["last"], ["inner"], name="inner"),
        helper.make_node("Add", ["inner", "tenth"], ["more"], name="more"),
        helper.make_node("Sign", ["more"], ["signs"], name="outer"),
        helper.make_node("Pad", ["signs", "pads", "value"], ["padded"], name="padded"),
        helper.make_node("Transpose", ["padded"], ["first"], name="back", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "inner.w"], ["c"], name="inner.layer"),
        helper.make_node("Relu", ["c"], ["r"], name="bent"),
        helper.make_node("Sub", ["r", "three"], ["d"], name="shifted"),
        helper.make_node("Clip", ["d", "low", "high"], ["b"], name="bounded"),
        helper.make_node("Sign", ["b"], ["s"], name="sign"),
    ]
    model = network(
        *between,
        filters=16,
        w=np.sign(draw.normal(size=(16, 16, 3, 3))),
        tenth=0.1,
        value=value,
        three=np.full((1, 16, 1, 1), 3.0),
        low=-2.0,
        high=2.0,
        **{"inner.w": np.sign(draw.normal(size=(16, 8, 3, 2)))},
    )
    model.graph.initializer.append(numpy_helper.from_array(pads, "pads"))
    return model


def straight() -> ModelProto:
    """Layers without a shortcut, as VGG has them: copies of the stem are binarised, scales stand around a pooling."""
    draw = np.random.default_rng(2)
    behind = [
        helper.make_node("Mul", ["y", "scale"], ["scaled"], name="scaled"),
        helper.make_node("MaxPool", ["scaled"], ["pooled"], name="pooled", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["pooled", "gamma", "beta", "mean", "var"], ["n"], name="norm"),
        helper.make_node("Clip", ["n", "low", "high"], ["b"], name="bounded"),
        helper.make_node("Sign", ["b"], ["s2"], name="sign2"),
        helper.make_node("Conv", ["s2", "w2"], ["t"], name="layer2", pads=[1] * 4),
    ]
    return network(
        behind=behind,
        filters=32,
        scale=draw.uniform(0.1, 2.0, size=(1, 32, 1, 1)),
        gamma=draw.uniform(0.5, 2.0, size=32) * np.where(np.arange(32) % 3, 1, -1),
        beta=draw.normal(size=32),
        mean=draw.normal(size=32),
        var=draw.uniform(0.5, 2.0, size=32),
        low=-1.0,
        high=1.0,
        w2=np.sign(draw.normal(size=(32, 32, 3, 3))),
        **{"fc.w": draw.normal(size=(5, 32))},
    )


NETWORKS: dict[str, Callable[[], ModelProto]] = {
    "reactnet-tiny": tiny,
    "steep": steep,
    "everything": everything,
    "channels last": channels_last,
    "straight": straight,
    "opset 9": lambda: spelled(9),
    "opset 22": lambda: spelled(22),
}


def kinds(model: ModelProto) -> list[str]:
    """The operator types of a model."""
    return [node.op_type for node in model.graph.node]


def lowered(
    source: ModelProto, way: str = "int8", weights: str = "latent", beta: int = 2
) -> tuple[ModelProto, ModelProto]:
    """A result, and what it is lowered to."""
    made = compile_model(source, beta, optimize=way, weights=weights)
    assert made.verified
    assert made.transformation is not None
    return made.transformation.result, made.model


@pytest.mark.parametrize("beta", [1, 2])
@pytest.mark.parametrize("weights", ["latent", "packed"])
@pytest.mark.parametrize("way", ["none", *WAYS])
@pytest.mark.parametrize("kind", NETWORKS)
def test_what_is_lowered_is_verified(kind: str, way: str, weights: str, beta: int) -> None:
    """Every network, lowered in every way, and the source itself (beta 1)."""
    made = compile_model(NETWORKS[kind](), beta, optimize=way, weights=weights)
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


def test_every_rule_is_needed() -> None:
    """None of the phase `lower` is without a network here that it lowers."""
    applied = set()
    for make, packed in itertools.product(NETWORKS.values(), ("packed", "binary")):
        for way, beta in (("float", 1), ("float", 2), ("int8", 2)):
            made = compile_model(make(), beta, optimize=way, weights=packed, verify=False).transformation
            assert made is not None
            applied |= {report.rule for report in made.reports if report.applied}
    assert {rule.name for rule in known_rules(()) if rule.phase == "lower"} <= applied


@pytest.mark.parametrize("value", [1.0, -1.0, 0.0])
def test_padded_signs_cost_no_padding(value: float) -> None:
    """In either number format, and the layer binarises where it convolves."""
    for way, layer in (("float", "Conv"), ("int8", "ConvInteger")):
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


@pytest.mark.parametrize("way", ["float", "int8"])
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
    assert kinds(integers).count("ConvInteger") == kinds(result).count("Conv") - 1


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


@pytest.mark.parametrize("way", ["none", "float", "int8"])
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
    if way == "int8" and bits == 8:
        assert not packed, "a byte a weight is what an integer layer stores anyway"
    else:
        assert [each.size * 8 for each in packed] == [weights.size * bits]


def test_an_opset_without_integers_keeps_its_floats() -> None:
    """Int8 Clip is of opset 12: the source's opset stays, and its layers compute in floats."""
    _, made = lowered(spelled(9), "int8")
    assert "ConvInteger" not in kinds(made)
    assert {entry.version for entry in made.opset_import if entry.domain == ""} == {9}


def test_auto_chooses_for_the_processor_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Layers that VNNI makes much faster, and AVX2 hardly: the same bytes each time, and what they are for is told."""
    model = residual_network(64, 3, 28)
    made = {cpu: compile_model(model, 1, optimize="auto", cpu=cpu, verify=False).model for cpu in ("vnni", "avx2")}
    assert {cpu: "ConvInteger" in kinds(each) for cpu, each in made.items()} == {"vnni": True, "avx2": False}
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


# -- mistakes in what is lowered are seen -------------------------------------------------------------------------


def stored(model: ModelProto, name: str) -> onnx.TensorProto:
    """An initializer."""
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def changed(model: ModelProto, name: str, place: int, value: float) -> None:
    """Change one number of an initializer."""
    tensor = stored(model, name)
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[place] = value
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def first(model: ModelProto, op_type: str) -> NodeProto:
    """The first operator of a type."""
    return next(node for node in model.graph.node if node.op_type == op_type)


def off_by_one(model: ModelProto, op_type: str, position: int) -> None:
    """Change one number that the first operator of a type reads."""
    name = first(model, op_type).input[position]
    values = numpy_helper.to_array(stored(model, name)).reshape(-1)
    changed(model, name, 0, values[0] + 1)


def turned(model: ModelProto) -> None:
    """One weight of an integer layer has another sign."""
    name = first(model, "ConvInteger").input[1]
    values = numpy_helper.to_array(stored(model, name)).reshape(-1)
    changed(model, name, 5, 2 - values[5])


def shifted_threshold(model: ModelProto) -> None:
    """One channel's threshold is another."""
    clip = first(model, "Clip")
    maker = next(node for node in model.graph.node if node.output[0] == clip.input[0])
    values = numpy_helper.to_array(stored(model, maker.input[2])).reshape(-1)
    changed(model, maker.input[2], 3, -values[3])


def soft_sign(model: ModelProto) -> None:
    """A binarisation that is not steep enough to be one."""
    clip = first(model, "Clip")
    maker = next(node for node in model.graph.node if node.output[0] == clip.input[0])
    for position in (1, 2):
        tensor = stored(model, maker.input[position])
        values = numpy_helper.to_array(tensor) * np.float32(2.0**-125)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def other_slope(model: ModelProto) -> None:
    """One channel's slope is another."""
    name = next(n for n in (node.input[1] for node in model.graph.node if node.op_type == "Conv") if "slope" in n)
    changed(model, name, 2, 0.9)


def other_offset(model: ModelProto) -> None:
    """One channel of an affine has another offset."""
    clipped = {node.input[0] for node in model.graph.node if node.op_type == "Clip"}
    affines = [node for node in model.graph.node if len(node.input) > 2 and clipped.isdisjoint(node.output)]
    name = next(node.input[2] for node in affines if node.input[2].endswith("/offset"))
    changed(model, name, 1, numpy_helper.to_array(stored(model, name)).reshape(-1)[1] + 0.01)


def other_bit(model: ModelProto) -> None:
    """One bit of a packed weight is turned."""
    name = next(t.name for t in model.graph.initializer if t.name.endswith("/bits"))
    values = numpy_helper.to_array(stored(model, name)).reshape(-1)
    changed(model, name, 0, values[0] ^ 1)


def order_of_bits(model: ModelProto) -> None:
    """The lowest bit of a byte comes first."""
    tensor = stored(model, "bits/table")
    values = np.ascontiguousarray(numpy_helper.to_array(tensor)[:, ::-1])
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def other_padding(model: ModelProto) -> None:
    """What padding adds to one filter is off by one."""
    name = next(t.name for t in model.graph.initializer if "/padding" in t.name)
    changed(model, name, 0, numpy_helper.to_array(stored(model, name)).reshape(-1)[0] + 1)


def other_filter(model: ModelProto) -> None:
    """Of a filter that is there twice, one has another weight."""
    name = next(t.name for t in model.graph.initializer if t.name.endswith("/more"))
    values = numpy_helper.to_array(stored(model, name)).reshape(-1)
    changed(model, name, values.size - 1, -values[-1])


def other_sum(model: ModelProto) -> None:
    """One weight of a layer that reads one copy is that of a copy alone."""
    name = next(t.name for t in model.graph.initializer if t.name.endswith("/summed"))
    values = numpy_helper.to_array(stored(model, name)).reshape(-1)
    place = int(np.flatnonzero(values)[0])
    changed(model, name, place, values[place] / 2)


def other_direction(model: ModelProto) -> None:
    """One channel of an affine that is binarised is turned."""
    clip = [node for node in model.graph.node if node.op_type == "Clip"][1]
    maker = next(node for node in model.graph.node if node.output[0] == clip.input[0])
    values = numpy_helper.to_array(stored(model, maker.input[1])).reshape(-1)
    changed(model, maker.input[1], 3, -values[3])


def other_axes(model: ModelProto) -> None:
    """Signs are turned on their way to the layer."""
    layer = next(node for node in model.graph.node if node.name.startswith("inner.layer"))
    turn = helper.make_node("Transpose", [layer.input[0]], ["turned"], name="turn", perm=[0, 1, 3, 2])
    place = list(model.graph.node).index(layer)
    layer.input[0] = "turned"
    model.graph.node.insert(place, turn)


MISTAKES: dict[str, tuple[str, str, Callable[[ModelProto], None]]] = {
    "the zero point of weights": ("int8", "binary", lambda m: off_by_one(m, "ConvInteger", 3)),
    "a weight of an integer layer": ("int8", "binary", turned),
    "a bound of signs": ("float", "binary", lambda m: off_by_one(m, "Clip", 2)),
    "a threshold": ("float", "binary", shifted_threshold),
    "a sign that is not steep": ("float", "binary", soft_sign),
    "a slope": ("float", "binary", other_slope),
    "an offset": ("float", "binary", other_offset),
    "the sum of padding": ("float", "binary", other_padding),
    "a filter": ("float", "binary", other_filter),
    "a sum of weights": ("float", "binary", other_sum),
    "the direction of a scale": ("float", "binary", other_direction),
    "the axes of signs": ("float", "binary", other_axes),
    "a bit of a weight": ("none", "packed", other_bit),
    "the order of bits": ("none", "packed", order_of_bits),
    "a bit of an integer weight": ("int8", "packed", other_bit),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_in_lowering_is_seen(kind: str) -> None:
    way, weights, plant = MISTAKES[kind]
    make = tiny
    if plant in (other_padding, other_filter, other_axes):
        make = channels_last
    elif plant in (other_sum, other_direction):
        make = straight
    result, made = lowered(make(), way, weights)
    assert check_lowered(result, made).ok
    wrong = ModelProto()
    wrong.CopyFrom(made)
    plant(wrong)
    assert wrong.SerializeToString() != made.SerializeToString(), "or nothing was planted"
    report = check_lowered(result, wrong)
    assert not report.ok


def test_a_sum_of_signs_is_equal_to_the_bit() -> None:
    """A weight that is off by a step of its type is nothing to a tolerance, and is seen."""
    result, made = lowered(tiny(), "float")
    name = next(
        t.name
        for t in made.graph.initializer
        if t.name in {x.name for x in result.graph.initializer}
        and len(t.dims) == 4
        and np.isin(numpy_helper.to_array(t), (-1, 1)).all()
    )
    changed(made, name, 0, numpy_helper.to_array(stored(made, name)).reshape(-1)[0] * (1 + 2.0**-20))
    report = check_lowered(result, made)
    assert [failure for failure in report.failures if "binary sum is not exact" in failure.detail]


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
    assert "integer-convolution: applied" in said
    assert "in the lowered form: Cast" in said
