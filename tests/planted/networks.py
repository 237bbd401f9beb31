"""The networks that mistakes are planted in: small, and between them with every construct that the compiler carries.

`equal` and `mixed` consist of the same blocks. In `mixed` a Concat stands in front of them, so that copies differ
everywhere; in `equal` they are equal in front of every block.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorAnnotation, TensorProto, helper, numpy_helper

from tests.planted.blocks import CHANNEL_BLOCKS, SPACE_BLOCKS, compared, growth, head, levelled, strided
from tests.tiny_networks import Net, joined, plain

ROOT = Path(__file__).parents[2]
#: Real exports: the smallest of `tests/golden`, and the committed model.
FILES = (
    "tests/golden/bireal.dynamo.onnx",
    "tests/golden/dense.torchscript.onnx",
    "tests/golden/hidden_linear.torchscript.onnx",
    "tests/golden/negative_gamma.unfused.onnx",
    "tests/golden/react.dynamo.onnx",
    "tests/golden/resnet_pad.torchscript.onnx",
    "tests/golden/se_grouped.dynamo.onnx",
    "tests/golden/split_shuffle.torchscript.onnx",
)
WIDTH = 12


def equal() -> ModelProto:
    """Every block, those that mix copies last, each behind a boundary."""
    net, x = _begun(6)
    for block in SPACE_BLOCKS:
        x = block(net, x, WIDTH)
    for block in CHANNEL_BLOCKS:
        x = levelled(net, block(net, x, WIDTH), WIDTH)
    return _finished(net, head(net, x, WIDTH))


def mixed() -> ModelProto:
    """Every block behind a Concat, those that mix copies first."""
    net, x = _begun(7)
    x = growth(net, x, WIDTH)
    for block in (*CHANNEL_BLOCKS, *reversed(SPACE_BLOCKS)):
        x = block(net, x, 2 * WIDTH)
    return _finished(net, head(net, x, 2 * WIDTH), "grow.bn")


def alternating() -> ModelProto:
    """Every block, one of each sort in turn."""
    net, x = _begun(8)
    order = [block for pair in zip(SPACE_BLOCKS, CHANNEL_BLOCKS, strict=False) for block in pair]
    for block in dict.fromkeys((*order, *SPACE_BLOCKS, *CHANNEL_BLOCKS)):
        x = block(net, x, WIDTH)
    return _finished(net, head(net, x, WIDTH))


def spelled(form: str) -> ModelProto:
    """A binarisation in a spelling that is not the canonical one, copies that differ, a strided block."""
    net, x = _begun(9)
    x = growth(net, x, WIDTH)
    x = strided(net, compared(net, x, 2 * WIDTH, form), 2 * WIDTH)
    return _finished(net, head(net, x, 2 * WIDTH), "grow.bn")


def fresh() -> ModelProto:
    """`plain` as it is before training: slopes, scales, offsets and statistics of all channels are equal."""
    model = plain()
    values = {"0": 1.0, "1": 0.0, "2": 0.0, "3": 1.0, "a": 0.25}
    for tensor in model.graph.initializer:
        part = tensor.name.rsplit(".", 1)[-1]
        if part in values:
            value = np.full_like(numpy_helper.to_array(tensor), values[part])
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return model


def dressed(model: ModelProto, norm: str) -> ModelProto:
    """A network that says something of everything in it, with a local function and an If behind its first output.

    Args:
        model: the network; it is changed.
        norm: a BatchNormalization that reads the scale of the stem's, as exporters merge parameters of one value.
    """
    graph, out = model.graph, model.graph.output[0].name
    for node in graph.node:
        node.input[:] = ["stem.bn.0" if name == f"{norm}.0" else name for name in node.input]
    graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == f"{norm}.0"))
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = ["raw" if name == out else name for name in names]
    twice = helper.make_function(
        "acme", "Twice", ["i"], ["j"], [helper.make_node("Add", ["i", "i"], ["j"])], [helper.make_opsetid("", 17)]
    )
    model.functions.append(twice)
    model.opset_import.append(helper.make_opsetid("acme", 1))
    graph.node.append(helper.make_node("Twice", ["raw"], ["doubled"], name="function", domain="acme"))
    graph.node.append(_choice("doubled", out))
    graph.initializer.append(numpy_helper.from_array(np.float32(3), "three"))
    graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
    model.producer_name, model.doc_string = "planted", "what the model is for"
    model.metadata_props.add(key="author", value="someone")
    graph.doc_string = "what the graph is for"
    graph.input[0].doc_string, graph.output[0].doc_string = "an image", "scores"
    for node in graph.node:
        node.doc_string = f"why {node.name}"
        node.metadata_props.add(key="origin", value=f"line of {node.name}")
    for tensor in graph.initializer:
        tensor.doc_string = f"what {tensor.name} holds"
    for name in ("raw", "doubled"):
        graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 5], f"about {name}"))
    for tensor in ("input", "raw"):
        note = TensorAnnotation(tensor_name=tensor)
        note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=f"{tensor}/scale")
        graph.quantization_annotation.append(note)
        graph.initializer.append(numpy_helper.from_array(np.float32(0.5), f"{tensor}/scale"))
    return model


def _choice(read: str, made: str) -> onnx.NodeProto:
    """`flag ? 3 * read : read`, both read from inside of the branches."""
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("yes", "no")]
    yes = helper.make_graph([helper.make_node("Mul", [read, "three"], ["yes"], name="then")], "then", [], outputs[:1])
    no = helper.make_graph([helper.make_node("Identity", [read], ["no"], name="else")], "else", [], outputs[1:])
    return helper.make_node("If", ["flag"], [made], name="choice", then_branch=yes, else_branch=no)


def _begun(seed: int) -> tuple[Net, str]:
    net = Net(seed)
    return net, net.norm(net.real_conv("input", "stem", (WIDTH, 3, 3), pads=[1] * 4), "stem.bn", WIDTH)


def _finished(net: Net, inner: tuple[str, list[int | str]], norm: str = "latent.bn") -> ModelProto:
    model = net.model()
    model.graph.output.append(helper.make_tensor_value_info(inner[0], TensorProto.FLOAT, inner[1]))
    return dressed(model, norm)


def _file(path: str) -> Callable[[], ModelProto]:
    return lambda: onnx.load(ROOT / path)


#: The sources by name.
SOURCES: dict[str, Callable[[], ModelProto]] = {
    "equal": equal,
    "mixed": mixed,
    "alternating": alternating,
    "plain": lambda: dressed(plain(), "one.bn"),
    "joined": lambda: dressed(joined(), "one.bn"),
    "fresh": fresh,
    "spelled with Where": lambda: spelled("Where"),
    "spelled with Cast": lambda: spelled("Cast"),
    **{Path(path).stem: _file(path) for path in FILES},
    "reactnet-tiny": _file("models/files/reactnet-tiny.onnx"),
}
