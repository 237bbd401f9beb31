"""The copies of a tensor, and the few operators that the specification graph adds to couple them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from reptran_compiler.runtime import differ

Array = NDArray[Any]


class CannotSpecify(Exception):
    """THEORY section 2 does not say what a node becomes, or says that it must be refused.

    Attributes:
        node: the node's name.
        reason: why.
    """

    def __init__(self, node: str, reason: str) -> None:
        super().__init__(f"node {node!r}: {reason}")
        self.node = node
        self.reason = reason


class UnequalIntegers(CannotSpecify):
    """A mean is asked for of copies of integers or booleans that are not one tensor.

    Attributes:
        tensor: the tensor of the source.
    """

    def __init__(self, node: str, reason: str, tensor: str) -> None:
        super().__init__(node, reason)
        self.tensor = tensor


class Boundary(Exception):
    """An operator cannot work on copies, for the reason given; it becomes a boundary."""


@dataclass(frozen=True)
class Copies:
    """What a tensor of the source is in the specification graph.

    Attributes:
        names: the tensors that hold its copies: one name when the tensor is narrow, beta names when it is
            wide. Copies that are known to be one and the same tensor share its name.
        axis: the channel axis of each copy, None when the tensor is narrow.
        blocks: 1 where the wide tensor is its copies side by side along `axis`. Behind a Flatten of (H, W, C)
            the axis consists of this many runs, each of which holds the copies of its own part side by side.
    """

    names: tuple[str, ...]
    axis: int | None = None
    blocks: int = 1

    @property
    def wide(self) -> bool:
        """Whether the tensor has copies."""
        return self.axis is not None

    @property
    def several(self) -> bool:
        """Whether there is more than one of them: with beta 1 there is not, and nothing is a mean."""
        return self.wide and len(self.names) > 1

    def at(self, copy: int) -> str:
        """The tensor that copy number `copy` reads: its own, or the narrow one."""
        return self.names[copy] if self.wide else self.names[0]

    @property
    def equal(self) -> bool:
        """Whether all copies are known to be one tensor."""
        return len(set(self.names)) == 1

    def assemble(self, arrays: Sequence[Array]) -> Array:
        """The wide tensor t^ from the arrays of its copies, in order; a single array, or a narrow one, itself."""
        if self.axis is None or len(arrays) == 1:
            return arrays[0]
        if self.blocks == 1:
            return np.concatenate(arrays, axis=self.axis)
        shape = arrays[0].shape
        split = (*shape[: self.axis], self.blocks, shape[self.axis] // self.blocks, *shape[self.axis + 1 :])
        stacked = np.stack([array.reshape(split) for array in arrays], axis=self.axis + 1)
        return stacked.reshape(self.widened(shape, len(arrays)))

    def consists_of(self, whole: Array, arrays: Sequence[Array]) -> bool:
        """Whether a wide tensor is made of these arrays, number for number (`differ`); it need not be put together."""
        if self.axis is None or len(arrays) == 1 or self.blocks > 1:
            return not differ(whole, self.assemble(arrays))
        if whole.shape != self.widened(arrays[0].shape, len(arrays)):
            return False
        parts = np.split(whole, len(arrays), self.axis)
        return not any(differ(part, array) for part, array in zip(parts, arrays, strict=True))

    def widened(self, shape: Sequence[int], beta: int) -> tuple[int, ...]:
        """The shape of the wide tensor, from the shape of one copy."""
        sizes = list(shape)
        if self.axis is not None:
            sizes[self.axis] *= beta
        return tuple(sizes)


class Emitter:
    """Collects the nodes and constants of a graph under construction, in operators of a given opset.

    Args:
        opset: the version of ONNX' own operators.
        taken: tensor names that must not be used.
    """

    def __init__(self, opset: int, taken: frozenset[str]) -> None:
        self.opset = opset
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._taken = set(taken)
        self._by_value: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def fresh(self, wish: str) -> str:
        """A tensor name that is not taken: the wish itself, or the wish with a number behind it."""
        name, number = wish, 1
        while name in self._taken:
            number += 1
            name = f"{wish}~{number}"
        self._taken.add(name)
        return name

    def add(self, op: str, inputs: Sequence[str], wish: str, **attributes: Any) -> str:
        """Add a node with one output; its name."""
        output = self.fresh(wish)
        self.nodes.append(onnx.helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, value: Any, wish: str = "constant") -> str:
        """Add a constant, or find the one that has this value; its name."""
        array = np.asarray(value)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._by_value:
            self._by_value[key] = self.fresh(f"@{wish}")
            self.constants.append(numpy_helper.from_array(array, self._by_value[key]))
        return self._by_value[key]

    def concat(self, names: Sequence[str], axis: int, wish: str) -> str:
        """Tensors side by side."""
        return names[0] if len(names) == 1 else self.add("Concat", names, wish, axis=axis)

    def split(self, name: str, sizes: Sequence[int], axis: int, wish: str) -> tuple[str, ...]:
        """A tensor cut into parts of the given sizes."""
        if len(sizes) == 1:
            return (name,)
        outputs = [self.fresh(f"{wish}{number}") for number in range(len(sizes))]
        if self.opset >= 13:
            lengths = self.constant(np.array(sizes, dtype=np.int64), "sizes")
            node = onnx.helper.make_node("Split", [name, lengths], outputs, name=outputs[0], axis=axis)
        else:
            node = onnx.helper.make_node("Split", [name], outputs, name=outputs[0], axis=axis, split=list(sizes))
        self.nodes.append(node)
        return tuple(outputs)

    def total(self, names: Sequence[str], wish: str) -> str:
        """The sum of tensors of one shape."""
        result = names[0]
        for position, name in enumerate(names[1:], 1):
            result = self.add("Add", [result, name], wish if position == len(names) - 1 else f"{wish}~part")
        return result

    def mean(self, names: Sequence[str], dtype: np.dtype[Any], wish: str) -> str:
        """The mean of tensors of one shape and floating dtype; the tensor itself when all are one."""
        if len(set(names)) == 1:
            return names[0]
        divisor = self.constant(np.array(len(names)).astype(dtype), "beta")
        return self.add("Div", [self.total(names, f"{wish}~sum"), divisor], wish)

    def regroup(self, names: Sequence[str], axis: int, groups: int, channels: int, wish: str) -> tuple[str, ...]:
        """Cut the wide tensor of these copies into `groups` runs, each run into a block for each copy.

        Args:
            names: the copies.
            axis: their channel axis.
            groups: the number of runs.
            channels: the channels of one copy, a multiple of `groups`.
            wish: a name to start from.

        Returns:
            For each r, the blocks number r of all runs side by side: as many channels as a copy.
        """
        if groups == 1:
            return tuple(names)
        beta = len(names)
        whole = self.concat(names, axis, f"{wish}~whole")
        blocks = self.split(whole, [channels // groups] * (groups * beta), axis, f"{wish}~block")
        return tuple(
            self.concat([blocks[group * beta + r] for group in range(groups)], axis, f"{wish}~{r}") for r in range(beta)
        )
