"""Binary layers as products of integers: every window that a convolution can have, and those that have none."""

from __future__ import annotations

import numpy as np
import pytest
from lowered_networks import kinds, stored
from onnx import ModelProto, TensorProto, helper, numpy_helper

from reptran_compiler.compiler import compile_model
from reptran_compiler.runtime import run

WINDOWS: dict[str, tuple[tuple[int, int], dict[str, object]]] = {
    "3x3": ((3, 3), {"pads": [1, 1, 1, 1]}),
    "no padding": ((3, 3), {}),
    "valid": ((2, 3), {"auto_pad": "VALID"}),
    "strides": ((3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 3]}),
    "dilations": ((3, 2), {"pads": [2, 1, 2, 1], "dilations": [2, 3]}),
    "uneven padding": ((2, 3), {"pads": [0, 1, 1, 2]}),
    "1x1": ((1, 1), {}),
    "1x1 with strides": ((1, 1), {"strides": [2, 2]}),
    "1x1 with padding": ((1, 1), {"pads": [1, 0, 0, 1]}),
    "as large as the map": ((7, 9), {}),
    "larger than the map": ((9, 9), {"pads": [2, 1, 1, 0]}),
}


def layer(kernel: tuple[int, int], attributes: dict[str, object], *, size: object = 7) -> ModelProto:
    """A binary layer between a stem and a classifier, on an image of 7 x 9."""
    draw = np.random.default_rng(3)
    weights = {
        "stem.w": draw.normal(size=(16, 3, 1, 1)),
        "w": np.sign(draw.normal(size=(24, 16, *kernel))),
        "a": draw.normal(size=(24, 1, 1)),
        "fc.w": draw.normal(size=(24, 5)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "stem.w"], ["h"], name="stem"),
        helper.make_node("Sign", ["h"], ["s"], name="sign"),
        helper.make_node("Conv", ["s", "w"], ["c"], name="layer", **attributes),
        helper.make_node("Mul", ["c", "a"], ["d"], name="scale"),
        helper.make_node("GlobalAveragePool", ["d"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "fc.w"], ["y"], name="fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "windows",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, size, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("beta", [1, 2])
@pytest.mark.parametrize("kind", WINDOWS)
def test_windows_of_every_kind_have_the_same_sums(kind: str, beta: int) -> None:
    """Verified, and seen once more beside the judge: what the layer makes of an image is equal to the bit."""
    made = compile_model(layer(*WINDOWS[kind]), beta, optimize="int8")
    assert made.verified and made.transformation is not None
    assert kinds(made.model).count("MatMulInteger") == 1 and "ConvInteger" not in kinds(made.model)
    image = {"x": np.random.default_rng(4).normal(size=(2, 3, 7, 9)).astype(np.float32)}
    name = "c" if beta == 1 else next(n.output[0] for n in made.transformation.result.graph.node if n.name == "layer")
    before, after = (run(model, image, [name])[name] for model in (made.transformation.result, made.model))
    assert np.array_equal(before, after)


@pytest.mark.parametrize(
    "source",
    [
        layer((3, 3), {"pads": [1, 1, 1, 1]}, size="H"),
        layer((3, 3), {"auto_pad": "SAME_UPPER"}),
    ],
    ids=["an image of any size", "padding by the size"],
)
def test_a_layer_without_fixed_windows_is_a_convolution_of_integers(source: ModelProto) -> None:
    made = compile_model(source, 2, optimize="int8")
    assert made.verified
    assert "ConvInteger" in kinds(made.model) and "MatMulInteger" not in kinds(made.model)


def test_sums_of_signs_are_products_too() -> None:
    """Weights are no signs where a layer reads one copy of several."""
    made = compile_model(layer((3, 3), {"pads": [1, 1, 1, 1]}), 2, optimize="int8")
    name = next(node for node in made.model.graph.node if node.op_type == "MatMulInteger").input[1]
    values = numpy_helper.to_array(stored(made.model, name))
    assert values.dtype == np.int8 and set(np.unique(values)) == {-2, 0, 2}
    assert values.shape == (9 * 16, 12)


def test_windows_are_stored_once_and_take_next_to_nothing() -> None:
    """A few hundred bytes, however many layers look at maps of one size."""
    twice = layer((3, 3), {"pads": [1, 1, 1, 1]})
    twice.graph.node.insert(3, helper.make_node("Conv", ["s", "w"], ["c2"], name="layer2", pads=[1, 1, 1, 1]))
    twice.graph.node.insert(4, helper.make_node("Add", ["c", "c2"], ["both"], name="both"))
    twice.graph.node[5].input[0] = "both"
    made = compile_model(twice, 1, optimize="int8").model
    assert kinds(made).count("MatMulInteger") == 2
    extra = [t for t in made.graph.initializer if "windows" in t.name or t.name.startswith("number")]
    assert sum(len(t.raw_data) for t in extra) < 500
    assert len({t.raw_data for t in extra}) == len(extra)


@pytest.mark.parametrize("opset", [12, 13, 21])
def test_products_are_written_in_the_opset_of_the_source(opset: int) -> None:
    source = layer((3, 3), {"pads": [1, 1, 1, 1]})
    source.opset_import[0].version = opset
    made = compile_model(source, 2, optimize="int8", weights="packed")
    assert made.verified and "MatMulInteger" in kinds(made.model)
    assert made.model.opset_import[0].version == opset


def test_a_map_whose_size_follows_the_batch_has_no_fixed_windows() -> None:
    """Images of a batch one below the other: the layer's map is as high as there are images."""
    source = layer((3, 3), {"pads": [1, 1, 1, 1]})
    nodes = {node.name: node for node in source.graph.node}
    nodes["stem"].input[0] = "stacked"
    source.graph.node.insert(0, helper.make_node("Transpose", ["x"], ["turned"], name="turn", perm=[1, 0, 2, 3]))
    source.graph.node.insert(1, helper.make_node("Reshape", ["turned", "shape"], ["stacked"], name="stack"))
    source.graph.initializer.append(numpy_helper.from_array(np.array([1, 3, -1, 9]), "shape"))
    source.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    made = compile_model(source, 1, optimize="int8")
    assert made.verified
    assert "MatMulInteger" not in kinds(made.model) and "ConvInteger" in kinds(made.model)
