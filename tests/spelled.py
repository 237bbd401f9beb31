"""One small network in the spelling of every opset: where an attribute became an input, it does so here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tiny_networks import Net

#: How an argument other than the first is given: as an attribute before this opset, as an input from it on.
BECAME_INPUT = {
    "Slice": 10,
    "Clip": 11,
    "Pad": 11,
    "Squeeze": 13,
    "Unsqueeze": 13,
    "Split": 13,
    "ReduceMean": 18,
}


class Spelled(Net):
    """`Net`, with the operators that are spelled by opset."""

    def given(self, op: str, x: str, name: str, outputs: Sequence[str] = (), **arguments: Any) -> str:
        """Add a node whose arguments are attributes or inputs, whichever this opset asks for, in their order.

        Args:
            op: a key of `BECAME_INPUT`.
            x: its first input.
            name: its name, and that of its output unless `outputs` says otherwise.
            outputs: its outputs.
            arguments: name and value; float where ONNX wants floats.
        """
        inputs, attributes = [x], {}
        if self.opset < BECAME_INPUT[op]:
            attributes = arguments
        else:
            if op == "Slice":
                arguments = {key: arguments[key] for key in ("starts", "ends", "axes")}
            inputs += [
                self.store(f"{name}.{key}", np.array(value, np.int64 if isinstance(value, list) else np.float32))
                for key, value in arguments.items()
            ]
        self.nodes.append(helper.make_node(op, inputs, list(outputs) or [name], name=name, **attributes))
        return name

    def split(self, x: str, name: str, sizes: list[int]) -> list[str]:
        """Split along the channels."""
        parts = [f"{name}.{index}" for index in range(len(sizes))]
        if self.opset < BECAME_INPUT["Split"]:
            self.nodes.append(helper.make_node("Split", [x], parts, name=name, axis=1, split=sizes))
        else:
            stored = self.store(f"{name}.sizes", np.array(sizes))
            self.nodes.append(helper.make_node("Split", [x, stored], parts, name=name, axis=1))
        return parts

    def upsample(self, x: str, name: str) -> str:
        """Twice the height and width, each pixel repeated."""
        scales = np.array([1, 1, 2, 2], np.float32)
        if self.opset < 9:
            return self.add("Upsample", [x], name, mode="nearest", scales=scales.tolist())
        stored = self.store(f"{name}.scales", scales)
        if self.opset == 9:
            return self.add("Upsample", [x, stored], name, mode="nearest")
        if self.opset == 10:
            return self.add("Resize", [x, stored], name, mode="nearest")
        none = self.store(f"{name}.roi", np.zeros(0, np.float32)) if self.opset < 13 else ""
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.add("Resize", [x, none, stored], name, mode="nearest", **how)


def block(net: Spelled, x: str, name: str) -> str:
    """Sign, binary convolution, BatchNormalization, PRelu, Add, on 8 channels."""
    y = net.norm(net.binary_conv(x, name, (8, 8, 3), pads=[1] * 4), f"{name}.bn", 8)
    return net.add("Add", [net.prelu(y, f"{name}.act", 8), x], f"{name}.add")


def spelled(opset: int, *, upsampled: bool = False) -> ModelProto:
    """A network with two blocks and every operator of `BECAME_INPUT`; input [N, 3, 8, 8], output [N, 5].

    With `upsampled`, a coarse map is added at full size. The model's IR version is the oldest that knows the
    opset; below version 4 its initializers are inputs.
    """
    net = Spelled(opset, opset)
    x = net.norm(net.real_conv("input", "stem", (8, 3, 3), pads=[1] * 4), "stem.bn", 8)
    x = block(net, x, "one")
    left, right = net.split(x, "halves", [2, 6])
    x = net.add("Concat", [right, left], "joined", axis=1)
    x = net.given("Clip", x, "clipped", min=-1.5, max=1.5)
    short = net.given("Slice", x, "cut", starts=[0], ends=[4], axes=[1])
    short = net.given("Pad", short, "padded", pads=[0, 2, 0, 0, 0, 2, 0, 0])
    x = net.add("Add", [block(net, x, "two"), short], "with cut")
    if upsampled:
        pooled = net.add("AveragePool", [x], "half", kernel_shape=[2, 2], strides=[2, 2])
        x = net.add("Add", [x, net.upsample(pooled, "twice")], "with coarse")
    gate = net.given("ReduceMean", x, "rows", axes=[2, 3])
    gate = net.given("Squeeze", gate, "squeezed", axes=[2, 3])
    gate = net.given("Unsqueeze", gate, "unsqueezed", axes=[2, 3])
    x = net.add("Mul", [x, net.add("Sigmoid", [gate], "gate")], "gated")
    model = net.head(x, 8)
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))
    if model.ir_version < 4:
        for tensor in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


def of_rank(rank: int, dtype: Any = np.float32) -> ModelProto:
    """Two binary layers with a shortcut, convolved along one to three axes; input [N, 3, 6, ...].

    Args:
        rank: how many axes are convolved.
        dtype: of maps and parameters.
    """
    net = Net(rank)
    ones = [1] * rank

    def binary(x: str, name: str) -> str:
        weight = net.store(f"{name}.w", np.sign(net.normal(8, 8, *[3] * rank)))
        y = net.add("Conv", [net.sign(x, f"{name}.sign"), weight], name, pads=[1] * (2 * rank))
        scale = net.store(f"{name}.s", net.random.uniform(0.05, 0.3, (1, 8, *ones)).astype(np.float32))
        return net.norm(net.add("Mul", [y, scale], f"{name}.scaled"), f"{name}.bn", 8)

    weight = net.store("stem.w", net.normal(8, 3, *[3] * rank) / 3)
    x = net.add("Conv", ["input", weight], "stem", pads=[1] * (2 * rank))
    x = net.add("Add", [binary(x, "one"), x], "one.add")
    slope = net.store("act.a", net.normal(8, *ones))
    x = net.add("PRelu", [x, slope], "act")
    x = net.add("MaxPool", [x], "pool2", kernel_shape=[2] * rank, strides=[2] * rank)
    x = net.add("Add", [binary(x, "two"), x], "two.add")
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model = net.head(x, 8)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    shapes = {"input": ["N", 3, *[6] * rank], "logits": ["N", 5]}
    for value in (*model.graph.input, *model.graph.output):
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, shapes[value.name]))
    return model
