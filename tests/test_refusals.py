"""Unsuitable input ends in the documented exit code, with a reason that names the culprit, and without a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import compile_file
from onnx import ModelProto, NodeProto, ValueInfoProto, helper
from small_networks import custom_operator, if_node, local_function, loop_node, network, norm_values

FLAG = helper.make_tensor_value_info("flag", 9, [])
TWO = np.array(2.0)


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: object) -> NodeProto:
    """A node that is called as its operator."""
    return helper.make_node(op, inputs, outputs, name=attributes.pop("name", op.lower()), **attributes)


def without_layers() -> ModelProto:
    """A model that has no layer at all."""
    x, y = (helper.make_tensor_value_info(name, 1, ["N", 3]) for name in "xy")
    graph = helper.make_graph([node("Sign", ["x"], ["y"])], "signs", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def multi_bit() -> ModelProto:
    """DoReFa: two bits an activation."""
    constants = {"zero": np.array(0.0), "one": np.array(1.0), "three": np.array(3.0)}
    clip = node("Clip", ["a", "zero", "one"], ["c"])
    steps = (node("Mul", ["c", "three"], ["m"]), node("Round", ["m"], ["r"]), node("Div", ["r", "three"], ["s"]))
    return network(clip, *steps, **constants)


def compiled_before() -> ModelProto:
    """A network that says of itself that it is a result."""
    model = network()
    model.metadata_props.add(key="reptran.beta", value="4")
    return model


#: The classifier's weights behind a map that has four times the channels.
WIDE = {"fc.w": np.random.default_rng(5).normal(size=(5, 32))}


def tiled(*affine: NodeProto) -> ModelProto:
    """A network in RepTran form, beta 2, that does not say so: the layer's output is tiled four times."""
    tile = node("Tile", [affine[-1].output[0] if affine else "y", "times"], ["t"])
    return network(behind=[*affine, tile], times=np.array([1, 4, 1, 1]), **norm_values(), **WIDE)


def expanded() -> ModelProto:
    """The same, as `y[:, None].expand(...).flatten(1, 2)` is exported."""
    steps = [
        node("Unsqueeze", ["y", "axis"], ["u"]),
        node("Expand", ["u", "shape"], ["e"]),
        node("Reshape", ["e", "flat"], ["t"]),
    ]
    shapes = {"axis": np.array([1]), "shape": np.array([1, 4, 1, 1, 1]), "flat": np.array([0, 32, 6, 6])}
    return network(behind=steps, **shapes, **WIDE)


def does_not_run() -> ModelProto:
    """A file that onnx' checker passes in full: a Reshape to a size that no batch has."""
    model = network(behind=[node("Reshape", ["y", "shape"], ["t"], name="misfit")], shape=np.array([0, 8, 7, 7]))
    onnx.checker.check_model(model, full_check=True)
    return model


def with_softmax() -> ModelProto:
    return network(behind=[node("Softmax", ["y"], ["t"], axis=1)])


def squeezed_features() -> ModelProto:
    """`fc(pool(x).squeeze())`: with one image in the batch, features without a batch."""
    model = network(**{"fc.w": np.random.default_rng(5).normal(size=(8, 5))})
    del model.graph.node[-2:]
    model.graph.node.extend([node("Squeeze", ["g"], ["f"]), node("MatMul", ["f", "fc.w"], ["o"], name="fc")])
    return model


def squeezed_logits() -> ModelProto:
    """`conv(pool(x)).squeeze()`, which nobody reads any more."""
    model = network(**{"fc.w": np.random.default_rng(5).normal(size=(5, 8, 1, 1))})
    del model.graph.node[-2:]
    model.graph.node.extend([node("Conv", ["g", "fc.w"], ["c"], name="fc"), node("Squeeze", ["c"], ["o"])])
    return model


def weights_of_an_if(layer: str, *inputs: ValueInfoProto) -> ModelProto:
    """A layer's weights are what an If makes of stored ones, by a stored flag unless `inputs` has one."""
    stored = {} if inputs else {"flag": np.array(True)}
    model = network(inputs=inputs, two=TWO, **stored)
    changed = next(each for each in model.graph.node if each.name == layer)
    model.graph.node.insert(0, if_node(changed.input[1], "chosen"))
    changed.input[1] = "chosen"
    return model


Make = Callable[[], ModelProto]

