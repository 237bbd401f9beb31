"""`--emit qonnx`: what is written is read back as the result, to the bit; qonnx itself runs it in benchmarks/qonnx."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command import compile_file
from onnx import ModelProto, NodeProto, helper
from small_networks import SIGN, custom_operator, local_function, network
from spelled import spelled

from models.toolchains.fixtures import load
from reptran_compiler.cli.verify import main as verify_main
from reptran_compiler.compiler import BadInput, VerificationFailed, compile_model
from reptran_compiler.qonnx import chains, qonnx_operators, standard_operators, writing
from reptran_compiler.runtime import random_feeds, run

DOMAIN = "qonnx.custom_op.general"
ONES = {"zero": np.float32(0), "one": np.float32(1), "minus": np.float32(-1)}


def binarised(source: str, to: str, name: str = "where") -> list[NodeProto]:
    """+1 at 0; reads the numbers of `ONES`."""
    return [
        helper.make_node("GreaterOrEqual", [source, "zero"], [f"{name}/m"], name=f"{name}/mask"),
        helper.make_node("Where", [f"{name}/m", "one", "minus"], [to], name=name),
    ]


def quantiser(source: str, to: str) -> list[NodeProto]:
    """A quantiser, written out; reads `scale`, `shift`, `low` and `high`."""
    return [
        helper.make_node("Div", [source, "scale"], ["q1"], name="q/1"),
        helper.make_node("Add", ["q1", "shift"], ["q2"], name="q/2"),
        helper.make_node("Clip", ["q2", "low", "high"], ["q3"], name="q/3"),
        helper.make_node("Round", ["q3"], ["q4"], name="q/4"),
        helper.make_node("Sub", ["q4", "shift"], ["q5"], name="q/5"),
        helper.make_node("Mul", ["q5", "scale"], [to], name="q/6"),
    ]


def quantised(scale: Any = 0.25, zero: float = 0.0, low: float = -8.0, high: float = 7.0) -> ModelProto:
    """A stem whose output passes a quantiser of 4 bits."""
    numbers = {"scale": scale, "shift": zero, "low": low, "high": high}
    stored = {name: np.float32(value) for name, value in numbers.items()}
    return network(*quantiser("a", "q"), *binarised("q", "s"), **ONES, **stored)


def kinds(model: ModelProto) -> Counter[str]:
    """How many operators of the qonnx domain a model has, by type."""
    return Counter(node.op_type for node in model.graph.node if node.domain == DOMAIN)


def stated(model: ModelProto) -> dict[str, str]:
    """The data types that a model states."""
    return {
        note.tensor_name: entry.value
        for note in model.graph.quantization_annotation
        for entry in note.quant_parameter_tensor_names
        if entry.key == "finn_datatype"
    }


@pytest.mark.parametrize("fc", ["widen", "fold"])
@pytest.mark.parametrize("name", ["brevitas/tfc-cleaned", "brevitas/scaled-dynamo"])
def test_what_is_written_is_what_onnx_says(name: str, fc: str) -> None:
    """Read back, it gives what the compilation to ONNX does; tensors of layers keep their names."""
    fixture = load(name)
    plain, made = (compile_model(fixture.model, 2, fc=fc, emit=each) for each in ("onnx", "qonnx"))
    assert made.verified and kinds(made.model)["BipolarQuant"] >= 2
    expected, found = (run(each, fixture.inputs) for each in (plain.model, standard_operators(made.model)))
    assert all(np.array_equal(expected[key], found[key]) for key in expected)
    before, after = ({n.name for n in each.graph.node} for each in (plain.model, made.model))
    assert {layer.name for layer in made.summary.layers} <= before & after


def test_signs_are_stated() -> None:
    """Weights that are stored as signs, and binarised maps: BIPOLAR."""
    made = compile_model(quantised(), 2, emit="qonnx").model
    types = stated(made)
    (layer,) = (node for node in made.graph.node if node.name == "layer")
    assert types[layer.input[0]] == types[layer.input[1]] == "BIPOLAR"
    assert set(types.values()) == {"BIPOLAR"}


@pytest.mark.parametrize(
    ("arguments", "bits", "signed", "narrow"),
    [
        ({}, 4, 1, 0),
        ({"low": -7.0}, 4, 1, 1),
        ({"low": 0.0, "high": 255.0, "zero": 3.0}, 8, 0, 0),
        ({"low": 0.0, "high": 254.0, "scale": np.full((1, 8, 1, 1), 0.5)}, 8, 0, 1),
    ],
)
def test_a_quantiser_is_found_by_its_bounds(arguments: dict[str, Any], bits: int, signed: int, narrow: int) -> None:
    """Bits, sign and narrow range."""
    made = compile_model(quantised(**arguments), 2, emit="qonnx").model
    (quant,) = (node for node in made.graph.node if node.op_type == "Quant")
    attributes = {each.name: helper.get_attribute_value(each) for each in quant.attribute}
    assert (attributes["signed"], attributes["narrow"], attributes["rounding_mode"]) == (signed, narrow, b"ROUND")
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    assert stored[quant.input[3]] == bits
    assert not {"Div", "Clip", "Round", "Sub"} & {node.op_type for node in made.graph.node}
    assert quant.output[0] == "q"


def brevitas_like(scale: float = 0.02, zero: float = 0.0) -> ModelProto:
    """As Brevitas writes networks whose first and last layers have weights of 8 bits."""
    draw = np.random.default_rng(0)
    shapes = {"stem.w": (8, 3, 3, 3), "w": (8, 8, 3, 3), "fc.w": (8, 5)}
    stored: dict[str, Any] = {name: draw.normal(size=shape) for name, shape in shapes.items()}
    stored |= {"scale": scale, "zero": zero, "bits": 8.0, "one": 1.0}

    def quant(op: str, *inputs: str, **attributes: Any) -> NodeProto:
        return helper.make_node(op, inputs, [f"{inputs[0]}.q"], name=f"{inputs[0]}/quant", domain=DOMAIN, **attributes)

    nodes = [
        quant("Quant", "stem.w", "scale", "zero", "bits", signed=1, narrow=1),
        helper.make_node("Conv", ["x", "stem.w.q"], ["a"], name="stem"),
        quant("BipolarQuant", "a", "one"),
        quant("BipolarQuant", "w", "one"),
        helper.make_node("Conv", ["a.q", "w.q"], ["y"], name="layer"),
        helper.make_node("GlobalAveragePool", ["y"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        quant("Quant", "fc.w", "scale", "zero", "bits", signed=1, narrow=1),
        helper.make_node("MatMul", ["flat", "fc.w.q"], ["o"], name="fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("x", 1, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("o", 1, ["N", 5])],
        [onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in stored.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 2)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("fc", ["widen", "fold"])
@pytest.mark.parametrize(
    ("scale", "zero", "kind"), [(0.02, 0.0, "SCALEDINT<8>"), (1.0, 0.0, "INT8"), (0.02, 3.0, None)]
)
@pytest.mark.parametrize("beta", [2, 4])
def test_weights_of_several_bits_keep_their_type(fc: str, scale: float, zero: float, kind: str, beta: int) -> None:
    """In the first layer and in the classifier, whose weights are a beta-th when it is widened."""
    made = compile_model(brevitas_like(scale, zero), beta, fc=fc, emit="qonnx").model
    types = stated(made)
    layers = {node.name: node for node in made.graph.node}
    whole = fc == "fold" or kind != "INT8"
    assert types.get(layers["stem"].input[1]) == kind
    assert types.get(layers["fc"].input[1]) == (kind if whole else "SCALEDINT<8>")
    assert types[layers["layer"].input[1]] == "BIPOLAR"


def test_bounds_of_no_integer_type_stay_as_they_are() -> None:
    """-5 to 7 are those of none."""
    made = compile_model(quantised(low=-5.0), 2, emit="qonnx").model
    assert kinds(made).keys() == {"BipolarQuant"} and any(node.op_type == "Round" for node in made.graph.node)


def test_a_step_that_is_read_elsewhere_stays() -> None:
    """Its reader still has it."""
    model = quantised()
    model.graph.node.append(helper.make_node("Identity", ["q4"], ["integers"], name="look"))
    model.graph.output.append(helper.make_tensor_value_info("integers", 1, ["N", 8, 6, 6]))
    made = qonnx_operators(model)
    assert any(node.op_type == "Round" for node in made.graph.node) and kinds(made)["Quant"] == 1
    feeds = random_feeds(model, batch=2)
    expected, found = run(model, feeds), run(standard_operators(made), feeds)
    assert all(np.array_equal(expected[key], found[key]) for key in expected)


def test_what_a_subgraph_or_function_reads_stays() -> None:
    """Names inside of an If count as read."""
    behind = [custom_operator("y", "t")]
    model = network(*binarised("a", "s"), **ONES, behind=behind, functions=[local_function()], domains=["acme"])
    made = compile_model(model, 2, emit="qonnx")
    assert made.verified and kinds(made.model) == {"BipolarQuant": 1}


def test_a_shape_is_stated_once_and_of_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not of a graph output, whose shape qonnx refuses to read twice, nor of the steps inside of a quantiser."""
    numbers = {"scale": np.float32(0.25), "shift": np.float32(0), "low": np.float32(-8), "high": np.float32(7)}
    model = network(*binarised("a", "s"), **ONES, **numbers)
    model.graph.node[0].input[0] = "q"
    nodes = [*quantiser("x", "q"), *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model = onnx.shape_inference.infer_shapes(model)
    model.graph.value_info.append(model.graph.output[0])
    found = {}
    for emit in ("onnx", "qonnx"):
        done = compile_file(model, tmp_path, capsys, "--emit", emit)
        assert done.code == 0, done.err
        assert verify_main([str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx")]) == 0
        found[emit] = {value.name for value in done.model.graph.value_info}
    assert {"q", "q4", "o"} <= found["onnx"], "what the compiler does not change stays"
    made = {name for node in done.model.graph.node for name in node.output}
    assert found["qonnx"] == found["onnx"] & made - {"o"} and "q4" not in made


def test_no_operator_reads_a_tensor_twice() -> None:
    """qonnx renames only the first of equal inputs."""
    square = [helper.make_node("Mul", ["y", "y"], ["t"], name="square")]
    model = network(*binarised("a", "s"), **ONES, behind=square)
    for repeat in ("tile", "concat"):
        made = compile_model(model, 2, emit="qonnx", repeat=repeat)
        assert made.verified
        assert all(len(set(node.input)) == len(node.input) for node in made.model.graph.node)


def test_a_sign_that_is_0_at_0_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unless the change is accepted."""
    done = compile_file(network(SIGN), tmp_path, capsys, "--emit", "qonnx")
    assert done.code == 2 and done.written == ()
    assert "is 0 at 0" in done.err and "--sign-zero plus" in done.err and "'layer'" in done.err
    done = compile_file(network(SIGN), tmp_path, capsys, "--emit", "qonnx", "--sign-zero", "plus")
    assert done.code == 0 and kinds(done.model) == {"BipolarQuant": 1}
    assert verify_main([str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx")]) == 0


def test_stored_numbers_without_a_zero_may_be_signed_either_way() -> None:
    """Their Sign becomes BipolarQuant; one 0 among them is refused."""
    for first, refused in ((0.5, False), (0.0, True)):
        latent = np.random.default_rng(0).normal(size=(8, 8, 3, 3)).astype(np.float32)
        latent[0, 0, 0, 0] = first
        model = network(*binarised("a", "s"), **ONES, latent=latent)
        model.graph.node.insert(0, helper.make_node("Sign", ["latent"], ["w"], name="binarise"))
        kept = [each for each in model.graph.initializer if each.name != "w"]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        if refused:
            with pytest.raises(BadInput, match="is 0 at 0"):
                compile_model(model, 2, emit="qonnx")
        else:
            assert kinds(compile_model(model, 2, emit="qonnx").model) == {"BipolarQuant": 2}


def test_an_old_opset_is_refused() -> None:
    """It could not be read back."""
    with pytest.raises(BadInput, match="--emit qonnx: the model has opset 11"):
        compile_model(spelled(11), 2, emit="qonnx")


def test_the_same_bytes_every_time() -> None:
    """As all that the compiler writes."""
    first, second = (compile_model(quantised(), 2, emit="qonnx").model.SerializeToString() for _ in range(2))
    assert first == second


# -- mistakes in the writing are found by the judge ----------------------------------------------------------


def _wrong_bits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(chains.Chains, "_kind", lambda *_: (3, True, False))


def _wrong_scale(patch: pytest.MonkeyPatch) -> None:
    number = writing._Writer._number
    patch.setattr(writing._Writer, "_number", lambda self, value: number(self, 2.0 if value == 1.0 else value))


def _wrong_zero(patch: pytest.MonkeyPatch) -> None:
    operands = writing._Writer._operands
    patch.setattr(writing._Writer, "_operands", lambda self, found: [*operands(self, found)[:2], "one", "qonnx/4"])


@pytest.mark.parametrize("plant", [_wrong_bits, _wrong_scale, _wrong_zero])
def test_a_planted_mistake_is_caught(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written that does not read back as the result."""
    plant(monkeypatch)
    with pytest.raises(VerificationFailed) as error:
        compile_model(quantised(), 2, emit="qonnx")
    assert any("differ" in str(each) or "instead of" in str(each) for each in error.value.failures), error.value
