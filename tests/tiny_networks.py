"""Small canonical networks, and a RepTran of them by hand with planted mistakes: what the judge's tests
judge.

The replication here is written for a dozen operators and for these networks alone; it shares nothing with the
compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]
EPSILON = 1e-3


class Net:
    """Builds a model node by node; tensors are named after their node."""

    def __init__(self, seed: int = 0, opset: int = 17) -> None:
        self.random = np.random.default_rng(seed)
        self.opset = opset
        self.nodes: list[Any] = []
        self.stored: dict[str, Array] = {}

    def store(self, name: str, value: Any) -> str:
        """Add an initializer; its name."""
        self.stored[name] = np.asarray(value)
        return name

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node with one output of the same name."""
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def normal(self, *shape: int) -> Array:
        """Random parameters."""
        return self.random.standard_normal(shape).astype(np.float32)

    def real_conv(self, x: str, name: str, sizes: tuple[int, int, int], **attributes: Any) -> str:
        """A convolution [Co, Ci, k] with real weights and no bias."""
        co, ci, k = sizes
        weight = self.store(f"{name}.w", self.normal(co, ci, k, k) / np.sqrt(np.float32(ci * k * k)))
        return self.add("Conv", [x, weight], name, **attributes)

    def binary_conv(self, x: str, name: str, sizes: tuple[int, int, int], **attributes: Any) -> str:
        """Sign, +-1 convolution, scale."""
        co, ci, k = sizes
        signs = self.sign(x, f"{name}.sign")
        weight = self.store(f"{name}.w", np.sign(self.normal(co, ci, k, k)))
        y = self.add("Conv", [signs, weight], name, **attributes)
        scale = self.store(f"{name}.s", self.random.uniform(0.05, 0.3, (1, co, 1, 1)).astype(np.float32))
        return self.add("Mul", [y, scale], f"{name}.scaled")

    def sign(self, x: str, name: str) -> str:
        """Sign; below opset 9, which has none, the canonical binarisation that is +1 at 0."""
        if self.opset >= 9:
            return self.add("Sign", [x], name)
        zero, one, two = (self.store(f"const{v}", np.float32(v)) for v in (0, 1, 2))
        mask = self.add("Not", [self.add("Less", [x, zero], f"{name}.less")], f"{name}.not")
        doubled = self.add("Mul", [self.add("Cast", [mask], f"{name}.cast", to=TensorProto.FLOAT), two], f"{name}.two")
        return self.add("Sub", [doubled, one], name)

    def norm(self, x: str, name: str, channels: int) -> str:
        """An inference BatchNormalization."""
        values = (
            self.random.uniform(0.5, 1.5, channels) * self.random.choice([-1, 1], channels),
            self.random.normal(0, 0.5, channels),
            self.random.normal(0, 0.5, channels),
            self.random.uniform(0.01, 2.0, channels),
        )
        names = [self.store(f"{name}.{i}", v.astype(np.float32)) for i, v in enumerate(values)]
        return self.add("BatchNormalization", [x, *names], name, epsilon=EPSILON)

    def prelu(self, x: str, name: str, channels: int) -> str:
        """A PRelu with a slope per channel."""
        return self.add("PRelu", [x, self.store(f"{name}.a", self.normal(channels, 1, 1))], name)

    def head(self, x: str, channels: int) -> ModelProto:
        """Global pooling, Flatten, a linear classifier; the model."""
        x = self.add("GlobalAveragePool", [x], "pool")
        x = self.add("Flatten", [x], "flat")
        weight, bias = self.store("fc.w", self.normal(5, channels)), self.store("fc.b", self.normal(5))
        self.nodes.append(helper.make_node("Gemm", [x, weight, bias], ["logits"], name="fc", transB=1))
        return self.model()

    def model(self) -> ModelProto:
        """The model, with input `input` [N, 3, 8, 8] and output `logits` [N, 5]."""
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 8, 8])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])],
            [numpy_helper.from_array(value, name) for name, value in self.stored.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def plain(opset: int = 17) -> ModelProto:
    """Two blocks with shortcuts; all copies are equal, so only independent feeds can tell their order."""
    net = Net(1, opset)
    x = net.norm(net.real_conv("input", "stem", (12, 3, 3), pads=[1] * 4), "stem.bn", 12)
    y = net.norm(net.binary_conv(x, "one", (12, 12, 3), pads=[1] * 4), "one.bn", 12)
    x = net.prelu(net.add("Add", [y, x], "one.add"), "one.act", 12)
    y = net.norm(net.binary_conv(x, "two", (24, 12, 3), pads=[1] * 4, strides=[2, 2]), "two.bn", 24)
    pooled = net.add("AveragePool", [x], "short.pool", kernel_shape=[2, 2], strides=[2, 2])
    short = net.real_conv(pooled, "short", (24, 12, 1))
    short = net.add("Add", [short, net.store("short.b", net.normal(1, 24, 1, 1))], "short.biased")
    x = net.add("Add", [y, short], "two.add")
    return net.head(x, 24)


def joined() -> ModelProto:
    """Growth by Concat: copies differ by themselves."""
    net = Net(2)
    x = net.norm(net.real_conv("input", "stem", (12, 3, 3), pads=[1] * 4), "stem.bn", 12)
    y = net.norm(net.binary_conv(x, "one", (12, 12, 3), pads=[1] * 4), "one.bn", 12)
    x = net.add("Concat", [x, y], "join", axis=1)
    y = net.norm(net.binary_conv(x, "two", (24, 24, 3), pads=[1] * 4), "two.bn", 24)
    x = net.prelu(net.add("Add", [y, x], "two.add"), "two.act", 24)
    return net.head(x, 24)


_PER_CHANNEL = {"Mul", "Add", "Sub", "PRelu"}


def replicate(model: ModelProto, beta: int, bug: str = "", *, fold: bool = True, fc: str = "widen") -> ModelProto:
    """The RepTran form of `plain` or `joined`, with a mistake of the given name in it.

    Args:
        model: the network.
        beta: the replication factor.
        bug: which mistake, "" for none.
        fold: whether BatchNormalization becomes Mul and Add.
        fc: how the classifier is rewritten.
    """
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    out = Net(0, model.opset_import[0].version)
    out.stored.update({each: value for each, value in stored.items() if value.ndim == 0})
    wide: set[str] = set()
    steps: dict[str, Callable[..., None]] = {"Conv": _conv, "BatchNormalization": _norm, "Gemm": _gemm}
    for node in model.graph.node:
        inputs, name = list(node.input), node.output[0]
        step = steps.get(node.op_type)
        if step is not None:
            step(out, node, stored, wide, beta, bug, fold=fold, fc=fc)
        elif node.op_type in _PER_CHANNEL and inputs[1] in stored:
            value = stored[inputs[1]]
            axis = value.ndim - 3
            widened = np.concatenate([value] * beta, axis=axis) if inputs[0] in wide and value.ndim else value
            if bug == "neighbour's scale" and inputs[1] == "one.s":
                widened = np.roll(widened, 1, axis=axis)
            if bug == "neighbour's slope in one copy" and node.op_type == "PRelu":
                widened = widened.copy()
                widened[-2:] = widened[-2:][::-1].copy()
            out.add(node.op_type, [inputs[0], out.store(inputs[1], widened)], name)
        elif bug == "sign(0) is +1" and name == "two.sign":
            zero, one, minus = (out.store(f"c{v}", np.float32(v)) for v in (0, 1, -1))
            out.add("Where", [out.add("GreaterOrEqual", [inputs[0], zero], "two.mask"), one, minus], name)
        elif bug == "copies swapped" and name == "two.sign":
            half = len(stored["two.w"][0])
            order = np.concatenate([np.arange(half, half * beta), np.arange(half)]).astype(np.int64)
            swapped = out.add("Gather", [inputs[0], out.store("order", order)], "swapped", axis=1)
            out.add("Sign", [swapped], name)
        else:
            if node.op_type == "Concat" and bug == "concat by copies":
                inputs.reverse()
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            out.nodes.append(helper.make_node(node.op_type, inputs, [name], name=node.name, **attributes))
        if any(each in wide for each in inputs) and node.op_type != "Gemm":
            wide.add(name)
    result = out.model()
    if bug == "tensor renamed":
        for node in result.graph.node:
            for names in (node.input, node.output):
                names[:] = ["renamed" if each == "one.act" else each for each in names]
    return result


def _conv(out: Net, node: Any, stored: dict[str, Array], wide: set[str], beta: int, bug: str, **_: Any) -> None:
    x, name = node.input[0], node.output[0]
    weight = stored[node.input[1]]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if x == "input":
        out.add("Conv", [x, out.store(node.input[1], weight)], name, **attributes)
        return
    if bug == "everything a boundary":
        parts = out.nodes.append
        parts(helper.make_node("Split", [x], [f"{name}.c{r}" for r in range(beta)], axis=1))
        mean = out.add("Mean", [f"{name}.c{r}" for r in range(beta)], f"{name}.m")
        y = out.add("Conv", [mean, out.store(node.input[1], weight)], f"{name}.y", **attributes)
        out.nodes[-1].name = name
        out.add("Concat", [y] * beta, name, axis=1)
        out.nodes[-1].name = f"{name}.tile"
        wide.add(name)
        return
    if len(weight) % beta:
        pre = x.replace(".sign", ".pre")
        label = f"{_pre(out, x)}/mean" if bug != "mean behind the sign" else f"{x}/mean"
        mean = _mean(out, _pre(out, x) if bug != "mean behind the sign" else x, beta, label)
        if pre != x and bug != "mean behind the sign":
            mean = out.add("Sign", [mean], f"{x}/mean")
        y = out.add("Conv", [mean, out.store(node.input[1], weight)], f"{name}.y", **attributes)
        out.nodes[-1].name = name
        out.add("Concat", [y] * beta, name, axis=1)
        out.nodes[-1].name = f"{name}.tile"
        wide.add(name)
        return
    rows = np.split(weight, beta)
    if bug == "row blocks reversed":
        rows.reverse()
    moved = np.concatenate(rows, axis=1)
    if bug == "a sign flipped" and name == "two":
        moved[3, 5] *= -1
    if bug == "weights lost":
        moved = moved[:, : weight.shape[1]]
        x = out.add(
            "Slice",
            [x, *(out.store(f"{name}.{v}", np.array([v])) for v in (0, weight.shape[1], 1))],
            f"{name}.x",
        )
    y = out.add("Conv", [x, out.store(node.input[1], moved)], f"{name}.y", **attributes)
    out.nodes[-1].name = name
    repeats = [y] * (beta if bug == "beta for beta^2" else beta * beta)
    if bug == "tile interleaved":
        index = np.repeat(np.arange(len(moved)), beta * beta).astype(np.int64)
        out.add("Gather", [y, out.store(f"{name}.index", index)], name, axis=1)
    else:
        out.add("Concat", repeats, name, axis=1)
    out.nodes[-1].name = f"{name}.tile"
    wide.add(name)


def _pre(out: Net, x: str) -> str:
    """What lies in front of a Sign, or the tensor itself."""
    maker = next(node for node in out.nodes if x in node.output)
    return str(maker.input[0]) if maker.op_type == "Sign" else x


def _mean(out: Net, x: str, beta: int, label: str) -> str:
    """The mean of the copies of a wide map."""
    if any(label in node.output for node in out.nodes):
        return label
    parts = [f"{label}.{r}" for r in range(beta)]
    out.nodes.append(helper.make_node("Split", [x], parts, name=f"{label}.split", axis=1))
    return out.add("Mean", parts, label)


def replicate_layers(model: ModelProto, beta: int, bug: str = "") -> ModelProto:
    """`plain` or `joined` in scope `layer`: drop-in modules between maps of the source's width."""
    result = ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    stored = {tensor.name: tensor for tensor in result.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[0] == "input":
            result.graph.node.append(node)
            continue
        x, w, y = node.input[0], node.input[1], node.output[0]
        rows = np.split(numpy_helper.to_array(stored[w]), beta)
        if bug == "row blocks reversed":
            rows.reverse()
        stored[w].CopyFrom(numpy_helper.from_array(np.concatenate(rows, axis=1), w))
        times = 1 if bug == "tiled once" else beta
        result.graph.node.append(helper.make_node("Concat", [x] * beta, [f"{y}.x"], name=f"{y}.in", axis=1))
        conv = result.graph.node.add()
        conv.CopyFrom(node)
        conv.input[0], conv.output[0] = f"{y}.x", f"{y}.y"
        result.graph.node.append(helper.make_node("Concat", [f"{y}.y"] * times, [y], name=f"{y}.out", axis=1))
    return result


def _norm(
    out: Net,
    node: Any,
    stored: dict[str, Array],
    wide: set[str],
    beta: int,
    bug: str,
    *,
    fold: bool,
    **_: Any,
) -> None:
    x, name = node.input[0], node.output[0]
    scale, bias, mean, variance = (stored[each] for each in node.input[1:])
    if x == "stem":
        names = [out.store(each, stored[each]) for each in node.input[1:]]
        out.add("BatchNormalization", [x, *names], "stem.narrow", epsilon=EPSILON)
        repeats = ["stem.narrow"] * beta
        if bug == "stem interleaved":
            index = np.repeat(np.arange(len(scale)), beta).astype(np.int64)
            out.add("Gather", ["stem.narrow", out.store("stem.index", index)], name, axis=1)
        else:
            out.add("Concat", repeats, name, axis=1)
        wide.add(name)
        return
    if bug == "mean and variance swapped":
        mean, variance = np.abs(variance), np.abs(mean)
    if not fold:
        parts = (scale, bias, mean, variance)
        names = [out.store(e, np.tile(v, beta)) for e, v in zip(node.input[1:], parts, strict=True)]
        epsilon = 1e-5 if bug == "default epsilon" else EPSILON
        out.add("BatchNormalization", [x, *names], name, epsilon=epsilon)
        return
    factor = scale / np.sqrt(variance + (0 if bug == "epsilon forgotten" else EPSILON))
    shift = bias - mean * factor
    shape = (1, -1, 1, 1)
    inner = out.add("Mul", [x, out.store(f"{name}.f", np.tile(factor, beta).reshape(shape))], f"{name}.folded")
    out.add("Add", [inner, out.store(f"{name}.g", np.tile(shift, beta).reshape(shape))], name)


def _gemm(
    out: Net, node: Any, stored: dict[str, Array], wide: set[str], beta: int, bug: str, *, fc: str, **_: Any
) -> None:
    x, name = node.input[0], node.output[0]
    weight, bias = (stored[each] for each in node.input[1:])
    if fc == "fold":
        shape = out.store("fc.shape", np.array([0, beta, -1]))
        x = out.add("ReduceMean", [out.add("Reshape", [x, shape], "fc.copies")], "fc.mean", axes=[1], keepdims=0)
    else:
        weight = np.concatenate([weight] * beta, axis=1) / (1 if bug == "1/beta forgotten" else beta)
    names = [
        out.store(each, value.astype(np.float32)) for each, value in zip(node.input[1:], (weight, bias), strict=True)
    ]
    out.nodes.append(helper.make_node("Gemm", [x, *names], [name], name=node.name, transB=1))
