"""A network with every construct that moves channels, small."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper
from tiny_networks import Net


def everything() -> ModelProto:
    """Latent weights, option A, shuffle and groups, Split, Slice, Pad with +1, depthwise, a gate, a boundary."""
    net = Net(5)
    x = net.norm(net.real_conv("input", "stem", (12, 3, 3), pads=[1] * 4), "stem.bn", 12)
    x = _latent_block(net, x)
    x = _option_a(net, x)
    x = _shuffled_groups(net, x)
    x = _improved(net, x)
    x = _padded(net, x)
    x = net.add("Conv", [x, net.store("dw.w", net.normal(24, 1, 3, 3))], "dw", group=24, pads=[1] * 4)
    x = net.norm(x, "dw.bn", 24)
    x = _gated(net, x)
    x = net.add("LRN", [x], "lrn", size=3, alpha=0.5)
    x = net.add("Relu", [net.add("Add", [x, net.store("shift", net.normal(1, 24, 1, 1))], "shifted")], "inner")
    y = net.norm(net.binary_conv(x, "grow", (12, 24, 1)), "grow.bn", 12)
    x = net.add("MaxPool", [net.add("Concat", [x, y], "grown", axis=1)], "pooled", kernel_shape=[2, 2], strides=[2, 2])
    x = net.add("GlobalAveragePool", [net.norm(x, "last.bn", 36)], "mean")
    x = net.add("Reshape", [x, net.store("vector", np.array([0, -1]))], "flat")
    weight, bias = net.store("fc.w", net.normal(5, 36)), net.store("fc.b", net.normal(5))
    net.nodes.append(helper.make_node("Gemm", [x, weight, bias], ["logits"], name="fc", transB=1))
    model = net.model()
    model.graph.output.append(helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["N", 24, 4, 4]))
    return model


def _latent_block(net: Net, x: str) -> str:
    signs = net.add("Sign", [net.add("Add", [x, net.store("move", net.normal(1, 12, 1, 1))], "moved")], "first.sign")
    weight = net.add("Sign", [net.store("first.latent", net.normal(12, 12, 3, 3))], "first.signs")
    y = net.norm(net.add("Conv", [signs, weight], "first", pads=[1] * 4), "first.bn", 12)
    return net.prelu(net.add("Add", [y, x], "first.add"), "first.act", 12)


def _option_a(net: Net, x: str) -> str:
    y = net.norm(net.binary_conv(x, "down", (24, 12, 3), pads=[1] * 4, strides=[2, 2]), "down.bn", 24)
    bounds = ([0, 0], [2**31 - 1] * 2, [2, 3], [2, 2])
    names = [net.store(f"stride{place}", np.array(each)) for place, each in enumerate(bounds)]
    pads = net.store("pads", np.array([0, 4, 0, 0, 0, 8, 0, 0]))
    return net.add("Add", [y, net.add("Pad", [net.add("Slice", [x, *names], "thin"), pads], "short")], "down.add")


def _shuffled_groups(net: Net, x: str) -> str:
    y = net.add("Reshape", [x, net.store("split", np.array([0, 3, 8, 4, 4]))], "shuffle.in")
    y = net.add("Transpose", [y], "shuffle", perm=[0, 2, 1, 3, 4])
    y = net.add("Reshape", [y, net.store("join", np.array([0, 24, 4, 4]))], "shuffle.out")
    signs = net.add("Sign", [y], "grouped.sign")
    weight = net.store("grouped.w", np.sign(net.normal(24, 12, 3, 3)))
    y = net.norm(net.add("Conv", [signs, weight], "grouped", pads=[1] * 4, group=2), "grouped.bn", 24)
    return net.add("Add", [y, x], "grouped.add")


def _improved(net: Net, x: str) -> str:
    y = net.norm(net.binary_conv(x, "improve", (8, 24, 3), pads=[1] * 4), "improve.bn", 8)
    sizes = net.store("sizes", np.array([16, 8]))
    net.nodes.append(helper.make_node("Split", [x, sizes], ["kept", "last"], name="cut", axis=1))
    low = [net.store(f"low{place}", np.array([each])) for place, each in enumerate((0, 8, 1))]
    high = [net.store(f"high{place}", np.array([each])) for place, each in enumerate((8, 16, 1))]
    parts = [net.add("Slice", ["kept", *high], "upper"), net.add("Slice", ["kept", *low], "lower")]
    return net.add("Concat", [*parts, net.add("Add", ["last", y], "better")], "improved", axis=1)


def _padded(net: Net, x: str) -> str:
    signs = net.add("Sign", [x], "padded.sign")
    pads, one = net.store("around", np.array([0, 0, 1, 1, 0, 0, 1, 1])), net.store("plus", np.float32(1))
    wide = net.add("Pad", [signs, pads, one], "padded.in")
    weight = net.store("padded.w", np.sign(net.normal(24, 24, 3, 3)))
    return net.norm(net.add("Conv", [wide, weight], "padded"), "p.bn", 24)


def _gated(net: Net, x: str) -> str:
    y = net.real_conv(net.add("GlobalAveragePool", [x], "squeeze"), "reduce", (8, 24, 1))
    y = net.add("Sigmoid", [net.real_conv(net.add("Tanh", [y], "bent"), "expand", (24, 8, 1))], "gate")
    return net.add("Mul", [x, y], "gated")
