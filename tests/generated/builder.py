"""Writing an ONNX graph node by node, with every name, parameter and spelling drawn from one generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Map:
    """A feature map [N, channels, *space].

    Attributes:
        name: its tensor.
        channels: its channels.
        space: its sizes in space.
    """

    name: str
    channels: int
    space: tuple[int, ...]


class Builder:
    """A graph under construction.

    Args:
        random: where every choice and number comes from.
        opset: of ONNX' own operators, at least 11.
        unit: what most numbers of channels are multiples of.
        axes: the number of space axes, 1 to 3.
        batch: the fixed batch size, None for a dynamic one.
    """

    def __init__(self, random: np.random.Generator, opset: int, unit: int, axes: int, batch: int | None) -> None:
        self.random, self.opset, self.unit, self.axes, self.batch = random, opset, unit, axes, batch
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, Array] = {}
        self.layers: list[str] = []
        self._merge = self.chance(0.5)
        self._noise = self.chance(0.3)
        self._unnamed = self.chance(0.2)

    # Choices and numbers.

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return bool(self.random.random() < probability)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.random.integers(len(options)))]

    def normal(self, *shape: int) -> Array:
        """Standard normal numbers."""
        return self.random.standard_normal(shape).astype(np.float32)

    def away(self, *shape: int) -> Array:
        """Numbers of both signs away from zero: factors and slopes that are never degenerate."""
        return (self.random.uniform(0.4, 1.5, shape) * self.random.choice([-1, 1], shape)).astype(np.float32)

    def positive(self, *shape: int) -> Array:
        """Positive numbers away from zero: magnitudes and variances."""
        return self.random.uniform(0.1, 1.5, shape).astype(np.float32)

    # Nodes and constants.

    def store(self, value: Any, hint: str = "p") -> str:
        """Add a constant; its name.

        Some files store one tensor for all equal values; some hold Constant nodes and Identities, as exporters write.
        """
        array = np.asarray(value)
        if self._noise and array.size <= 16 and self.chance(0.3):
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

    def per_channel(self, value: Array) -> str:
        """A vector as [1, C, 1, ...], sometimes without the leading axis."""
        shape = (value.size, *[1] * self.axes)
        return self.store(value.reshape(shape if self.chance(0.3) else (1, *shape)), "channel")

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

    # Spellings that depend on the opset.

    def reduce(self, op: str, x: str, axes: Sequence[int], keep: bool = True) -> str:
        """A reduction; its axes are an attribute or an input."""
        if self.opset >= (13 if op == "ReduceSum" else 18):
            return self.add(op, [x, self.ints(*axes)], keepdims=int(keep))
        return self.add(op, [x], axes=list(axes), keepdims=int(keep))

    def split(self, x: str, sizes: Sequence[int], axis: int = 1) -> list[str]:
        """A Split; its sizes are an attribute or an input."""
        if self.opset >= 13:
            return self.many("Split", [x, self.ints(*sizes)], len(sizes), axis=axis)
        return self.many("Split", [x], len(sizes), axis=axis, split=list(sizes))

    def slice(self, x: str, start: int, end: int, axis: int = 1, step: int = 1) -> str:
        """A Slice of one axis, with or without the optional step."""
        bounds = [self.ints(start), self.ints(end), self.ints(axis)]
        return self.add("Slice", [x, *bounds, *([self.ints(step)] if step != 1 or self.chance(0.5) else [])])

    def unsqueeze(self, x: str) -> str:
        """A scalar as a vector."""
        if self.opset >= 13:
            return self.add("Unsqueeze", [x, self.ints(0)])
        return self.add("Unsqueeze", [x], axes=[0])

    def size(self, x: str, axis: int) -> str:
        """The size of an axis as a vector, computed as TorchScript's exporter does."""
        index = self.store(np.array(axis, np.int64), "index")
        return self.unsqueeze(self.add("Gather", [self.add("Shape", [x]), index], axis=0))

    # The model.

    def input(self, name: str, channels: int, space: tuple[int, ...]) -> Map:
        """A graph input."""
        self.inputs.append(self._info(name, channels, space))
        return Map(name, channels, space)

    def output(self, x: Map) -> None:
        """Make a map a graph output."""
        self.outputs.append(self._info(x.name, x.channels, x.space))

    def _info(self, name: str, channels: int, space: tuple[int, ...]) -> onnx.ValueInfoProto:
        batch: int | str = "N" if self.batch is None else self.batch
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, channels, *space])

    def model(self) -> ModelProto:
        """The model; some state the shapes of their inner tensors."""
        stored = [numpy_helper.from_array(value, name) for name, value in self.stored.items()]
        graph = helper.make_graph(self.nodes, "generated", self.inputs, self.outputs, stored)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
        return onnx.shape_inference.infer_shapes(made) if self.chance(0.5) else made
