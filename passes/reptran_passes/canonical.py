"""Canonicalisation beyond single patterns: constants folded, binary weights factored, biases behind layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Constant, Graph, Node, Tensor, Variable
from reptran_passes.binarisation import binarised, sign_up

Array = NDArray[Any]
_CARRY = frozenset(
    {
        "MaxPool",
        "Reshape",
        "Flatten",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Identity",
        "Slice",
        "Split",
        "Pad",
        "Concat",
        "Dropout",
        "Gather",
    }
)
_KEEPS_RANGE = _CARRY | {"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax"}
_NOT_NEGATIVE = frozenset({"Relu", "Sigmoid", "Abs", "Exp", "Softplus", "HardSigmoid", "Softmax", "Sqrt"})
_ONE_MAGNITUDE = 1e-5


def fold_constants(g: Graph, runs: list[dict[str, Array]]) -> None:
    """Store tensors that are the same in runs at different sizes of every dynamic axis.

    Args:
        g: the graph.
        runs: values, in two runs of different sizes, of every tensor that depends on no data.
    """
    first, second = runs
    for node in list(g.nodes):
        for tensor in list(node.outputs):
            a, b = first.get(tensor.name), second.get(tensor.name)
            if a is None or b is None or a.shape != b.shape or not np.array_equal(a, b):
                continue
            if not tensor.outputs or g.is_output(tensor):
                continue
            if node.op in ("Sign", "Where") and binarised(tensor) is not None:
                continue
            g.redirect(tensor, Constant(g.fresh(tensor.name), a))
    g.tidy()


def settle_reshapes(
    g: Graph, runs: list[dict[str, Array]], shapes: list[Mapping[str, tuple[int, ...]]]
) -> None:
    """Give Reshapes whose target is computed a constant one: 0 where an axis is copied, -1 where it is free."""
    for node in g.nodes:
        if node.op != "Reshape" or isinstance(node.inputs[1], Constant):
            continue
        values = [run.get(node.inputs[1].name) for run in runs]
        if values[0] is None or values[1] is None or values[0].shape != values[1].shape:
            continue
        read = [shape.get(node.inputs[0].name) for shape in shapes]
        if read[0] is None or read[1] is None:
            continue
        made = [[int(d) for d in v] for v in values]
        target, free = [], 0
        for axis, (a, b) in enumerate(zip(made[0], made[1], strict=True)):
            if a == b and a != 0:
                target.append(a)
            elif axis < len(read[0]) and (a, b) == (read[0][axis], read[1][axis]):
                target.append(0)
            else:
                target.append(-1)
            free += target[-1] == -1
        if free <= 1:
            node.inputs[1] = g.constant(f"{node.name}/shape", target, np.int64)
            node.attrs.pop("allowzero", None)
    g.tidy()


def drop_identities(g: Graph) -> None:
    """Let readers of an Identity read what it reads; one whose output is a graph output stays."""
    for node in g.nodes:
        if node.op_type == "Identity" and not g.is_output(node.outputs[0]):
            g.redirect(node.outputs[0], node.inputs[0])
    g.tidy()


def drop_expands(g: Graph, facts: Mapping[str, Any]) -> None:
    """Let an Add (Sub, Mul, Div) broadcast a constant itself, instead of reading it expanded."""
    for node in g.nodes:
        if node.op not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
            continue
        for here, other in ((0, 1), (1, 0)):
            tensor = node.inputs[here]
            if (
                tensor.inputs
                and tensor.inputs[0].op == "Expand"
                and isinstance(tensor.inputs[0].inputs[0], Constant)
            ):
                shape = facts[node.outputs[0].name].shape
                if facts[node.inputs[other].name].shape == shape:
                    node.inputs[here] = tensor.inputs[0].inputs[0]
    g.tidy()


@dataclass(frozen=True)
class Factored:
    """What factoring found of a layer: whether its weights are binary, and where they come from."""

    binary: bool
    weight: str
    scaled: bool


def binary_inputs(g: Graph) -> set[str]:
    """The tensors of which every part is the output of a binarisation of values of both signs."""
    binary: set[str] = set()
    half: set[str] = set()
    for node in g.nodes:
        reads = [t.name for t in node.inputs if isinstance(t, Variable) and t.name]
        out = [t.name for t in node.outputs]
        source = binarised(node.outputs[0]) if node.outputs else None
        if node.op in _NOT_NEGATIVE or (
            node.op == "Clip" and _floor(node) is not None and _floor(node) >= 0.0
        ):
            half.update(out)
        elif source is not None:
            if not (node.op == "Sign" and source.name in half):
                binary.update(out)
        elif node.op in _KEEPS_RANGE and any(name in half for name in reads):
            half.update(out)
        elif node.op in _CARRY and reads and all(name in binary for name in reads):
            binary.update(out)
    return binary


def _floor(node: Node) -> Any:
    if "min" in node.attrs:
        return node.attrs["min"]
    low = node.input(1)
    return float(low.values.reshape(-1)[0]) if isinstance(low, Constant) else None


def weight_position(node: Node, values: Mapping[str, Array]) -> int | None:
    """Which input of a layer holds its constant weights; None where the node is no layer."""

    def known(t: Tensor | None) -> bool:
        return t is not None and (isinstance(t, Constant) or t.name in values)

    if node.op not in ("Conv", "Gemm", "MatMul"):
        return None
    if known(node.input(1)):
        return None if known(node.input(0)) else 1
    return 0 if node.op == "MatMul" and known(node.input(0)) else None


def factor_layers(
    g: Graph, facts: Mapping[str, Any], values: dict[str, Array], inner: set[str], classifiers: set[str]
) -> dict[str, Factored]:
    """Bring every inner layer into canonical form: signs alone in a binary layer, scale and bias behind it.

    Args:
        facts: shapes by name.
        values: evaluated constants by name.
        inner: node names of layers that are neither stem nor narrow nor depthwise.
        classifiers: those of them that stay whole unless they are binary.
    """
    found: dict[str, Factored] = {}
    binary_in = binary_inputs(g)
    for node in list(g.nodes):
        position = weight_position(node, values)
        if position is None:
            continue
        bias = node.input(2)
        if bias is not None and not isinstance(bias, Constant):
            if bias.name not in values:
                continue
            node.inputs[2] = Constant(g.fresh(f"{bias.name}/value"), values[bias.name])
        tensor = node.inputs[position]
        weight = tensor.values if isinstance(tensor, Constant) else values[tensor.name]
        reads = node.inputs[1 - position].name
        axis = (
            0
            if node.op == "Conv" or (node.op == "Gemm" and node.attrs.get("transB", 0)) or position == 0
            else -1
        )
        plain = node.op != "Gemm" or (node.attrs.get("alpha", 1.0) == 1.0 and not node.attrs.get("transA", 0))
        scale = _magnitude(weight, axis) if reads in binary_in and plain and node.name in inner else None
        name = _origin(tensor)
        if scale is None:
            found[node.name] = Factored(False, name, False)
            if not isinstance(tensor, Constant) and tensor.name in values:
                node.inputs[position] = Constant(g.fresh(name + "/value"), weight)
            if node.name in inner and node.name not in classifiers and plain and node.input(2) is not None:
                _behind(g, node, None, facts)
            continue
        shaped = scale.reshape([-1 if a == axis % weight.ndim else 1 for a in range(weight.ndim)])
        node.inputs[position] = _signs(g, tensor, weight, shaped, values)
        scaled = not bool((scale == 1.0).all())
        found[node.name] = Factored(True, name, scaled)
        _behind(g, node, scale if scaled else None, facts)
    g.tidy()
    return found


def _magnitude(weight: Array, axis: int) -> Array | None:
    """One positive magnitude per filter, or None where the weights are not binary."""
    rows = np.abs(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1))
    zeros = int((rows == 0).sum())
    if zeros > max(3, rows.size // 1000):
        return None
    top = rows.max(axis=1, initial=0.0)
    near = np.abs(rows - top[:, None]) <= _ONE_MAGNITUDE * top[:, None]
    if not bool((near | (rows == 0)).all()) or not bool((top > 0).all()):
        return None
    middle = np.array([np.median(row[row > 0]) for row in rows], dtype=weight.dtype)
    scale: Array = np.where(np.abs(middle - 1) <= 1e-7, 1, middle).astype(weight.dtype)
    return scale


def _origin(tensor: Tensor) -> str:
    """The stored tensor that weights come from: the largest one above them."""
    best, stack, seen = tensor, [tensor], set()
    size = -1
    while stack:
        here = stack.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        if isinstance(here, Constant):
            count = int(np.prod(here.shape))
            if count > size:
                best, size = here, count
        stack += [t for n in here.inputs for t in n.inputs]
    return str(best.name)


def _signs(g: Graph, tensor: Tensor, weight: Array, scale: Array, values: Mapping[str, Array]) -> Tensor:
    """The canonical weights of a binary layer: the binarisation of a latent tensor where there is one."""
    signs = np.sign(weight)
    stack, seen = [tensor], set()
    while stack:
        here = stack.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        latent = binarised(here)
        if latent is not None:
            value = latent.values if isinstance(latent, Constant) else values.get(latent.name)
            if value is not None and value.shape == weight.shape:
                up = here.inputs[0].op != "Sign"
                for turn in (1, -1):
                    turned = np.sign(value) if not up else np.where(value >= 0, 1, -1)
                    if np.array_equal(turn * turned, signs):
                        if turn == -1 and up and (value == 0).any():
                            continue
                        kept = (
                            latent
                            if isinstance(latent, Constant) and turn == 1
                            else Constant(
                                g.fresh(_origin(latent) + "/latent"), np.ascontiguousarray(turn * value)
                            )
                        )
                        made = (
                            sign_up(g, kept, value.dtype)
                            if up and (value == 0).any()
                            else g.node("Sign", [kept], name="weight/sign").outputs[0]
                        )
                        nodes = [made.inputs[0]]
                        while nodes:
                            node = nodes.pop()
                            if node not in g.nodes:
                                g.nodes.append(node)
                            nodes += [t.inputs[0] for t in node.inputs if t.inputs]
                        return made
        stack += [t for n in here.inputs for t in n.inputs]
    return Constant(g.fresh(tensor.name + "/sign"), np.ascontiguousarray(signs.astype(weight.dtype)))


def _behind(g: Graph, node: Node, scale: Array | None, facts: Mapping[str, Any]) -> None:
    """Put scale and bias of a layer behind it, as per-channel operators."""
    old = node.outputs[0]
    fact = facts[old.name]
    shape = [1, -1, *[1] * (fact.rank - 2)] if node.op == "Conv" else [1, -1]
    bias = node.input(2)
    if scale is None and bias is None:
        return
    name = old.name
    old.name = g.fresh(f"{name}/sum")
    last: Tensor = old
    made: list[Node] = []
    if scale is not None:
        made.append(
            g.node(
                "Mul", [last, g.constant(f"{node.name}/scale", scale.reshape(shape))], name=f"{node.name}/Mul"
            )
        )
        last = made[-1].outputs[0]
    if bias is not None:
        value = bias.values * np.asarray(node.attrs.get("beta", 1.0), bias.values.dtype)
        value = np.broadcast_to(value.reshape(-1), (fact.shape[1],)).reshape(shape)
        made.append(g.node("Add", [last, g.constant(f"{bias.name}/behind", value)], name=f"{node.name}/Add"))
        last = made[-1].outputs[0]
        node.inputs.pop(2)
    last.name = name
    for reader in list(dict.fromkeys(old.outputs)):
        if reader not in made:
            for index, tensor in enumerate(reader.inputs):
                if tensor is old:
                    reader.inputs[index] = last
    g.outputs = [last if t is old else t for t in g.outputs]
    g.nodes += made
