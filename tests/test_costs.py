"""Counting: every spelling once, and what nobody can count is said."""

from __future__ import annotations

import numpy as np
import pytest
from counted_networks import Builder, classified, small
from onnx import TensorProto, helper

from reptran_compiler.costs import (
    CannotCount,
    Comparison,
    LayerKind,
    count,
    in_order,
    title,
)


def test_a_latent_weight_with_two_readers_counts_once_and_multiplies_twice() -> None:
    b, x = small()
    latent = b.empty(8, 8, 3, 3)
    first = b.op("Conv", x, b.op("Sign", latent), name="first", pads=[1] * 4)
    signs = b.op("Sign", first)
    second = b.op("Conv", signs, b.op("Sign", latent), name="second", pads=[1] * 4)
    report = count(classified(b, second, 8))
    assert report.parameters["binary_weights_3x3"] == 8 * 8 * 9
    assert report.macs["binary_3x3"] == 2 * 8 * 8 * 9 * 64
    assert [report.layer(name).weights for name in ("first", "second")] == [576, 576]
    assert {report.layer(name).parameter for name in ("first", "second")} == {latent}
    assert report.elementwise["sign"] == 2 * 8 * 64, "binarising a latent weight is no work of a sample"


@pytest.mark.parametrize("copies", ["none", "tile", "concat"])
def test_scale_and_bias_are_found_behind_the_copies(copies: str) -> None:
    b, x = small()
    y = b.op("Conv", x, b.signs(8, 8, 1, 1), name="inner")
    if copies == "tile":
        y = b.op("Tile", y, b.const([1, 4, 1, 1], np.int64))
    elif copies == "concat":
        y = b.op("Concat", y, y, y, y, axis=1)
    wide = 8 if copies == "none" else 32
    y = b.op("Add", b.op("Mul", y, b.empty(1, wide, 1, 1)), b.empty(wide, 1, 1))
    report = count(classified(b, b.bias(y, wide), wide))
    assert report.parameters["factored_scales"] == wide
    assert report.parameters["layer_biases"] == wide
    assert report.parameters["learnable_biases"] == wide
    assert report.elementwise["scale"] == wide * 64
    assert report.elementwise["bias_add"] == 2 * wide * 64
    assert report.trainable == sum(report.parameters.values()) - wide - report.parameters["stem_statistics"]


def test_a_scale_behind_a_real_layer_is_a_parameter() -> None:
    b, _ = small()
    y = b.op("Conv", b.nodes[1].output[0], b.empty(8, 8, 1, 1), name="inner")
    model = classified(b, b.op("Mul", y, b.empty(1, 8, 1, 1)), 8)
    report = count(model)
    assert report.parameters["other_per_channel"] == 8
    assert report.parameters["real_weights"] == report.macs["real"] / 64 == 64
    factored = count(model, {"inner": LayerKind("repconv", False, factored_scale=True)})
    assert factored.parameters["factored_scales"] == 8
    assert "other_per_channel" not in factored.parameters


def test_a_scale_of_the_network_behind_the_factored_one_is_a_parameter() -> None:
    b, x = small()
    y = b.op("Mul", b.op("Conv", x, b.signs(8, 8, 1, 1), name="inner"), b.empty(1, 8, 1, 1))
    model = classified(b, b.op("Mul", y, b.empty(1, 8, 1, 1)), 8)
    report = count(model)
    assert report.parameters["factored_scales"] == report.parameters["other_per_channel"] == 8
    assert report.elementwise["scale"] == 2 * 8 * 64
    own = count(model, {"inner": LayerKind("repconv", True, factored_scale=False)})
    assert own.parameters["other_per_channel"] == 16
    assert "factored_scales" not in own.parameters


def sibling(b: Builder, x: str, form: str) -> str:
    """The binarisation that is +1 at 0."""
    if form == "where":
        return b.op("Where", b.op("GreaterOrEqual", x, b.const(0.0)), b.const(1.0), b.const(-1.0))
    not_less = b.op("Not", b.op("Less", x, b.const(0.0)))
    if form == "where-not-less":
        return b.op("Where", not_less, b.const(1.0), b.const(-1.0))
    product = b.op("Mul", b.op("Cast", not_less, to=TensorProto.FLOAT), b.const(2.0))
    return b.op("Sub", product, b.const(1.0))


