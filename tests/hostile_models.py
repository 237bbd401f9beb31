"""Models that nobody exports, each a network of `small_networks` with one thing wrong or odd about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from small_networks import custom_operator, local_function, network, norm_values

Array = NDArray[Any]
Make = Callable[[], ModelProto]
FLAG = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> NodeProto:
    """A node that is called as its operator."""
    return helper.make_node(op, inputs, outputs, name=attributes.pop("name", op.lower()), **attributes)


def changed(change: Callable[[ModelProto], object], *nodes: NodeProto, **options: Any) -> ModelProto:
    """A network after a change in place."""
    model = network(*nodes, **options)
    change(model)
    return model


def stored(model: ModelProto, name: str) -> TensorProto:
    """An initializer."""
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def found(model: ModelProto, name: str) -> NodeProto:
    """A node."""
    return next(each for each in model.graph.node if each.name == name)


# -- edges and names -----------------------------------------------------------------------------------------


def circle() -> ModelProto:
    """The layer reads what is made of its output."""
    return changed(lambda m: found(m, "sign").input.__setitem__(0, "y"))


def circle_beside() -> ModelProto:
    """Two nodes that read each other, and that no output needs."""
    return network(behind=[node("Add", ["y", "q"], ["p"]), node("Neg", ["p"], ["q"]), node("Identity", ["y"], ["t"])])


def constant_in_a_circle(read: str) -> ModelProto:
    """A Constant reads a tensor, though it has no operands: onnxruntime does not look."""
    one = numpy_helper.from_array(np.float32(1))
    return network(
        behind=[
            node("Relu", ["y"], ["r"]),
            node("Constant", [read], ["c"], value=one),
            node("Mul", ["r", "c"], ["m"]),
            node("Neg", ["m"], ["t"]),
        ]
    )


def made_twice() -> ModelProto:
    """Two nodes make one tensor."""
    return network(behind=[node("Relu", ["y"], ["t"]), node("Neg", ["y"], ["t"])])


def constant_made_twice() -> ModelProto:
    """Two equal Constants make one tensor, of which onnxruntime takes one."""
    model = network(behind=[node("Mul", ["y", "c"], ["t"])])
    for _ in range(2):
        model.graph.node.insert(0, node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32(1))))
    return model


def stored_twice() -> ModelProto:
    """Two initializers of one name with different values."""
    model = network()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((8, 8, 3, 3), np.float32), "w"))
    return model


def stored_and_made() -> ModelProto:
    """A node makes a tensor of an initializer's name."""
    return network(behind=[node("Relu", ["y"], ["t"])], t=np.ones((1, 8, 6, 6)))


def output_twice() -> ModelProto:
    """The logits are an output twice."""
    return changed(lambda m: m.graph.output.add().CopyFrom(m.graph.output[0]))


def input_twice() -> ModelProto:
    """The image is an input twice."""
    return changed(lambda m: m.graph.input.add().CopyFrom(m.graph.input[0]))


def nodes_of_one_name() -> ModelProto:
    """All nodes have one name, which is legal."""

    def rename(model: ModelProto) -> None:
        for each in model.graph.node:
            each.name = "same"

    return changed(rename)


def without_names() -> ModelProto:
    """No node has a name, nor the graph."""

    def rename(model: ModelProto) -> None:
        for each in model.graph.node:
            each.name = ""

    return changed(rename)


def named(name: str) -> ModelProto:
    """The layer, its weights, its output, the image and the logits have odd names."""
    model = network()
    swap = {old: f"{name}{old}" for old in ("w", "y", "x", "o")}
    for each in model.graph.node:
        each.input[:] = [swap.get(edge, edge) for edge in each.input]
        each.output[:] = [swap.get(edge, edge) for edge in each.output]
        each.name = f"{name}{each.name}"
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.name = swap.get(value.name, value.name)
    return model


def sparse() -> ModelProto:
    """A shift is stored sparse."""
    model = network(behind=[node("Add", ["y", "few"], ["t"], name="shift")])
    values, places = numpy_helper.from_array(np.float32([1.5]), "few"), numpy_helper.from_array(np.array([2]))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [6]))
    return model


def in_latin1(text: str) -> ModelProto:
    """A network in which the second letter of a text has become an umlaut, in an encoding that is not UTF-8."""
    model = network()
    model.doc_string = "written"
    encoded = text.encode()
    changed = encoded[:1] + "\xe4".encode("latin-1") + encoded[2:]
    return ModelProto.FromString(model.SerializeToString().replace(encoded, changed))


# -- stored tensors and sizes --------------------------------------------------------------------------------


def resized(*dims: int) -> ModelProto:
    """The layer's weights say that they have these sizes."""
    return changed(lambda m: stored(m, "w").dims.__setitem__(slice(None), dims))


def filled(value: float, name: str = "w") -> ModelProto:
    """The layer's weights hold one number among the signs."""
    model = network()
    values = numpy_helper.to_array(stored(model, name)).copy()
    values.flat[5] = value
    stored(model, name).CopyFrom(numpy_helper.from_array(values, name))
    return model


