"""Blocks of planted networks. Each takes a map [N, width, 8, 8] and gives one of the same shape."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import helper

from tests.tiny_networks import Net

Block = Callable[[Net, str, int], str]
#: The filters of the hidden linear layer.
WIDE = 24


def growth(net: Net, x: str, width: int) -> str:
    """Concat of a map and what a RepConv makes of it: twice as many channels."""
    y = net.norm(net.binary_conv(x, "grow", (width, width, 3), pads=[1] * 4), "grow.bn", width)
    return net.add("Concat", [x, y], "grown", axis=1)


# What works on each copy alone.


def latent(net: Net, x: str, width: int) -> str:
    """A learnable bias, a latent weight, a dilated convolution, a shortcut, a PRelu."""
    moved = net.add("Add", [x, net.store("latent.move", net.normal(1, width, 1, 1))], "latent.moved")
    signs = net.add("Sign", [moved], "latent.sign")
    weight = net.add("Sign", [net.store("latent.w", net.normal(width, width, 3, 3))], "latent.signs")
    y = net.add("Conv", [signs, weight], "latent.conv", pads=[2] * 4, dilations=[2, 2])
    y = net.norm(y, "latent.bn", width)
    return net.prelu(net.add("Add", [y, x], "latent.add"), "latent.act", width)


def pooled(net: Net, x: str, width: int) -> str:
    """Clip with stored bounds, a padded AveragePool that counts its padding, MaxPool, each of its own stride."""
    bounds = net.store("low", np.float32(-1.5)), net.store("high", np.float32(2.0))
    x = net.add("Clip", [x, *bounds], "clip")
    pads = [0, 0, 1, 1]
    x = net.add("AveragePool", [x], "average", kernel_shape=[2, 2], pads=pads, count_include_pad=1)
    x = net.add("MaxPool", [x], "maximum", kernel_shape=[2, 2], strides=[2, 2])
    return net.add("Resize", [x, "", net.store("scales", np.array([1, 1, 2, 2], np.float32))], "resize", mode="nearest")


def halves(net: Net, x: str, width: int) -> str:
    """Split and Concat of rows, Slices of columns, a Pad of the border."""
    sizes = net.store("rows", np.array([3, 5]))
    net.nodes.append(helper.make_node("Split", [x, sizes], ["upper", "lower"], name="rows.cut", axis=2))
    x = net.add("Concat", ["lower", "upper"], "rows.joined", axis=2)
    starts, ends, axes = (net.store(f"columns.{n}", np.array([v])) for n, v in (("from", 1), ("to", 7), ("on", 3)))
    y = net.add("Slice", [x, starts, ends, axes], "columns")
    around = net.store("columns.pads", np.array([0, 0, 0, 2, 0, 0, 0, 0]))
    y = net.add("Pad", [y, around, net.store("columns.value", np.float32(0.5))], "columns.padded")
    return net.add("Sub", [x, y], "columns.left")


def strided(net: Net, x: str, width: int) -> str:
    """A strided RepConv beside a strided average and a real 1x1 convolution; both grow again."""
    y = net.binary_conv(x, "down", (width, width, 3), pads=[1] * 4, strides=[2, 2])
    y = net.norm(net.add("Add", [y, net.store("down.b", net.normal(1, width, 1, 1))], "down.biased"), "down.bn", width)
    short = net.add("AveragePool", [x], "short.pool", kernel_shape=[2, 2], strides=[2, 2])
    short = net.real_conv(short, "short", (width, width, 1))
    short = net.add("Add", [short, net.store("short.b", net.normal(1, width, 1, 1))], "short.biased")
    y = net.add("LeakyRelu", [net.add("Add", [y, short], "down.add")], "down.act", alpha=0.2)
    return net.add("Resize", [y, "", net.store("up.scales", np.array([1, 1, 2, 2], np.float32))], "up", mode="nearest")


def compared(net: Net, x: str, width: int, form: str) -> str:
    """A RepConv of what is binarised with +1 at 0, spelled with Where, or with Cast."""
    mask = net.add("LessOrEqual", [net.store("compared.zero", np.float32(0)), x], "compared.mask")
    one, minus = (net.store(f"compared.{name}", np.float32(value)) for name, value in (("one", 1), ("minus", -1)))
    if form == "Where":
        signs = net.add("Where", [mask, one, minus], "compared.sign")
    else:
        cast = net.add("Cast", [mask], "compared.cast", to=1)
        twice = net.add("Mul", [net.store("compared.two", np.float32(2)), cast], "compared.twice")
        signs = net.add("Add", [twice, minus], "compared.sign")
    weight = net.store("compared.w", np.sign(net.normal(width, width, 3, 3)))
    y = net.norm(net.add("Conv", [signs, weight], "compared", pads=[1] * 4), "compared.bn", width)
    return net.add("Add", [y, x], "compared.add")


def padded(net: Net, x: str, width: int) -> str:
    """A binarised map, padded with +1, into a convolution that pads nothing; +1 at 0; a grouped one."""
    mask = net.add("GreaterOrEqual", [x, net.store("zero", np.float32(0))], "padded.mask")
    one, minus = net.store("plus", np.float32(1)), net.store("minus", np.float32(-1))
    signs = net.add("Where", [mask, one, minus], "padded.sign")
    around = net.store("around", np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    signs = net.add("Pad", [signs, around, net.store("padding", np.float32(1))], "padded.in")
    weight = net.store("padded.w", np.sign(net.normal(width, width // 2, 3, 3)))
    return net.norm(net.add("Conv", [signs, weight], "padded", group=2), "padded.bn", width)


def depthwise(net: Net, x: str, width: int) -> str:
    """A depthwise convolution."""
    weight = net.store("depth.w", net.normal(width, 1, 3, 3))
    return net.norm(net.add("Conv", [x, weight], "depth", group=width, pads=[1] * 4), "depth.bn", width)


def gated(net: Net, x: str, width: int) -> str:
    """Squeeze-and-excite."""
    y = net.real_conv(net.add("GlobalAveragePool", [x], "squeeze"), "reduce", (12, width, 1))
    y = net.real_conv(net.add("Tanh", [y], "bent"), "expand", (width, 12, 1))
    y = net.add("Sigmoid", [net.add("Add", [y, net.store("gate.b", net.normal(1, width, 1, 1))], "biased")], "gate")
    return net.add("Mul", [x, y], "gated")


def attended(net: Net, x: str, width: int) -> str:
    """A gate for each pixel from the mean over the channels, which is not wide."""
    mean = net.add("ReduceMean", [x], "over.channels", axes=[1])
    return net.add("Mul", [x, net.add("Sigmoid", [mean], "pixel.gate")], "attended")


def bounded(net: Net, x: str, width: int) -> str:
    """Boundaries beside the map: LRN, and a binary convolution whose filters no factor divides."""
    y = net.add("LRN", [x], "lrn", size=3, alpha=0.5)
    moved = net.add("Add", [x, net.store("odd.move", net.normal(1, width, 1, 1))], "odd.moved")
    signs = net.add("Sign", [moved], "odd.sign")
    weight = net.store("odd.w", np.sign(net.normal(7, width, 1, 1)))
    z = net.norm(net.add("Conv", [signs, weight], "odd"), "odd.bn", 7)
    z = net.real_conv(z, "even", (width, 7, 1))
    return net.add("Add", [net.add("Add", [x, y], "bounded.part"), z], "bounded")


def levelled(net: Net, x: str, width: int) -> str:
    """A boundary, behind which all copies are equal."""
    number = sum(node.op_type == "LRN" for node in net.nodes)
    return net.add("LRN", [x], f"level{number}", size=3, alpha=0.1)


# What moves channels.


def doubled(net: Net, x: str, width: int) -> str:
    """Concat of two maps, and a Slice of the channels that are kept."""
    y = net.norm(net.binary_conv(x, "double", (width, width, 1)), "double.bn", width)
    both = net.add("Concat", [x, y], "both", axis=1)
    return _cut(net, both, "kept", width // 2, width * 3 // 2)


def thinned(net: Net, x: str, width: int) -> str:
    """A Slice of channels, and a real convolution that gives the others back."""
    return net.real_conv(_cut(net, x, "few", width // 4, width * 3 // 4), "many", (width, width // 2, 1))


def _cut(net: Net, x: str, name: str, start: int, end: int) -> str:
    """Channels `start` to `end`."""
    bounds = (("from", start), ("to", end), ("on", 1))
    return net.add("Slice", [x, *(net.store(f"{name}.{part}", np.array([value])) for part, value in bounds)], name)


def improved(net: Net, x: str, width: int) -> str:
    """MeliusNet's improvement: Split of channels, of which the last get a sum; Concat."""
    part = width // 3
    sizes = net.store("parts", np.array([width - part, part]))
    net.nodes.append(helper.make_node("Split", [x, sizes], ["rest", "tail"], name="parted", axis=1))
    y = net.norm(net.binary_conv(x, "improve", (part, width, 3), pads=[1] * 4), "improve.bn", part)
    return net.add("Concat", ["rest", net.add("Add", ["tail", y], "better")], "improved", axis=1)