@pytest.mark.parametrize("form", ["where", "where-not-less", "arithmetic"])
def test_every_canonical_binarisation_is_one_sign(form: str) -> None:
    b = Builder(["N", 3, 8, 8])
    x = b.op("Conv", "input", b.empty(8, 3, 3, 3), b.empty(8), name="stem", pads=[1] * 4)
    y = b.op("Conv", sibling(b, x, form), sibling(b, b.empty(8, 8, 3, 3), form), name="inner", pads=[1] * 4)
    report = count(classified(b, y, 8))
    assert report.layer("inner").binary
    assert dict(report.elementwise) == {"sign": 8 * 64, "global_pool": 8 * 64}
    assert dict(report.parameters) == {
        "stem_weights": 216,
        "stem_affine": 8,
        "binary_weights_3x3": 576,
        "classifier_weights": 80,
        "classifier_bias": 10,
    }


@pytest.mark.parametrize("between", ["pad", "pool", "reshape", "concat"])
def test_a_binary_layer_is_told_behind_what_moves_signs(between: str) -> None:
    b, x = small()
    channels = 8
    if between == "pad":
        x = b.op("Pad", x, b.const([0, 0, 1, 1, 0, 0, 1, 1], np.int64), b.const(-1.0))
    elif between == "pool":
        x = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    elif between == "reshape":
        x = b.op("Reshape", x, b.const([0, 32, 4, 4], np.int64))
        channels = 32
    else:
        x = b.op("Concat", x, b.op("Sign", b.nodes[1].output[0]), axis=1)
        channels = 16
    report = count(classified(b, b.op("Conv", x, b.signs(8, channels, 1, 1), name="inner"), 8))
    assert report.layer("inner").binary
    assert report.bops == report.macs["binary_1x1"] == report.layer("inner").macs


@pytest.mark.parametrize("why", ["real weights", "ternary weights", "zero-one activations", "averaged"])
def test_what_is_not_plus_minus_one_is_not_binary(why: str) -> None:
    b, x = small()
    weight = b.signs(8, 8, 1, 1)
    if why == "real weights":
        weight = b.const(np.linspace(-1, 1, 64).reshape(8, 8, 1, 1))
    elif why == "ternary weights":
        weight = b.const(np.resize([-1, 0, 1], 64).reshape(8, 8, 1, 1))
    elif why == "zero-one activations":
        relu = b.op("Relu", b.nodes[1].output[0])
        x = b.op("Sign", b.op("MaxPool", relu, kernel_shape=[2, 2]))
    else:
        x = b.op("AveragePool", x, kernel_shape=[2, 2])
    report = count(classified(b, b.op("Conv", x, weight, name="inner"), 8))
    assert not report.layer("inner").binary
    assert report.bops == 0
    assert "real_weights" in report.parameters


def test_roles_are_guessed() -> None:
    b, x = small()
    depthwise = b.op("Conv", x, b.signs(16, 1, 3, 3), name="depthwise", group=8, pads=[1] * 4)
    inner = b.op("Conv", b.op("Sign", depthwise), b.signs(8, 4, 1, 1), name="inner", group=4)
    report = count(classified(b, inner, 8))
    assert {layer.name: layer.role for layer in report.layers} == {
        "stem": "stem",
        "depthwise": "depthwise",
        "inner": "repconv",
        "fc": "classifier",
    }
    assert report.layer("inner").group == 4
    assert report.parameters["depthwise_weights"] == 16 * 9
    assert report.macs["depthwise"] == 16 * 9 * 64
    assert report.bops == 16 * 9 * 64 + 8 * 4 * 64, "a depthwise convolution of signs by signs is binary work"


def test_the_compiler_knows_better_than_a_guess() -> None:
    b, x = small()
    y = b.op("Conv", x, b.signs(8, 8, 1, 1), name="inner")
    model = classified(b, y, 8)
    report = count(model, {"inner": LayerKind("boundary", False)})
    assert (report.layer("inner").role, report.layer("inner").binary) == ("boundary", False)
    assert report.layer("fc").role == "classifier"
    with pytest.raises(ValueError, match="unknown role 'trunk'"):
        LayerKind("trunk", True)  # type: ignore[arg-type]


