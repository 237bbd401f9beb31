"""A model's graph as counting sees it: who makes which tensor, what is constant, what is binarised."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from reptran_compiler.model.protos import element_dtype
from reptran_compiler.model.referred import array_of

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
_SUB_BYTE_BITS = {"INT2": 2, "UINT2": 2, "INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4}
#: Operators that pass the values of their first input on, in another place or shape.
PASSING = frozenset(
    "Identity Cast Reshape Flatten Squeeze Unsqueeze Transpose Tile Expand Slice Split Gather Pad MaxPool"
    " GlobalMaxPool DepthToSpace SpaceToDepth Dropout".split()
)
_NON_NEGATIVE = frozenset("Relu Sigmoid Softmax Abs HardSigmoid Exp Sqrt Softplus".split())
_AVERAGING = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})
_RANDOM = frozenset("RandomNormal RandomUniform RandomNormalLike RandomUniformLike Multinomial Bernoulli".split())


@dataclass(frozen=True)
class Root:
    """The initializer behind a constant: ``shape``, ``size`` in elements and ``bytes`` as stored, ``is_float`` for
    parameters."""

    name: str
    shape: tuple[int, ...]
    size: int
    bytes: int
    is_float: bool
    packed: bool


class Operator:
    """A node with its texts at hand: protobuf makes them anew at each access.

    Attributes:
        op_type, domain, name: the node's.
        input, output: the names of its tensors.
        attribute: its attributes.
    """

    __slots__ = ("attribute", "domain", "input", "name", "op_type", "output")

    def __init__(self, node: onnx.NodeProto) -> None:
        self.op_type: str = node.op_type
        self.domain: str = node.domain
        self.name: str = node.name
        self.input: tuple[str, ...] = tuple(node.input)
        self.output: tuple[str, ...] = tuple(node.output)
        self.attribute = node.attribute


def attribute(node: Operator | onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of a node's attribute, or ``default``; bytes come back as str."""
    for entry in node.attribute:
        if entry.name == name:
            value = onnx.helper.get_attribute_value(entry)
            return value.decode() if isinstance(value, bytes) else value
    return default


def element_bytes(elem_type: int, count: int) -> int:
    """Bytes that ``count`` elements of an ONNX element type take; 0 for strings and unknown types."""
    return (count * _bits(elem_type) + 7) // 8


@cache
def _bits(elem_type: int) -> int:
    """Bits of an element of an ONNX type; 0 for strings and unknown types."""
    name = _name(elem_type)
    if name in {"", "UNDEFINED", "STRING"}:
        return 0
    return _SUB_BYTE_BITS.get(name) or 8 * element_dtype(elem_type).itemsize


@cache
def _name(elem_type: int) -> str:
    return onnx.TensorProto.DataType.Name(elem_type) if elem_type in onnx.TensorProto.DataType.values() else ""