REFUSED: dict[str, tuple[Make, Sequence[str], int, Sequence[str]]] = {
    "no layer": (without_layers, (), 1, ("no layer",)),
    "no binary layer": (lambda: network(node("Relu", ["a"], ["s"])), (), 1, ("no binary layer",)),
    "multi-bit activations": (multi_bit, (), 1, ("no binary layer",)),
    "a result of the compiler": (compiled_before, (), 1, ("in.onnx", "already a Rep network", "beta 4")),
    "a Rep network, Tile": (tiled, (), 1, ("in.onnx", "already a Rep network", "'tile'", "'layer'", "4 times")),
    "a Rep network, affine and Tile": (
        lambda: tiled(node("BatchNormalization", ["y", *norm_values()], ["n"])),
        (),
        1,
        ("already a Rep network", "'tile'"),
    ),
    "a Rep network, Expand": (expanded, (), 1, ("already a Rep network", "'expand'", "'layer'", "4 times")),
    "no divisible layer": (lambda: network(filters=9), (), 1, ("layer", "9 filters", "not divisible by beta 2")),
    "every layer excluded": (network, ("--exclude", "layer"), 1, ("no layer", "layer")),
    "--exclude names nothing": (network, ("--exclude", "nowhere"), 2, ("--exclude", "'nowhere'", "names no layer")),
    "--include names nothing": (network, ("--include", "nowhere"), 2, ("--include", "'nowhere'", "names no layer")),
    "--strict, not divisible": (
        lambda: network(*two_layers(9), **second(9)),
        ("--strict",),
        1,
        ("'first'", "9 filters", "--strict"),
    ),
    "--strict, Softmax": (with_softmax, ("--strict",), 1, ("'softmax'", "Softmax", "--strict")),
    "--strict, LRN": (
        lambda: network(node("LRN", ["a"], ["l"], size=3), node("Sign", ["l"], ["s"])),
        ("--strict",),
        1,
        ("'lrn'", "LRN", "--strict"),
    ),
    "--strict, Gather": (
        lambda: network(behind=[node("Gather", ["y", "order"], ["t"], axis=1)], order=np.arange(8)[::-1].copy()),
        ("--strict",),
        1,
        ("'gather'", "Gather", "--strict"),
    ),
    "--strict, ConvTranspose": (
        lambda: network(behind=[node("ConvTranspose", ["y", "up"], ["t"])], up=np.ones((8, 8, 2, 2))),
        ("--strict",),
        1,
        ("'convtranspose'", "ConvTranspose", "--strict"),
    ),
    "--strict, local function": (
        lambda: network(behind=[custom_operator("y", "t")], functions=[local_function()], domains=["acme"]),
        ("--strict",),
        1,
        ("'custom'", "acme.Twice", "--strict"),
    ),
    "--strict, Loop": (
        lambda: network(behind=[loop_node("y", "t")], trips=np.array(2)),
        ("--strict",),
        1,
        ("'loop'", "Loop", "--strict"),
    ),
    "a Squeeze of all axes": (squeezed_features, (), 1, ("Squeeze 'squeeze'", "the batch axis too")),
    "weights of an If": (lambda: weights_of_an_if("layer"), (), 1, ("the weights of Conv 'layer'", "If 'choice'")),
    "a classifier of an If": (lambda: weights_of_an_if("fc"), (), 1, ("the weights of Gemm 'fc'", "If 'choice'")),
    "custom operator without a body": (
        lambda: network(behind=[custom_operator("y", "t")], domains=["acme"]),
        (),
        2,
        ("onnxruntime", "acme:Twice"),
    ),
    "does not run": (does_not_run, (), 2, ("does not run in onnxruntime", "misfit")),
    "unknown pass": (network, ("--passes", "polish"), 2, ("--passes", "'polish'", "no such pass")),
}


def two_layers(filters: int) -> tuple[NodeProto, ...]:
    """A layer of so many filters in front of the network's own."""
    return (
        node("Sign", ["a"], ["s1"]),
        node("Conv", ["s1", "w1"], ["y1"], name="first", pads=[1] * 4),
        node("Sign", ["y1"], ["s"], name="sign2"),
    )