@pytest.mark.parametrize("spelling", ["Gemm", "Gemm transposed", "MatMul and Add"])
def test_linear_layers_count_alike_in_every_spelling(spelling: str) -> None:
    b = Builder(["N", 24])
    if spelling == "MatMul and Add":
        y = b.op("Add", b.op("MatMul", "input", b.empty(24, 16), name="one"), b.empty(16))
        y = b.op("Add", b.op("MatMul", b.op("Relu", y), b.empty(16, 5), name="two"), b.empty(5))
    else:
        trans = int(spelling == "Gemm transposed")
        shapes = [(16, 24), (5, 16)] if trans else [(24, 16), (16, 5)]
        y = b.op("Gemm", "input", b.empty(*shapes[0]), b.empty(16), name="one", transB=trans)
        y = b.op("Gemm", b.op("Relu", y), b.empty(*shapes[1]), b.empty(5), name="two", transB=trans)
    report = count(b.model(y))
    assert dict(report.macs) == {"stem": 24 * 16, "classifier": 80}
    assert dict(report.parameters) == {
        "stem_weights": 384,
        "stem_affine": 16,
        "classifier_weights": 80,
        "classifier_bias": 5,
    }
    assert report.layer("one").kernel == "linear"


@pytest.mark.parametrize("spelling", ["GlobalAveragePool", "AveragePool", "ReduceMean", "ReduceMean 18"])
def test_global_pooling_counts_its_input_in_every_spelling(spelling: str) -> None:
    b = Builder(["N", 3, 6, 6], opset=18 if spelling == "ReduceMean 18" else 17)
    if spelling == "ReduceMean 18":
        y = b.op("ReduceMean", "input", b.const([-1, -2], np.int64))
    elif spelling == "ReduceMean":
        y = b.op("ReduceMean", "input", axes=[2, 3])
    else:
        y = b.op("AveragePool", "input", kernel_shape=[6, 6]) if spelling == "AveragePool" else b.op(spelling, "input")
    assert dict(count(b.model(y)).elementwise) == {"global_pool": 3 * 36}


def test_per_channel_initializers_with_several_readers_count_once_and_are_noted() -> None:
    b, x = small()
    slope = b.empty(8, 1, 1)
    y = b.op("PRelu", b.op("PRelu", x, slope), slope)
    report = count(classified(b, y, 8))
    assert report.parameters["prelu_slopes"] == 8
    assert report.elementwise["prelu"] == 2 * 8 * 64
    assert any("several readers" in note for note in report.notes)


def test_one_initializer_in_two_roles_counts_in_each() -> None:
    b, x = small()
    one = b.empty(8)
    y = b.op("BatchNormalization", b.op("Relu", x), one, b.empty(8), b.empty(8), one)
    report = count(classified(b, y, 8))
    assert report.parameters["bn_affine"] == report.parameters["bn_statistics"] == 16


def test_batch_and_other_axes() -> None:
    b, x = small()
    model = classified(b, x, 8)
    expected = count(model)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_value = 4
    assert count(model).macs == expected.macs, "a static batch is divided out"
    assert count(model).elementwise == expected.elementwise
    dims[2].dim_param = "height"
    with pytest.raises(CannotCount, match=r"axis 2 \('height'\) of input 'input'"):
        count(model)
    assert count(model, input_shapes={"input": [1, 3, 8, 8]}).macs == expected.macs
    assert count(model, input_shapes={"input": [2, 3, 16, 8]}).macs["stem"] == 2 * expected.macs["stem"]
    for shapes, words in (
        ({"image": [1]}, "no inputs"),
        ({"input": [1, 3]}, "4 axes"),
        ({"input": [0] * 4}, "below 1"),
    ):
        with pytest.raises(CannotCount, match=words):
            count(model, input_shapes=shapes)


def test_shapes_that_inference_cannot_tell_come_from_a_run() -> None:
    pytest.importorskip("onnxruntime")
    b = Builder(["N", 8])
    mask = b.op("Mul", "input", b.const(np.ones(8)))
    indices = b.op("NonZero", mask)
    floats = b.op("Cast", indices, to=TensorProto.FLOAT)
    y = b.op("Relu", b.op("Add", floats, b.const([[1.0], [2.0]])))
    report = count(b.model(y))
    assert report.elementwise["activation"] == 0, "no element of an input of zeros is found"
    broken = b.model(b.op("Relu", b.op("Resize", y, "", "", b.op("Shape", y), name="bad", mode="none")))
    with pytest.raises(CannotCount, match="tensor"):
        count(broken)


