"""Writing an ONNX graph node by node, with every decision from one source and every number from one generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import FunctionProto, TensorProto, helper, numpy_helper

from benchmarks.generated.choices import Choices
from benchmarks.generated.constructs import VARIANTS, fits

Array = NDArray[Any]
T = TypeVar("T")

#: The sizes that dynamic axes of an image have in runs, by their names.
DIMS = {"height": 8, "width": 8, "depth": 8}


class Unsuitable(Exception):
    """A construct cannot be written here: another has to be drawn."""


@dataclass(frozen=True)
class Map:
    """A feature map [N, channels, *space].

    Attributes:
        name: its tensor.
        channels: its channels.
        space: its sizes in space, those of `DIMS` where they are dynamic.
    """

    name: str
    channels: int
    space: tuple[int, ...]


class Builder:
    """A graph under construction.

    Args:
        choices: where every decision comes from.
        opset: of ONNX' own operators, at least 7.
        unit: what most numbers of channels are multiples of.
        axes: the number of space axes, 1 to 3.
        batch: the fixed batch size, None for a dynamic one.
        free: whether the sizes of images are dynamic.

    Attributes:
        constructs: the names of what was written.
        layers: the node names of layers, in order.
    """

    def __init__(
        self, choices: Choices, opset: int, unit: int, axes: int, batch: int | None, free: bool = False
    ) -> None:
        self.choices, self.opset, self.unit, self.axes, self.batch, self.free = choices, opset, unit, axes, batch, free
        self.random = np.random.default_rng(choices.integer(0, 2**31 - 1))
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.functions: list[FunctionProto] = []
        self.stored: dict[str, Array] = {}
        self.layers: list[str] = []
        self.constructs: set[str] = set()
        self._merge = self.noted("equal values stored once", 0.5)
        self._noise = self.noted("Constant and Identity nodes", 0.3)
        self._unnamed = self.noted("unnamed nodes", 0.2)

    # Decisions and numbers.

    def chance(self, probability: float) -> bool:
        """True with the given probability, in hundredths; false is the plainer choice."""
        return self.choices.integer(0, 99) >= 100 - round(100 * probability)

    def noted(self, construct: str, probability: float) -> bool:
        """Whether the file has a construct, which is noted."""
        found = self.chance(probability)
        if found:
            self.constructs.add(construct)
        return found

    def pick(self, options: Sequence[T]) -> T:
        """One of the options; the first is the plainest."""
        return options[self.choices.integer(0, len(options) - 1)]

    def variant(self, kind: str, *but: str) -> str:
        """One of the ways in `VARIANTS` to write something, noted.

        Args:
            kind: what is written.
            but: ways that cannot be taken here.
        """
        options = [each for each in VARIANTS[kind] if each not in but and fits(f"{kind}: {each}", self.opset)]
        chosen = self.pick(options)
        self.constructs.add(f"{kind}: {chosen}")
        return chosen

    def need(self, *conditions: bool) -> None:
        """Raise `Unsuitable` unless all conditions hold."""
        if not all(conditions):
            raise Unsuitable

    def normal(self, *shape: int) -> Array:
        """Standard normal numbers."""
        return self.random.standard_normal(shape).astype(np.float32)

    def away(self, *shape: int) -> Array:
        """Numbers of both signs away from zero: factors and slopes that are never degenerate."""
        found: Array = self.random.uniform(0.4, 1.5, shape) * self.random.choice([-1, 1], shape)
        return found.astype(np.float32)

    def positive(self, *shape: int) -> Array:
        """Positive numbers away from zero: magnitudes and variances."""
        return self.random.uniform(0.1, 1.5, shape).astype(np.float32)

    # Nodes and constants.

    def has(self, op: str) -> bool:
        """Whether the opset has an operator."""
        return bool(onnx.defs.has(op, self.opset))

    def store(self, value: Any, hint: str = "p") -> str:
        """Add a constant; its name.

        Some files store one tensor for all equal values; some hold Constant nodes and Identities, as exporters write.
        """
        array = np.asarray(value)
        if self._noise and array.size <= 16 and (self.opset >= 9 or array.dtype == np.float32) and self.chance(0.3):
            return self.add("Constant", [], value=numpy_helper.from_array(array))
        name = self._stored(array, hint)
        return self.add("Identity", [name]) if self._noise and self.chance(0.1) else name

    def _stored(self, array: Array, hint: str) -> str:
        if self._merge:
            for name, known in self.stored.items():
                if known.dtype == array.dtype and known.shape == array.shape and np.array_equal(known, array):
                    return name
        name = f"{hint}_{len(self.stored)}"
        self.stored[name] = array
        return name

    def ints(self, *values: int) -> str:
        """A vector of integers."""
        return self.store(np.array(values, np.int64), "ints")

    def scalar(self, value: float) -> str:
        """A float scalar, sometimes of shape [1]."""
        return self.store(np.full((1,) if self.chance(0.2) else (), value, np.float32), "scalar")

    def many(self, op: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """Add a node with some outputs; their names."""
        name = f"{op}_{len(self.nodes)}"
        outputs = [f"{name}_out{place}" for place in range(count)]
        anonymous = self._unnamed and op not in ("Conv", "Gemm", "MatMul")
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name="" if anonymous else name, **attributes))
        return outputs

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node with one output; the output's name."""
        return self.many(op, inputs, 1, **attributes)[0]

    def layer(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a convolution or linear layer, which options may name; the output's name."""
        made = self.add(op, inputs, **attributes)
        self.layers.append(self.nodes[-1].name)
        return made

    # The model's interface.

    def input(self, name: str, channels: int, space: tuple[int, ...]) -> Map:
        """A graph input."""
        sizes: tuple[int | str, ...] = tuple(DIMS)[: self.axes] if self.free and max(space) > 1 else space
        self.inputs.append(self._info(name, [channels, *sizes]))
        return Map(name, channels, space)

    def output(self, x: Map) -> None:
        """Make a map a graph output."""
        self.outputs.append(self._info(x.name, [x.channels, *([None] * self.axes if self.free else x.space)]))

    def vector(self, name: str, size: int | None, kind: int = TensorProto.FLOAT) -> None:
        """Make a vector for each image, or one number (size None), a graph output."""
        self.outputs.append(self._info(name, [] if size is None else [size], kind))

    def _info(self, name: str, sizes: Sequence[int | str | None], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
        batch: int | str = "N" if self.batch is None else self.batch
        return helper.make_tensor_value_info(name, kind, [batch, *sizes])


def per_channel(b: Builder, value: Array) -> str:
    """A vector as [1, C, 1, ...], sometimes without the leading axis."""
    shape = (value.size, *[1] * b.axes)
    left = b.variant("operand", "on the left") == "[C, 1, 1]"
    return b.store(value.reshape(shape if left else (1, *shape)), "channel")