def second(filters: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """The weights of `two_layers`."""
    draw = np.random.default_rng(4)
    shapes = {"w1": (filters, 8, 3, 3), "w": (8, filters, 3, 3)}
    return {name: np.sign(draw.normal(size=shape)) for name, shape in shapes.items()}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, flags, code, words = REFUSED[kind]
    done = compile_file(make(), tmp_path, capsys, *flags)
    assert done.code == code, done.err
    assert done.err.startswith("reptran-compile: ") and done.err.count("\n") == 1, "one line, no traceback"
    for word in words:
        assert word in done.err
    assert done.written == () and done.out == ""


BOUNDARIES: dict[str, Make] = {
    "softmax": with_softmax,
    "lrn": lambda: network(node("LRN", ["a"], ["l"], size=3), node("Sign", ["l"], ["s"])),
    "depthtospace": lambda: network(
        node("DepthToSpace", ["a"], ["d"], blocksize=2),
        node("SpaceToDepth", ["d"], ["e"], blocksize=2),
        node("Sign", ["e"], ["s"]),
    ),
    "convtranspose": lambda: network(behind=[node("ConvTranspose", ["y", "up"], ["t"])], up=np.ones((8, 8, 2, 2))),
    "loop": lambda: network(behind=[loop_node("y", "t")], trips=np.array(2)),
    "custom": lambda: network(behind=[custom_operator("y", "t")], functions=[local_function()], domains=["acme"]),
}


@pytest.mark.parametrize("name", BOUNDARIES)
def test_what_no_rule_carries_is_a_boundary_with_a_reason(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = compile_file(BOUNDARIES[name](), tmp_path, capsys)
    assert done.code == 0, done.err
    assert re.search(f"{name}: .*(no rule|over the channels)", done.out) and "verified: " in done.out
    assert any(each.name == name for each in done.model.graph.node)


@pytest.mark.parametrize("where", ["image", "logits"])
@pytest.mark.parametrize("kind", ["If", "Loop", "function"])
def test_subgraphs_and_functions_outside_are_carried(
    kind: str, where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = ("x", "x2") if where == "image" else ("o2", "o")
    make = {"If": if_node, "Loop": loop_node, "function": custom_operator}[kind]
    model = network(inputs=[FLAG] if kind == "If" else [], two=TWO, trips=np.array(2))
    if where == "image":
        model.graph.node[0].input[0] = "x2"
        model.graph.node.insert(0, make(*ends))
    else:
        model.graph.node[-1].output[0] = "o2"
        model.graph.node.append(make(*ends))
    if kind == "function":
        model.functions.append(local_function())
        model.opset_import.append(helper.make_opsetid("acme", 1))
    done = compile_file(model, tmp_path, capsys, "--strict")
    assert done.code == 0, done.err
    assert make(*ends) in done.model.graph.node
    assert list(done.model.functions) == list(model.functions)


def test_logits_may_be_squeezed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = compile_file(squeezed_logits(), tmp_path, capsys)
    assert done.code == 0, done.err


def test_weights_that_an_input_chooses_are_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = compile_file(weights_of_an_if("layer", FLAG), tmp_path, capsys)
    assert done.code == 1 and "no binary layer" in done.err


@pytest.mark.parametrize("flags", [(), ("--strict",), ("--bn", "keep"), ("--fc", "fold")])
def test_a_wide_map_does_not_enter_a_subgraph(
    flags: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network(behind=[if_node("y", "z"), node("Add", ["y", "z"], ["t"])], inputs=[FLAG], two=TWO)
    done = compile_file(model, tmp_path, capsys, *flags)
    assert done.code == 1 and done.written == ()
    assert "subgraph of If" in done.err and "reads 'y'" in done.err and "wide" in done.err


@pytest.mark.parametrize("flags", [(), ("--fc", "fold")])
def test_a_layer_that_only_a_subgraph_reads_is_no_classifier(
    flags: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network(behind=[if_node("y", "t")], inputs=[FLAG], two=TWO)
    done = compile_file(model, tmp_path, capsys, *flags)
    assert done.code == 1 and "subgraph of If" in done.err and "reads 'y'" in done.err


def test_a_subgraph_may_read_any_map_where_none_is_wide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = network(behind=[if_node("y", "z"), node("Add", ["y", "z"], ["t"])], inputs=[FLAG], two=TWO)
    done = compile_file(model, tmp_path, capsys, "--scope", "layer")
    assert done.code == 0, done.err


def in_training_mode() -> ModelProto:
    norm = helper.make_node(
        "BatchNormalization", ["y", *norm_values()], ["t", "mean2", "var2"], name="norm", training_mode=1
    )
    return network(behind=[norm], **norm_values())


def test_batch_norm_in_training_mode_is_kept_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = compile_file(in_training_mode(), tmp_path, capsys, "--bn", "keep")
    assert done.code == 0, done.err
    norm = next(each for each in done.model.graph.node if each.name == "norm")
    assert norm.attribute[0].i == 1 and norm.output[0] == "t"


def test_batch_norm_in_training_mode_is_not_folded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = compile_file(in_training_mode(), tmp_path, capsys)
    assert done.code == 1 and done.written == ()
    assert "'norm'" in done.err and "training mode" in done.err and "--bn keep" in done.err


def test_inputs_with_a_default_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    defaults = [helper.make_tensor_value_info(name, 1, shape) for name, shape in SHAPES.items()]
    done = compile_file(network(inputs=defaults), tmp_path, capsys)
    assert done.code == 0, done.err
    for name in SHAPES:
        assert f"graph input {name!r} has a default value" in done.out
    assert [value.name for value in done.model.graph.input] == ["x", "stem.w"]


SHAPES = {"stem.w": (8, 3, 3, 3), "w": (8, 8, 3, 3)}