def test_maps_that_pass_through_a_sequence_are_moved_once() -> None:
    pytest.importorskip("onnxruntime")
    b = Builder(["N", 8])
    parts = b.op("SplitToSequence", "input", b.const([2, 6], np.int64), axis=1)
    report = count(b.model(b.op("Relu", b.op("SequenceAt", parts, b.const(1, np.int64)))))
    assert dict(report.elementwise) == {"activation": 6, "move": 8}


def test_unknown_operators_and_subgraphs_are_noted() -> None:
    b = Builder([1, 4])
    b.nodes.append(helper.make_node("Mystery", ["input"], ["m"], name="m", domain="my.domain"))
    model = b.model(b.op("Relu", "m"))
    model.opset_import.append(helper.make_opsetid("my.domain", 1))
    model.graph.value_info.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, [1, 4]))
    model.graph.value_info.append(helper.make_tensor_value_info("Relu_1", TensorProto.FLOAT, [9, 9]))
    report = count(model)
    assert dict(report.elementwise) == {"activation": 4, "other": 4}, "stale shapes of standard operators are not used"
    assert report.notes == ("my.domain::Mystery is counted as one operation an output element",)


def test_bytes() -> None:
    b = Builder(["N", 4])
    w = b.const(np.ones((4, 4)), np.float16)
    y = b.op("Relu", b.op("MatMul", "input", b.op("Cast", w, to=TensorProto.FLOAT), name="fc"))
    report = count(b.model(y))
    assert report.initializer_bytes == 32
    assert report.layer("fc").stored_bytes == 32
    assert report.activation_bytes == 2 * 16
    assert report.peak_activation_bytes == 2 * 16


def test_packed_weights_count_what_they_unpack_to() -> None:
    b, x = small()
    table = b.const(1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1))
    bits = b.op("Cast", b.const(np.zeros(72), np.uint8), to=TensorProto.INT32)
    weight = b.op("Reshape", b.op("Gather", table, bits), b.const([8, 8, 3, 3], np.int64))
    report = count(classified(b, b.op("Conv", x, weight, name="inner", pads=[1] * 4), 8))
    assert report.parameters["binary_weights_3x3"] == report.layer("inner").weights == 576
    assert report.layer("inner").stored_bytes == 72
    assert report.layer("inner").binary


def test_violations_are_named() -> None:
    b, x = small()
    y = b.op("Conv", x, b.signs(8, 8, 1, 1), name="inner")
    before = count(classified(b, b.op("Conv", b.op("Sign", y), b.signs(8, 8, 1, 1), name="last"), 8))
    b, x = small()
    after = count(classified(b, b.op("Conv", x, b.signs(4, 8, 1, 1), name="inner"), 4))
    comparison = Comparison(before, after)
    assert not comparison.invariant
    assert comparison.violations == (
        "inner: 64 weights became 32",
        "inner: 4,096 MACs became 2,048",
        "last: the result has no such layer",
    )
    same = Comparison(before, before)
    assert same.invariant
    assert same.totals_equal
    assert not same.grew


def test_counting_is_linear_and_leaves_the_model_alone() -> None:
    b, x = small()
    for _ in range(1500):
        x = b.op("Reshape", b.op("Relu", b.op("Add", x, b.empty(1, 8, 1, 1))), b.const([0, 8, 8, 8], np.int64))
    model = classified(b, x, 8)
    before = model.SerializeToString(deterministic=True)
    assert count(model).parameters["learnable_biases"] == 1500 * 8
    assert model.SerializeToString(deterministic=True) == before


def test_kinds_have_titles_and_an_order() -> None:
    kinds = [
        "classifier_weights",
        "binary_weights_linear",
        "binary_weights_1x1",
        "binary_weights_5x5",
        "stem_weights",
    ]
    expected = [
        "stem_weights",
        "binary_weights_5x5",
        "binary_weights_1x1",
        "binary_weights_linear",
        "classifier_weights",
    ]
    assert in_order("parameters", kinds) == expected
    assert title("parameters", "binary_weights_3x3") == "binary 3x3 weights"
    with pytest.raises(KeyError, match="no cost kind"):
        title("macs", "binary_weights_3x3")