def option_a(net: Net, x: str, width: int) -> str:
    """Every second channel, padded again on both sides, as a shortcut."""
    names = [net.store(f"thin.{n}", np.array([v])) for n, v in (("from", 0), ("to", width), ("on", 1), ("step", 2))]
    thin = net.add("Slice", [x, *names], "thin")
    pads = net.store("thick.pads", np.array([0, 2, 0, 0, 0, width // 2 - 2, 0, 0]))
    thick = net.add("Pad", [thin, pads, net.store("thick.value", np.float32(0.25))], "thick")
    y = net.norm(net.binary_conv(x, "a", (width, width, 3), pads=[1] * 4), "a.bn", width)
    return net.add("Add", [y, thick], "a.add")


def shuffled(net: Net, x: str, width: int) -> str:
    """A channel shuffle of three groups."""
    y = net.add("Reshape", [x, net.store("cut", np.array([0, 3, width // 3, 8, 8]))], "shuffle.in")
    y = net.add("Transpose", [y], "shuffle", perm=[0, 2, 1, 3, 4])
    return net.add("Reshape", [y, net.store("back", np.array([0, width, 8, 8]))], "shuffled")


def head(net: Net, x: str, width: int) -> tuple[str, list[int | str]]:
    """An inner graph output, channels last, a hidden binary linear layer, the classifier; that output and its shape."""
    inner = net.add("Elu", [x], "inner", alpha=0.7)
    y = net.add("AveragePool", [inner], "last.pool", kernel_shape=[4, 4], strides=[4, 4])
    y = net.add("Transpose", [y], "last", perm=[0, 2, 3, 1])
    size = net.add("Gather", [net.add("Shape", [y], "shape"), net.store("first", np.array([0]))], "batch", axis=0)
    target = net.add("Concat", [size, net.store("rest.of.it", np.array([-1]))], "target", axis=0)
    y = net.add("Sign", [net.add("Reshape", [y, target], "flat")], "hidden.sign")
    y = net.add("MatMul", [y, net.store("hidden.w", np.sign(net.normal(4 * width, WIDE)))], "hidden")
    y = net.add("Mul", [y, net.store("hidden.s", net.random.uniform(0.1, 0.3, WIDE).astype(np.float32))], "hidden.y")
    names = [net.store(name, net.normal(*shape)) for name, shape in (("fc.w", (5, WIDE)), ("fc.b", (5,)))]
    net.nodes.append(helper.make_node("Gemm", [y, *names], ["logits"], name="fc", transB=1))
    return inner, ["N", width, 8, 8]


SPACE_BLOCKS: tuple[Block, ...] = (
    latent, pooled, halves, strided, padded, depthwise, gated, attended, bounded,
)  # fmt: skip
CHANNEL_BLOCKS: tuple[Block, ...] = (thinned, doubled, improved, option_a, shuffled)
