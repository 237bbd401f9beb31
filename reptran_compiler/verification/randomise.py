"""Files whose parameters prove nothing, and how to make them prove something.

Fresh statistics (mean 0, variance 1), slopes and biases that are the same in every channel, weights of one
sign: on such files a swapped mean, a forgotten bias, a neighbour's slope or a lost sign change nothing.
`find_degenerate` tells which parameters of a *source* are like that and gives a recipe; `Recipe.apply` makes
a copy of the source with other parameters, which the compiler compiles and the judge judges again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from reptran_compiler.model.referred import array_of
from reptran_compiler.runtime import generator, is_float
from reptran_compiler.verification.protograph import NodeView, ProtoGraph

Array = NDArray[Any]

_VIEWS = frozenset({"Identity", "Expand", "Unsqueeze", "Squeeze", "Reshape", "Cast"})
_BN_OPERANDS = ("scale", "bias", "mean", "variance")


class Kind(str, Enum):
    """What a parameter is, and so how it is drawn."""

    SCALE = "scale"
    BIAS = "bias"
    MEAN = "mean"
    VARIANCE = "variance"
    SLOPE = "slope"
    FACTOR = "factor"
    WEIGHT = "weight"


@dataclass(frozen=True)
class Change:
    """One parameter to redraw.

    Attributes:
        initializer: the stored tensor.
        kind: what it is.
        node: the node (its `NodeView.name`) and the position of the operand that gets a stored tensor of its
            own, so that roles that share one tensor by value are told apart; None where the stored tensor
            itself is redrawn.
        position: see `node`.
        reason: what is degenerate about it.
    """

    initializer: str
    kind: Kind
    node: str | None
    position: int
    reason: str


@dataclass(frozen=True)
class Recipe:
    """Which parameters of a source to redraw. Empty when nothing is degenerate."""

    changes: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is degenerate about the file, each reason once."""
        return tuple(dict.fromkeys(change.reason for change in self.changes))

    def apply(self, model: ModelProto, *, seed: int = 0) -> ModelProto:
        """A copy of the model with the parameters redrawn, the same for the same seed.

        Args:
            model: the source that the recipe was made for.
            seed: of the numbers.
        """
        copy = ModelProto()
        copy.CopyFrom(model)
        stored = {tensor.name: tensor for tensor in copy.graph.initializer}
        taken = ProtoGraph(model).tensors
        nodes = {view.name: view.index for view in ProtoGraph(model).nodes}
        for change in self.changes:
            old = array_of(stored[change.initializer])
            key = change.initializer if change.node is None else f"{change.initializer} {change.node} {change.position}"
            new = _redraw(old, change.kind, generator(seed, key))
            if change.node is None:
                stored[change.initializer].CopyFrom(numpy_helper.from_array(new, change.initializer))
                continue
            name = f"{change.initializer}/{change.kind.value}/{change.node}"
            while name in taken:
                name += "~"
            copy.graph.initializer.append(numpy_helper.from_array(new, name))
            copy.graph.node[nodes[change.node]].input[change.position] = name
        return copy


def find_degenerate(model: ModelProto) -> Recipe:
    """Which parameters of a model are degenerate."""
    graph = ProtoGraph(model)
    changes: dict[tuple[str, str | None, int], Change] = {}
    for node in graph.nodes:
        for change in _changes(graph, node):
            changes.setdefault((change.initializer, change.node, change.position), change)
    return Recipe(tuple(changes.values()))


def _changes(graph: ProtoGraph, node: NodeView) -> Iterator[Change]:
    if node.outputs and node.outputs[0] in graph.constants:
        return
    if node.op == "BatchNormalization":
        yield from _statistics(graph, node)
    elif node.op in ("Conv", "Gemm", "MatMul", "ConvTranspose"):
        yield from _weights(graph, node)
    elif node.op in ("PRelu", "Add", "Sub", "Mul"):
        yield from _per_channel(graph, node)


def _statistics(graph: ProtoGraph, node: NodeView) -> Iterator[Change]:
    roots = [_root(graph, name) for name in node.inputs[1:5]]
    values = [_values(graph, root) for root in roots]
    if len(values) < 4 or any(value is None for value in values):
        return
    flat = [_constant(value) for value in values if value is not None]
    if not any(flat):
        return
    fresh = flat[2] and flat[3]
    reason = (
        "BatchNormalization statistics are fresh"
        if fresh
        else "BatchNormalization parameters are equal in all channels"
    )
    for position, (root, what) in enumerate(zip(roots, _BN_OPERANDS, strict=True), 1):
        # The stored tensor may be given as [C] only: views in between would change its shape.
        if root is not None and graph.initializers[root].dims == graph.initializers[root].dims[:1]:
            yield Change(root, Kind(what), node.name, position, reason)


