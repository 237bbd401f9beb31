"""What rules before and after replication know of the whole graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Constant, Graph, Node, Tensor, Variable
from reptran_compiler.model.referred import blocks_of
from reptran_compiler.model.symbolic import Dimension, Symbols, constant_values
from reptran_compiler.replication.binarisation import binarised, is_sign
from reptran_compiler.replication.roles import Roles, find_roles
from reptran_compiler.rewriting import Facts

Array = NDArray[Any]

_ZERO_SHARE, _ZERO_COUNT = 1e-3, 3
_MOVES = frozenset(
    "MaxPool Reshape Flatten Transpose Squeeze Unsqueeze Identity Slice Split Concat Gather Expand Tile".split()
)
_KEEPS_RANGE = _MOVES | frozenset(
    "AveragePool GlobalAveragePool GlobalMaxPool ReduceMean ReduceMax Pad Dropout".split()
)
_KEEPS_SIGN = frozenset({"Add", "Div", "Max", "Mean", "Min", "Mul", "Pow", "Sum"})
_NOT_NEGATIVE = frozenset(
    "Relu Sigmoid HardSigmoid Abs Exp Softplus Softmax Sqrt ReduceL1 ReduceL2 ReduceSumSquare".split()
)


#: A layer in integers: by ConvInteger, or as a product of the map's windows and the weights, by MatMulInteger.
IntegerForm = Literal["convolution", "product"]

_MAP_RANK = 4


@dataclass
class Layers:
    """The context of the phases `canonicalise`, `finish` and `lower`: `m.context` in their rules.

    Attributes:
        graph: the graph.
        facts: shapes and values of its tensors.
        symbols: shapes and integers in terms of the dynamic axes, by tensor name.
        added: names of the operators that replication added; empty before it.
        open_axes: whether axes besides the batch are dynamic.
        integer: how lowering lets layers compute in integers, by name.
    """

    graph: Graph
    facts: Facts
    symbols: Symbols
    added: frozenset[str] = frozenset()
    open_axes: bool = False
    integer: Mapping[str, IntegerForm] = field(default_factory=dict)
    _version: int = field(init=False, repr=False)
    _roles: Roles | None = field(default=None, repr=False)
    _binary: frozenset[str] | None = field(default=None, repr=False)
    _fixed: Mapping[str, Array] | None = field(default=None, repr=False)
    _shared: dict[Hashable, Constant] = field(default_factory=dict, repr=False)
    _anchors: list[Tensor] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self._version = self.graph.version

    def refresh(self) -> None:
        """The graph may have changed."""
        if self._version != self.graph.version:
            self._version = self.graph.version
            self._roles = self._binary = None

    def relearn(self, symbols: Symbols) -> None:
        """Shapes and integers of the graph as it is now."""
        self.symbols, self._fixed = symbols, None

    @property
    def roles(self) -> Roles:
        """The connections of the graph's layers."""
        if self._roles is None:
            self._roles = find_roles(self.graph, self.facts)
        return self._roles

    def shape(self, tensor: Tensor) -> tuple[Dimension, ...] | None:
        """A tensor's shape in terms of the dynamic axes; None where it is not known."""
        return self.symbols.shapes.get(tensor.name)

    def extent(self, tensor: Tensor) -> tuple[int, int] | None:
        """H and W of a feature map [N, C, H, W]; None of another tensor, and where one of them is a dynamic axis."""
        facts, shape = [self.facts.of(tensor, case) for case in range(len(self.facts.cases))], self.shape(tensor)
        if len(facts[0].shape) != _MAP_RANK or (shape is None and self.open_axes):
            return None
        if shape is not None and any(size.constant is None for size in shape[2:]):
            return None
        sizes = {(int(fact.shape[2]), int(fact.shape[3])) for fact in facts}
        return sizes.pop() if len(sizes) == 1 else None

    def same_shape(self, one: Tensor, other: Tensor) -> bool:
        """Whether two tensors have one shape, whatever the sizes of the dynamic axes."""
        shape = self.shape(one)
        return shape is not None and shape == self.shape(other)

    def integers(self, tensor: Tensor) -> tuple[Dimension, ...] | None:
        """The elements of a one-dimensional integer tensor in terms of the dynamic axes; None where not known."""
        found = self.symbols.values.get(tensor.name)
        return None if found is None or found.ndim != 1 else tuple(found)

    def fixed(self, tensor: Tensor) -> Array | None:
        """The value of an integer tensor that is the same whatever the sizes of the dynamic axes."""
        if self._fixed is None:
            self._fixed = constant_values(self.symbols)
        return self._fixed.get(tensor.name)

    def signs(self, latent: Tensor, out: Tensor, make: Callable[[], Constant]) -> Constant:
        """The stored signs of a latent tensor, one tensor for all binarisations `out` of one kind."""
        self._anchors.append(latent)  # an id belongs to no other tensor while this one lives
        return self.shared((id(latent), is_sign(out)), make)

    def shared(self, what: Hashable, make: Callable[[], Constant]) -> Constant:
        """A stored tensor that several rewrites read: the same each time that the same is asked for."""
        if what not in self._shared:
            self._shared[what] = make()
        return self._shared[what]

    def is_binary(self, node: Node) -> bool:
        """Whether a layer in canonical form is binary: it reads binarised maps, and its weights are signs (or 0)."""
        position = self.roles.layers.get(node.name)
        if position is None or not self.roles.is_inner(node) or not self.reads_binary(node):
            return False
        weight = node.inputs[position]
        return binarised(weight) is not None or (isinstance(weight, Constant) and holds_signs(weight))

    def reads_binary(self, node: Node) -> bool:
        """Whether all that a layer reads are binarisations of values of both signs."""
        if self._binary is None:
            self._binary = frozenset(_binary_maps(self.graph))
        position = self.roles.layers.get(node.name)
        return position is not None and node.inputs[1 - position].name in self._binary