def negative_variance() -> ModelProto:
    """A channel that is NaN for every image."""
    values = norm_values()
    values["bn.var"][2] = -1
    names = ["y", "bn.scale", "bn.bias", "bn.mean", "bn.var"]
    return network(behind=[node("BatchNormalization", names, ["t"])], **values)


def attribute_filled(value: float) -> ModelProto:
    """The classifier's alpha is a number."""
    return changed(lambda m: found(m, "fc").attribute.append(helper.make_attribute("alpha", value)))


def constant_factor(value: float) -> ModelProto:
    """A Constant multiplies the layer's output by a number."""
    held = node("Constant", [], ["c"], value_float=value)
    return network(behind=[held, node("Mul", ["y", "c"], ["t"])])


def constant_sparse() -> ModelProto:
    """A Constant holds its shifts sparse."""
    values, places = numpy_helper.from_array(np.float32([1.5])), numpy_helper.from_array(np.array([2]))
    held = node("Constant", [], ["c"], sparse_value=helper.make_sparse_tensor(values, places, [6]))
    return network(behind=[held, node("Add", ["y", "c"], ["t"])])


def overflowing(name: str) -> ModelProto:
    """Weights so large that the sums of a layer overflow, some before their terms cancel."""
    model = network()
    signs = np.sign(np.random.default_rng(0).normal(size=tuple(stored(model, name).dims)))
    stored(model, name).CopyFrom(numpy_helper.from_array(np.float32(1e38 * signs), name))
    return model


def huge(op: str) -> ModelProto:
    """An operator in front of the output that makes an absurdly large tensor."""
    big = np.array([1 << 62], np.int64)
    made = {
        "ConstantOfShape": (["big"], {"big": big}),
        "Expand": (["y", "big"], {"big": np.array([1 << 40, 1, 8, 6, 6], np.int64)}),
        "Tile": (["y", "big"], {"big": np.array([1, 1 << 40, 1, 1], np.int64)}),
        "Reshape": (["y", "big"], {"big": big}),
        "Pad": (["y", "big"], {"big": np.array([0, 0, 0, 1 << 40, 0, 0, 0, 0], np.int64)}),
        "Resize": (["y", "", "", "big"], {"big": np.array([2, 8, 1 << 30, 1 << 30], np.int64)}),
        "Range": (["zero", "big", "one"], {"zero": np.array(0), "big": np.array(1 << 40), "one": np.array(1)}),
        "OneHot": (["pick", "big", "pair"], {"pick": np.array([1]), "big": np.array(1 << 50), "pair": np.ones(2)}),
    }
    inputs, values = made[op]
    model = network(behind=[node(op, inputs, ["z"], name="huge"), node("Identity", ["y"], ["t"])], **values)
    model.graph.output.add(name="z")
    return model


def huge_image(size: int) -> ModelProto:
    """The image is stated to be absurdly large."""
    return changed(lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", size))


# -- nesting -------------------------------------------------------------------------------------------------


def nested(depth: int) -> ModelProto:
    """An If in an If, and so on, on the logits."""
    value = helper.make_tensor_value_info("v", 1, None)
    inner = helper.make_node("Identity", ["o2"], ["v"])
    for _ in range(depth):
        branch = helper.make_graph([inner], "branch", [], [value])
        inner = NodeProto(op_type="If", input=["flag"], output=["v"], name="choice")
        for name in ("then_branch", "else_branch"):
            attribute = inner.attribute.add(name=name, type=5)
            attribute.g.MergeFrom(branch if name == "then_branch" else _plain_branch(value))
    model = network(inputs=[FLAG])
    model.graph.node[-1].output[0] = "o2"
    inner.output[0] = "o"
    model.graph.node.append(inner)
    return model


def _plain_branch(value: Any) -> Any:
    return helper.make_graph([helper.make_node("Neg", ["o2"], ["v"])], "other", [], [value])


def looping(turns: int | None, *condition: NodeProto) -> ModelProto:
    """A Loop on the logits.

    Args:
        turns: how many turns it makes; None for as many as it wants.
        condition: what makes `on`, whether it goes on, from whether it did, `go`; it always does when absent.
    """
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [*(condition or (node("Identity", ["go"], ["on"]),)), node("Identity", ["state"], ["next"], name="step")],
        "body",
        [value("turn", 7, []), value("go", 9, []), value("state", 1, None)],
        [value("on", 9, []), value("next", 1, None)],
    )
    model = network(turns=np.array(turns or 0))
    model.graph.node[-1].output[0] = "o2"
    model.graph.node.append(node("Loop", ["" if turns is None else "turns", "", "o2"], ["o"], body=body))
    return model


def loop_in_loop(turns: int) -> ModelProto:
    """A Loop that makes so many turns in each of as many turns."""
    model = looping(turns)
    outer = model.graph.node[-1].attribute[0].g
    inner = node(
        "Loop", ["turns", "", "state"], ["next"], name="inner", body=looping(turns).graph.node[-1].attribute[0].g
    )
    for value in (*inner.attribute[0].g.input, *inner.attribute[0].g.output):
        value.name = f"{value.name}2"
    for each in inner.attribute[0].g.node:
        each.input[0], each.output[0] = f"{each.input[0]}2", f"{each.output[0]}2"
    outer.node[-1].CopyFrom(inner)
    return model