def _weights(graph: ProtoGraph, node: NodeView) -> Iterator[Change]:
    for position in (1, 0) if node.op == "MatMul" else (1,):
        if node.input(position) not in graph.constants:
            continue
        for latent in _sources(graph, node.inputs[position]):
            value = _values(graph, latent)
            if value is None or value.ndim < 2 or value.size < 2:
                continue
            if bool((value == value.reshape(-1)[0]).all()):
                yield Change(latent, Kind.WEIGHT, None, position, "weights are all equal")
            elif bool((value >= 0).all()) or bool((value <= 0).all()):
                yield Change(latent, Kind.WEIGHT, None, position, "weights are all of one sign")
    if node.op != "MatMul" and node.input(2):
        root = _root(graph, node.inputs[2])
        value = _values(graph, root)
        if root is not None and value is not None and value.ndim == 1 and value.size > 1 and _constant(value):
            yield Change(root, Kind.BIAS, node.name, 2, "biases are equal in all channels")


def _per_channel(graph: ProtoGraph, node: NodeView) -> Iterator[Change]:
    for position in (1,) if node.op == "PRelu" else (0, 1):
        root = _root(graph, node.input(position))
        value = _values(graph, root)
        if root is None or value is None or value.size < 2 or sum(size > 1 for size in value.shape) != 1:
            continue
        if not _constant(value):
            continue
        kind = {"PRelu": Kind.SLOPE, "Mul": Kind.FACTOR}.get(node.op, Kind.BIAS)
        what = {Kind.SLOPE: "slopes", Kind.FACTOR: "scales"}.get(kind, "biases")
        direct = node.name if root == node.inputs[position] else None
        yield Change(root, kind, direct, position, f"{what} are equal in all channels")


def _root(graph: ProtoGraph, name: str) -> str | None:
    """The stored tensor that a tensor is a view of."""
    while name and name not in graph.initializers:
        maker = graph.maker.get(name)
        if maker is None or maker.op not in _VIEWS:
            return None
        name = maker.inputs[0]
    return name or None


def _sources(graph: ProtoGraph, name: str) -> list[str]:
    """The largest stored tensors that a constant is computed from: latent weights."""
    found, pending, seen = [], [name], set()
    while pending:
        each = pending.pop()
        if each in seen or not each:
            continue
        seen.add(each)
        if each in graph.initializers:
            found.append(each)
        else:
            pending.extend(graph.maker[each].reads)
    largest = max((int(np.prod(graph.initializers[each].dims)) for each in found), default=0)
    return sorted(each for each in found if int(np.prod(graph.initializers[each].dims)) == largest)


def _values(graph: ProtoGraph, name: str | None) -> Array | None:
    if name is None:
        return None
    value = array_of(graph.initializers[name])
    return value if is_float(value.dtype) else None


def _constant(value: Array | None) -> bool:
    """Whether all of several values are one."""
    return value is not None and value.size > 1 and bool((value == value.reshape(-1)[0]).all())


def _redraw(old: Array, kind: Kind, random: np.random.Generator) -> Array:
    """New values of a parameter."""
    shape = old.shape
    new: Array
    signs = random.integers(0, 2, shape) * 2 - 1
    if kind in (Kind.SCALE, Kind.FACTOR):
        new = random.uniform(0.5, 1.5, shape) * (signs if kind is Kind.SCALE else 1)
    elif kind is Kind.VARIANCE:
        # Small, so that an epsilon of 1e-5 shows.
        new = random.uniform(1e-3, 4e-3, shape)
    elif kind is Kind.SLOPE:
        new = random.uniform(-0.5, 0.9, shape)
    elif kind is Kind.WEIGHT:
        # Magnitudes stay, since a weight that is one magnitude per filter must remain so.
        size = np.abs(old.astype(np.float64))
        new = signs * (size if size.any() else np.abs(random.standard_normal(shape)))
    else:
        new = random.normal(0.0, 0.5, shape)
    return np.asarray(new).astype(old.dtype)
