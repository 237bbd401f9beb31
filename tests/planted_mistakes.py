"""Mistakes that are planted in correct results, as a compiler with a bug would make them, and changes that are none.

Each is a function that edits a result in place. What it needs in the result it finds by operator and role, whatever the
names; `LookupError` says that the result has nothing of the kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

Array = NDArray[Any]
Change = Callable[[Array], Array]


class Result:
    """A result to edit.

    Args:
        model: the result.
        beta: the replication factor.
    """

    def __init__(self, model: ModelProto, beta: int) -> None:
        self.model, self.graph, self.beta = model, model.graph, beta

    # Finding.

    def nodes(self, *ops: str) -> Iterator[NodeProto]:
        """The nodes of some operator types, in order."""
        return (node for node in self.graph.node if node.op_type in ops)

    def node(self, *ops: str, number: int = 0) -> NodeProto:
        """A node of some operator types.

        Raises:
            LookupError: there are not so many.
        """
        found = list(self.nodes(*ops))
        if number >= len(found):
            raise LookupError(f"the result has {len(found)} nodes of type {ops}")
        return found[number]

    def named(self, name: str) -> NodeProto:
        """The node of a name."""
        return next(node for node in self.graph.node if node.name == name)

    def repconv(self) -> NodeProto:
        """The first convolution that is not the stem."""
        return self.node("Conv", number=1)

    def tile_of(self, layer: str) -> NodeProto:
        """The node that repeats a layer's output."""
        return next(node for node in self.graph.node if self.named(layer).output[0] in node.input)

    def maker(self, tensor: str) -> NodeProto | None:
        """The node that makes a tensor."""
        return next((node for node in self.graph.node if tensor in node.output), None)

    def value(self, name: str) -> Array | None:
        """A stored tensor."""
        found = next((tensor for tensor in self.graph.initializer if tensor.name == name), None)
        return None if found is None else numpy_helper.to_array(found)

    def parameter(self, node: NodeProto) -> tuple[int, int]:
        """Where a node reads a parameter per wide channel: the input, and the axis of its channels.

        Raises:
            LookupError: it reads none.
        """
        for place, name in enumerate(node.input):
            value = self.value(name)
            if value is None:
                continue
            axes = [axis for axis, size in enumerate(value.shape) if size > self.beta and size % self.beta == 0]
            if len(axes) == 1 and value.size == value.shape[axes[0]]:
                return place, axes[0]
        raise LookupError(f"node {node.name} reads no parameter per channel")

    def per_channel(self, *ops: str) -> tuple[NodeProto, int, int]:
        """The first node of some types that reads a parameter per wide channel, with `parameter`."""
        for node in self.nodes(*ops):
            try:
                return (node, *self.parameter(node))
            except LookupError:
                continue
        raise LookupError(f"no {ops} reads a parameter per channel")

    # Editing.

    def store(self, value: Any) -> str:
        """Add an initializer; its name."""
        name = f"planted{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def change(self, node: NodeProto, place: int, change: Change) -> None:
        """Give one reader another constant (the latent tensor of a binarised weight where that is one)."""
        value = self.value(node.input[place])
        if value is None:
            maker = self.maker(node.input[place])
            if maker is None:
                raise LookupError(f"input {place} of {node.name} is no constant")
            copy = self.graph.node.add()
            copy.CopyFrom(maker)
            copy.name, copy.output[0] = f"{copy.name} planted", f"{copy.output[0]} planted"
            self.change(copy, 0, change)
            node.input[place] = copy.output[0]
            self.sort()
            return
        changed = np.ascontiguousarray(change(value.copy()).astype(value.dtype))
        node.input[place] = self.store(changed)

    def behind(self, node: NodeProto, op: str, *others: str, **attributes: Any) -> None:
        """Put an operator between a node and the readers of its first output."""
        name = node.output[0]
        node.output[0] = f"{name} planted"
        made = helper.make_node(op, [node.output[0], *others], [name], name=f"{name} planted", **attributes)
        self.graph.node.append(made)
        self.sort()

    def reorder(self, node: NodeProto, channels: int, order: Change, axis: int = 1) -> None:
        """Put the channels behind a node in another order."""
        index = order(np.arange(channels)).astype(np.int64)
        self.behind(node, "Gather", self.store(index), axis=axis)

    def attribute(self, node: NodeProto, name: str, value: Any) -> None:
        """Set an attribute."""
        kept = [each for each in node.attribute if each.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    def sort(self) -> None:
        """Put the nodes behind what they read."""
        known = {each.name for each in (*self.graph.input, *self.graph.initializer)} | {""}
        waiting, done = list(self.graph.node), []
        while waiting:
            ready = [node for node in waiting if known.issuperset(node.input)]
            if not ready:
                raise LookupError(f"{waiting[0].name} reads what nothing makes")
            known.update(name for node in ready for name in node.output)
            done += ready
            waiting = [node for node in waiting if not any(node is each for each in ready)]
        copies = [NodeProto.FromString(node.SerializeToString()) for node in done]
        del self.graph.node[:]
        self.graph.node.extend(copies)


def rolled(axis: int) -> Change:
    """Each number in its neighbour's place."""
    return lambda value: np.roll(value, 1, axis)


def interleaved(beta: int, axis: int = 0) -> Change:
    """The copies of each channel side by side instead of the channels of each copy."""

    def change(value: Array) -> Array:
        blocks = np.moveaxis(value, axis, 0).reshape(beta, -1, *np.moveaxis(value, axis, 0).shape[1:])
        return np.moveaxis(np.moveaxis(blocks, 0, 1).reshape(np.moveaxis(value, axis, 0).shape), 0, axis)

    return change