def truth(value: bool) -> NodeProto:
    """`on` is a Constant."""
    return node("Constant", [], ["on"], value=numpy_helper.from_array(np.array(value)))


#: `on` is computed: nobody knows what it will be.
COMPUTED = (node("Not", ["go"], ["stop"]), node("Not", ["stop"], ["on"], name="again"))


def recursive(*names: str) -> ModelProto:
    """Functions of which each calls the next, and the last the first."""
    functions = []
    for name, called in zip(names, (*names[1:], names[0]), strict=True):
        body = [helper.make_node(called, ["i"], ["j"], domain="acme")]
        functions.append(helper.make_function("acme", name, ["i"], ["j"], body, [helper.make_opsetid("acme", 1)]))
    call = helper.make_node(names[0], ["y"], ["t"], domain="acme")
    return network(behind=[call], functions=functions, domains=["acme"])


def doubling(levels: int) -> ModelProto:
    """Functions of which each calls the next twice."""
    functions = []
    for level in range(levels):
        called, domain = (f"F{level + 1}", "acme") if level + 1 < levels else ("Neg", "")
        body = [helper.make_node(called, [read], [made], domain=domain) for read, made in (("i", "m"), ("m", "j"))]
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)]
        functions.append(helper.make_function("acme", f"F{level}", ["i"], ["j"], body, imports))
    call = helper.make_node("F0", ["y"], ["t"], domain="acme")
    return network(behind=[call], functions=functions, domains=["acme"])


def chain(count: int, op: str = "Relu") -> ModelProto:
    """So many nodes in a row behind the layer."""
    names = ["y", *(f"t{place}" for place in range(count - 1)), "t"]
    model = network(behind=[helper.make_node("Identity", ["y"], ["t"])])
    del model.graph.node[3]
    links = [NodeProto(op_type=op, input=[a], output=[b]) for a, b in zip(names, names[1:], strict=False)]
    tail = list(model.graph.node[3:])
    del model.graph.node[3:]
    model.graph.node.extend(links)
    model.graph.node.extend(tail)
    return model


# -- versions, domains, types --------------------------------------------------------------------------------


def opset(version: int) -> ModelProto:
    """The network says that it has this opset."""
    return changed(lambda m: setattr(m.opset_import[0], "version", version))


def string_input() -> ModelProto:
    """A graph input of strings beside the image, of which nothing depends."""
    words = helper.make_tensor_value_info("words", TensorProto.STRING, [2])
    model = network(inputs=[words])
    model.graph.node.append(node("Identity", ["words"], ["said"]))
    model.graph.output.append(helper.make_tensor_value_info("said", TensorProto.STRING, [2]))
    return model


def stored_strings() -> ModelProto:
    """A stored tensor of strings that becomes an output."""
    model = network()
    model.graph.initializer.append(helper.make_tensor("labels", TensorProto.STRING, [2], [b"cat", b"dog"]))
    model.graph.node.append(node("Identity", ["labels"], ["names"]))
    model.graph.output.append(helper.make_tensor_value_info("names", TensorProto.STRING, [2]))
    return model


def trained() -> ModelProto:
    """Training information, as old exporters of training wrote it."""

    def add(model: ModelProto) -> None:
        information = model.training_info.add()
        information.algorithm.CopyFrom(helper.make_graph([node("Identity", ["w"], ["w2"])], "step", [], []))
        information.update_binding.add(key="w", value="w2")

    return changed(add)


def with_function(domain: str = "acme") -> ModelProto:
    """A custom operator that the file has a body for."""
    function = local_function()
    function.domain = domain
    call = custom_operator("y", "t")
    call.domain = domain
    return network(behind=[call], functions=[function], domains=[domain])


def batch(size: int) -> ModelProto:
    """The batch is fixed to a size."""
    model = network()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    return model


def squeezed() -> ModelProto:
    """Every axis of size 1 is squeezed, as by `x.squeeze()`: with one image in the batch, the batch too."""
    model = network(behind=[node("GlobalMaxPool", ["y"], ["m"]), node("Squeeze", ["m"], ["q"])], axes=np.array([2, 3]))
    model.graph.node.insert(5, node("Unsqueeze", ["q", "axes"], ["t"]))
    return model


def padded_by(word: str) -> ModelProto:
    """The layer's automatic padding is a word."""
    return changed(lambda m: found(m, "layer").attribute.append(helper.make_attribute("auto_pad", word)))


def flagged(value: int) -> ModelProto:
    """The classifier's flag whether its weights are transposed is a number."""
    return changed(lambda m: setattr(found(m, "fc").attribute[0], "i", value))


def attribute_twice() -> ModelProto:
    """The layer has two paddings."""
    return changed(lambda m: found(m, "layer").attribute.add().CopyFrom(found(m, "layer").attribute[0]))


def without_strides() -> ModelProto:
    """The layer has strides, but none for any axis."""
    return changed(lambda m: found(m, "layer").attribute.add(name="strides", type=AttributeProto.INTS))