def _are_signs(values: Array) -> bool:
    """Whether an array holds nothing but -1, 0 and 1."""
    sizes = np.abs(values)
    return bool(((sizes == 1) | (sizes == 0)).all())


def few_zeros(weight: Array | Constant) -> bool:
    """Whether no more weights are 0 than a binary layer has by accident (THEORY rule 3): others are ternary."""
    if isinstance(weight, Constant):
        return are_few(weight.zeros, math.prod(weight.shape))
    return are_few(int(np.count_nonzero(weight == 0)), weight.size)


def holds_signs(weight: Constant) -> bool:
    """Whether stored weights are 1, -1, and 0 by accident."""
    referred = weight.reference
    values = [weight.values] if referred is None else blocks_of(referred)
    signs = weight.are_signs or all(map(_are_signs, values))
    return signs and few_zeros(weight)


def are_few(zeros: int, size: int) -> bool:
    """Whether so many zeros among so many weights are no more than a binary layer has by accident."""
    return zeros <= max(_ZERO_COUNT, _ZERO_SHARE * size)


def _binary_maps(g: Graph) -> set[str]:
    """The tensors of which every element is the output of a binarisation of values of both signs.

    `Sign` of what is never negative gives 0 and 1: that is no binarisation, whatever pooling stands between.
    """
    binary: set[str] = set()
    half: set[str] = set()
    for node in g.nodes:
        made = [tensor.name for tensor in node.outputs]
        source = binarised(node.outputs[0]) if made else None
        lowest = _floor(node)
        if node.op_type in _NOT_NEGATIVE or (lowest is not None and lowest >= 0.0) or _keeps_sign(node, half):
            half.update(made)
        elif source is not None:
            if not (is_sign(node.outputs[0]) and source.name in half):
                binary.update(made)
        elif node.op_type in _MOVES or node.op_type in _KEEPS_RANGE:
            reads = [tensor.name for tensor in node.inputs if isinstance(tensor, Variable) and tensor.name]
            if node.op_type in _KEEPS_RANGE and not half.isdisjoint(reads):
                half.update(made)
            elif reads and binary.issuperset(reads):
                if node.op_type in _MOVES or (node.op_type == "Pad" and _pads_signs(node)):
                    binary.update(made)
    return binary


def _keeps_sign(node: Node, half: set[str]) -> bool:
    """Whether an operator cannot give a negative number: a square, or what combines numbers that are not negative."""
    if node.op_type not in _KEEPS_SIGN:
        return False
    operands = [tensor for tensor in node.inputs if tensor.name]
    if node.op_type == "Mul" and len(operands) == 2 and operands[0] is operands[1]:
        return True

    def never_negative(tensor: Tensor) -> bool:
        return bool((tensor.values >= 0).all()) if isinstance(tensor, Constant) else tensor.name in half

    if node.op_type == "Pow":
        power = operands[1]
        even = isinstance(power, Constant) and bool((np.asarray(power.values) % 2 == 0).all())
        return even or never_negative(operands[0])
    operands.sort(key=lambda tensor: isinstance(tensor, Constant))  # a look at stored values comes last
    return (any if node.op_type == "Max" else all)(map(never_negative, operands))


def _floor(node: Node) -> float | None:
    """The lower bound of a Clip."""
    if node.op_type != "Clip":
        return None
    if "min" in node.attrs:
        return float(node.attrs["min"])
    low = node.input(1)
    return float(low.values.reshape(-1)[0]) if isinstance(low, Constant) else None


def _pads_signs(node: Node) -> bool:
    """Whether a Pad writes 0, +1 or -1: what a layer reads stays a map of signs, or of signs and zero padding."""
    value = node.input(2)
    if value is None:
        return float(node.attrs.get("value", 0.0)) in (-1.0, 0.0, 1.0)
    return isinstance(value, Constant) and _are_signs(value.values)
