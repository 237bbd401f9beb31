"""Networks of other floating types: carried where onnxruntime runs them, refused with its reason where it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from everything import everything
from onnx import ModelProto, TensorProto, helper
from tiny_networks import Net, joined, plain

from benchmarks.retyping import retyped, with_float_ends, with_stored
from reptran_compiler import compile_model
from reptran_compiler.errors import BadInput
from reptran_compiler.model.retyping import holds
from reptran_compiler.model.retyping import retyped as in_type
from reptran_compiler.runtime import compare, random_feeds, run, tolerance
from reptran_compiler.verification import SpecOptions, check_law

FILE = Path(__file__).parent.parent / "models" / "files" / "reactnet-tiny.onnx"


def dense() -> ModelProto:
    """Linear layers alone, which onnxruntime runs in float64: input [N, 20], two binary layers, a classifier."""
    net = Net(3)
    x = "input"
    for name, inner, outer in (("stem", 20, 16), ("one", 16, 16), ("two", 16, 24)):
        weight = net.normal(inner, outer)
        if name != "stem":
            x, weight = net.add("Sign", [x], f"{name}.sign"), np.sign(weight)
        x = net.add("MatMul", [x, net.store(f"{name}.w", weight)], name)
        scale = net.random.uniform(0.05, 0.3, outer).astype(np.float32)
        x = net.norm(net.add("Mul", [x, net.store(f"{name}.s", scale)], f"{name}.scaled"), f"{name}.bn", outer)
    x = net.add("Relu", [x], "relu")
    weights = [net.store("fc.w", net.normal(24, 5)), net.store("fc.b", net.normal(5))]
    net.nodes.append(helper.make_node("Gemm", [x, *weights], ["logits"], name="fc"))
    model = net.model()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", 1, ["N", 20]))
    return model


def thirds() -> ModelProto:
    """One binary convolution of 12 filters, and a classifier."""
    net = Net(5)
    x = net.norm(net.real_conv("input", "stem", (12, 3, 3), pads=[1, 1, 1, 1]), "stem.bn", 12)
    x = net.norm(net.binary_conv(x, "one", (12, 12, 3), pads=[1, 1, 1, 1]), "one.bn", 12)
    x = net.add("Flatten", [net.add("GlobalAveragePool", [x], "pool")], "flat")
    weights = [net.store("fc.w", net.normal(12, 5)), net.store("fc.b", net.normal(5))]
    net.nodes.append(helper.make_node("Gemm", [x, *weights], ["logits"], name="fc"))
    return net.model()


NETWORKS = {"plain": plain, "joined": joined, "everything": everything, "dense": dense, "file": lambda: onnx.load(FILE)}


@pytest.mark.parametrize(
    ("network", "form"),
    [
        ("plain", retyped),
        ("everything", with_float_ends),
        ("dense", retyped),
        ("dense", with_float_ends),
        ("file", retyped),
    ],
)
def test_float16_is_carried(network: str, form: Callable[[ModelProto, str], ModelProto]) -> None:
    model = form(NETWORKS[network](), "float16")
    result = compile_model(model, 2)
    found = result.summary.verification
    assert result.verified and found.pairs_compared == found.pairs_required
    assert found.worst_error is not None and found.worst_error < 2.0**-9
    # Nothing became wider than it was.
    kinds = {tensor.data_type for tensor in result.model.graph.initializer} - {TensorProto.INT64}
    assert kinds == {TensorProto.FLOAT16}
    assert [value.type for value in result.model.graph.input] == [value.type for value in model.graph.input]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("network", ["joined", "dense"])
def test_weights_that_are_stored_in_another_type_are_carried(
    dtype: str, network: str, capfd: pytest.CaptureFixture[str]
) -> None:
    result = compile_model(with_stored(NETWORKS[network](), dtype), 2)
    assert result.verified
    # graphsurgeon has much to say of types that numpy has not.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "options", [{}, {"bn": "keep"}, {"fc": "fold"}, {"scope": "layer"}, {"exclude": ["^two$"]}], ids=str
)
def test_float64_is_carried_where_there_are_kernels(options: dict[str, str]) -> None:
    result = compile_model(retyped(dense(), "float64"), 2, **options)
    found = result.summary.verification
    assert result.verified and found.worst_error is not None and found.worst_error < 1e-14


@pytest.mark.parametrize(("dtype", "network"), [("float64", "plain"), ("bfloat16", "plain"), ("bfloat16", "dense")])
def test_what_has_no_kernel_is_refused_with_the_operator(dtype: str, network: str) -> None:
    with pytest.raises(BadInput, match=rf"(Conv|MatMul).*stem.*holds {dtype}.*float32") as caught:
        compile_model(retyped(NETWORKS[network](), dtype), 2)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_mistake_is_seen_in_every_type(dtype: str) -> None:
    """One number of one parameter, off by a tenth of itself, whatever the values that are fed."""
    model = retyped(dense(), dtype)
    result = compile_model(model, 2, bn="keep")
    assert result.transformation is not None
    canonical, good = result.transformation.canonical, result.transformation.result
    assert check_law(canonical, good, SpecOptions(2)).ok
    for name in ("two.bn.0", "two.bn.3", "fc.b"):
        wrong = ModelProto.FromString(good.SerializeToString())
        read = {name for node in wrong.graph.node for name in node.input}
        tensor = next(each for each in wrong.graph.initializer if each.name.startswith(name) and each.name in read)
        values = onnx.numpy_helper.to_array(tensor).copy()
        values[3] *= 1.1
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        for seed in range(4):
            assert not check_law(canonical, wrong, SpecOptions(2), seed=seed).ok, (name, seed)


def test_constants_of_float16_may_be_rounded_once_more() -> None:
    """A third of a weight is no float16; all else is compared as closely as float32 allows."""
    made = compile_model(retyped(thirds(), "float16"), 3).transformation
    assert made is not None
    report = check_law(made.canonical, made.result, SpecOptions(3))
    assert report.ok and report.worst.relative > 0.0
    wrong = ModelProto.FromString(made.result.SerializeToString())
    bias = next(tensor for tensor in wrong.graph.initializer if tensor.name.startswith("fc.b"))
    values = onnx.numpy_helper.to_array(bias) * np.float16(1.02)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    found = check_law(made.canonical, wrong, SpecOptions(3))
    assert [failure.tensor for failure in found.failures] == ["logits"]
    assert "computed in float32" in found.failures[0].detail
    assert found.evidence is not None and found.evidence.shows()


def test_types_are_told_where_they_hide() -> None:
    """In attributes, branches, functions and sequences; and a way back loses nothing."""
    stored = onnx.numpy_helper.from_array(np.ones(1, np.float16))
    branch = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["shape"], ["y"], value=stored)],
        "branch",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, None)],
    )
    nodes = [
        helper.make_node("RandomNormal", [], ["noise"], dtype=TensorProto.FLOAT16, shape=[2]),
        helper.make_node("Cast", ["noise"], ["cast"], to=TensorProto.FLOAT16),
        helper.make_node("If", ["flag"], ["chosen"], then_branch=branch, else_branch=branch),
        helper.make_node("SequenceConstruct", ["chosen"], ["many"]),
    ]
    sequence = helper.make_tensor_sequence_value_info("many", TensorProto.FLOAT16, None)
    graph = helper.make_graph(nodes, "types", [helper.make_tensor_value_info("flag", TensorProto.BOOL, [])], [sequence])
    function = helper.make_function(
        "d", "f", ["x"], ["y"], [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT16)], []
    )
    model = helper.make_model(graph, functions=[function])
    wide = in_type(model, TensorProto.FLOAT16, TensorProto.FLOAT)
    assert holds(model, TensorProto.FLOAT16) and not holds(wide, TensorProto.FLOAT16)
    kept = [
        str(part).count("elem_type: 10") + str(part).count("data_type: 10") + str(part).count("i: 10")
        for part in (wide.graph, wide.functions[0])
    ]
    assert kept == [0, 0]
    assert in_type(wide, TensorProto.FLOAT, TensorProto.FLOAT16) == model


def test_the_tolerances_are_of_one_measure() -> None:
    """What float16 computes of a network differs from float32 by what float16 may be off by, and no more."""
    model = plain()
    feeds = random_feeds(model, batch=2)
    exact = run(model, feeds, ["stem.bn"])["stem.bn"]
    half = run(retyped(model, "float16"), {"input": feeds["input"].astype(np.float16)}, ["stem.bn"])["stem.bn"]
    found = compare(half.astype(np.float32), exact, np.float16)
    assert found.ok and found.relative > tolerance(np.float32)
    assert not compare(half.astype(np.float32), exact, np.float32).ok