class View:
    """Look-ups over one graph, made in one pass over its (sorted) nodes.

    ``nodes`` are the graph's own; ``names`` their names, the first output standing in for a missing one.
    ``producer`` maps tensors to node indices. ``static`` holds the tensors that depend on no input's values:
    initializers, what is computed from them, and shape arithmetic. ``binarised`` maps the output of each
    canonical binarisation to what it binarises, and ``absorbed`` holds the indices of the nodes inside such a
    binarisation.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.nodes = [Operator(node) for node in graph.node]
        self.names = [node.name or next(filter(None, node.output), node.op_type) for node in self.nodes]
        self.constants: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = [value.name for value in graph.input if value.name not in self.constants]
        self.outputs = [value.name for value in graph.output]
        self.producer: dict[str, int] = {}
        self.static: set[str] = set(self.constants)
        self.binarised: dict[str, str] = {}
        self.absorbed: set[int] = set()
        self._roots: dict[str, Root | None] = {}
        self._roots.update({name: _stored(tensor) for name, tensor in self.constants.items()})
        self._non_negative: dict[str, bool] = {}
        self._signed: dict[str, bool] = {}
        for index, node in enumerate(self.nodes):
            self._add(index, node)

    def _add(self, index: int, node: Operator) -> None:
        for output in node.output:
            self.producer[output] = index
        if node.op_type == "Constant" and (value := _constant(node)) is not None:
            self.constants[node.output[0]] = value
            self._roots[node.output[0]] = _stored(value, node.output[0])
        if self._is_static(node):
            self.static.update(filter(None, node.output))
            root = self._root_of(node)
            for output in node.output:
                self._roots.setdefault(output, root)
        source = self._binarisation(node)
        if source is not None:
            self.binarised[node.output[0]] = source

    def _is_static(self, node: Operator) -> bool:
        if node.op_type in {"Shape", "Size"}:
            return True
        for name in node.input:
            if name and name not in self.static:
                return False
        return node.op_type not in _RANDOM and not any(entry.HasField("g") or entry.graphs for entry in node.attribute)

    def _root_of(self, node: Operator) -> Root | None:
        """The root of a computed constant: its largest operand's (the first of equals); packed bits."""
        roots = [self._roots.get(name) for name in node.input if name]
        if node.op_type == "Gather" and len(roots) == 2 and roots[1] is not None and roots[1].packed:
            return roots[1]
        return max((root for root in roots if root is not None), key=lambda root: root.size, default=None)

    def root(self, name: str) -> Root | None:
        """The initializer that a constant stores or is computed from; None for shapes and for maps."""
        return self._roots.get(name)

    def made_by(self, name: str) -> Operator | None:
        """The node that makes a tensor; None for graph inputs and initializers."""
        index = self.producer.get(name)
        return None if index is None else self.nodes[index]

    def value(self, name: str) -> npt.NDArray[Any] | None:
        """A stored constant's array; None where the tensor is none, or its data is not at hand."""
        tensor = self.constants.get(name)
        if tensor is None:
            return None
        try:
            return array_of(tensor)
        except (ValueError, TypeError, OSError):
            return None

    def scalar(self, name: str) -> float | None:
        """A stored one-element constant's value; None for anything else."""
        root = self._roots.get(name)
        if name not in self.constants or root is None or root.size != 1:
            return None
        value = self.value(name)
        return None if value is None or value.dtype.kind not in "fiub" else float(value.reshape(()))

    def operands(self, node: Operator) -> tuple[str, str] | None:
        """(map, constant) of a node whose first two operands are one of each, in either order; else None."""
        if len(node.input) < 2:
            return None
        left, right = node.input[0], node.input[1]
        if (left in self.static) == (right in self.static):
            return None
        return (right, left) if left in self.static else (left, right)

    # -- binarisations ---------------------------------------------------------------------------------------

    def _binarisation(self, node: Operator) -> str | None:
        """What a node binarises, where it ends one of the canonical binarisations; notes the nodes inside."""
        if node.domain not in STANDARD_DOMAINS:
            return None
        if node.op_type == "Sign":
            return node.input[0]
        if node.op_type == "Where":
            is_sign = (self.scalar(node.input[1]), self.scalar(node.input[2])) == (1.0, -1.0)
            return self._at_least_zero(node.input[0]) if is_sign else None
        if node.op_type != "Sub" or self.scalar(node.input[1]) != 1.0:
            return None
        product = self.made_by(node.input[0])
        if product is None or product.op_type != "Mul" or self.scalar(product.input[1]) != 2.0:
            return None
        cast = self.made_by(product.input[0])
        if cast is None or cast.op_type != "Cast":
            return None
        source = self._at_least_zero(cast.input[0])
        if source is not None:
            self.absorbed.update((self.producer[node.input[0]], self.producer[product.input[0]]))
        return source

    def _at_least_zero(self, condition: str) -> str | None:
        """The x of ``GreaterOrEqual(x, 0)`` or ``Not(Less(x, 0))``."""
        inside = [condition]
        node = self.made_by(condition)
        expected = "GreaterOrEqual"
        if node is not None and node.op_type == "Not":
            inside.append(node.input[0])
            node, expected = self.made_by(node.input[0]), "Less"
        if node is None or node.op_type != expected or self.scalar(node.input[1]) != 0.0:
            return None
        self.absorbed.update(self.producer[name] for name in inside)
        return node.input[0]

    def is_binary_map(self, name: str) -> bool:
        """Whether a map holds +-1 (zero padding aside): a binarisation's output, perhaps moved.

        Moving is pooling by maximum, Pad, Reshape, Tile, Concat of such maps and the like (`PASSING`).
        Sign of a map that is never negative is 0 or 1, and does not count.
        """
        return self._every_origin(name, self._signed, self._starts_binary, PASSING)

    def _starts_binary(self, name: str) -> bool | None:
        if name not in self.binarised:
            return None
        if self.nodes[self.producer[name]].op_type != "Sign":
            return True
        source, passing = self.binarised[name], PASSING | _AVERAGING
        return not self._every_origin(source, self._non_negative, self._starts_non_negative, passing)

    def _starts_non_negative(self, name: str) -> bool | None:
        node = self.made_by(name)
        if node is None or name in self.binarised:
            return False
        if node.op_type == "Clip":
            low = self.scalar(node.input[1]) if len(node.input) > 1 else attribute(node, "min")
            return low is not None and low >= 0
        return True if node.op_type in _NON_NEGATIVE else None

    def _every_origin(
        self, name: str, memo: dict[str, bool], decide: Callable[[str], bool | None], passing: Set[str]
    ) -> bool:
        """Whether ``decide`` says yes wherever a map's values come from, seen through ``passing`` nodes."""
        seen: list[str] = []
        pending = [name]
        answer = True
        visited: set[str] = set()
        while pending and answer:
            current = pending.pop()
            if current in visited:
                continue
            visited.add(current)
            known = memo.get(current)
            decided = known if known is not None else decide(current)
            if decided is not None:
                memo[current] = decided
                answer = decided
                continue
            seen.append(current)
            origins = list(self._origins(current, passing))
            pending.extend(origins)
            answer = bool(origins)
        for current in seen if answer else [name]:
            memo[current] = answer
        return answer

    def _origins(self, name: str, passing: Set[str]) -> Iterator[str]:
        node = self.made_by(name)
        if node is None:
            return
        if node.op_type == "Concat":
            yield from node.input
        elif node.op_type in passing:
            yield node.input[0]

    def is_binary_weight(self, name: str) -> bool:
        """Whether a layer's constant operand is +-1: stored so, a binarised latent tensor, or packed bits.

        A few exact zeros (at most 1 %) are let pass; where the data is not at hand the answer is yes.
        """
        while name not in self.constants:
            root = self._roots.get(name)
            if name in self.binarised or (root is not None and root.packed):
                return True
            node = self.made_by(name)
            if node is None or node.op_type not in PASSING:
                return False
            name = node.input[0]
        values = self.value(name)
        if values is None:
            return True
        magnitudes = np.abs(values.astype(np.float32) if values.dtype.kind not in "fi" else values)
        ones = np.count_nonzero(magnitudes == 1)
        zeros = np.count_nonzero(magnitudes == 0)
        return bool(ones + zeros == magnitudes.size and zeros * 100 <= magnitudes.size and ones)


def _constant(node: Operator) -> onnx.TensorProto | None:
    """The tensor that a Constant node holds, in any of its attributes but the sparse one."""
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        value = attribute(node, name)
        if isinstance(value, onnx.TensorProto):
            return value
        if value is not None:
            return numpy_helper.from_array(np.asarray(value, np.float32 if "float" in name else np.int64))
    return None


def _stored(tensor: onnx.TensorProto, name: str = "") -> Root:
    shape, kind = tuple(tensor.dims), _name(tensor.data_type)
    size = math.prod(shape)
    is_float = "FLOAT" in kind or kind == "DOUBLE"
    return Root(name or tensor.name, shape, size, element_bytes(tensor.data_type, size), is_float, kind == "UINT8")
