"""A result to plant mistakes in: finding what a mistake needs by operator, role and shape, and editing it.

Every function that edits gives the places at which the mistake may be noticed: the node and its tensors, the stored
tensor that changed, and the first tensors behind that the source has as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from reptran_compiler.pipeline import LayerPlan, Options, Transformation
from reptran_compiler.runtime import TensorFact, random_feeds, tensor_facts
from reptran_compiler.verification.protograph import captured

Array = NDArray[Any]
Change = Callable[[Array], Array]
Places = frozenset[str]

#: The end of the names that planting makes.
PLANTED = " planted"


@dataclass(frozen=True)
class Facts:
    """What a run tells of a compilation.

    Attributes:
        source, result: shapes and types of the tensors of the canonical source and of the result.
    """

    source: Mapping[str, TensorFact]
    result: Mapping[str, TensorFact]

    @staticmethod
    def of(made: Transformation) -> Facts:
        """The facts of a compilation."""
        feeds = random_feeds(made.canonical, batch=2)
        return Facts(tensor_facts(made.canonical, feeds), tensor_facts(made.result, feeds))

    def axis(self, name: str) -> int | None:
        """The axis along which a tensor of the source is wide in the result; None where it is not, or is not there."""
        if name not in self.source or name not in self.result:
            return None
        sizes = zip(self.source[name].shape, self.result[name].shape, strict=False)
        return next((axis for axis, (old, new) in enumerate(sizes) if new > old), None)


class Result:
    """A result to edit.

    Args:
        made: the compilation; it is not changed.
        options: its options.
        facts: of the compilation.
        late: whether what is found last is found first.
    """

    def __init__(self, made: Transformation, options: Options, facts: Facts, late: bool = False) -> None:
        self._step, self._stored = -1 if late else 1, 0
        self.model = ModelProto.FromString(made.result.SerializeToString())
        self.graph, self.beta, self.options, self.facts = self.model.graph, options.beta, options, facts
        self.canonical, self._plans = made.canonical, made.layers

    # Finding.

    def nodes(self, *ops: str) -> Iterator[NodeProto]:
        """The nodes of some operator types, in order (the last one first, where that is asked for)."""
        return (node for node in list(self.graph.node)[:: self._step] if node.op_type in ops)

    def find(self, *ops: str, having: Callable[[NodeProto], object] = bool, last: bool = False) -> NodeProto:
        """The first node (or the last) of some operator types that has something.

        Raises:
            LookupError: there is none.
        """
        found = [node for node in self.nodes(*ops) if having is bool or having(node)]
        if not found:
            raise LookupError(f"the result has no such {' or '.join(ops)}")
        return found[-1 if last else 0]

    def layers(self, *roles: str, having: Callable[[LayerPlan], object] = bool) -> list[NodeProto]:
        """The layers of some roles, in order.

        Raises:
            LookupError: there is none.
        """
        names = {plan.name for plan in self._plans if plan.role in roles and (having is bool or having(plan))}
        found = [node for node in self.graph.node if node.name in names][:: self._step]
        if not found:
            raise LookupError(f"the result has no {' or '.join(roles)}")
        return found

    def maker(self, tensor: str) -> NodeProto:
        """The node that makes a tensor.

        Raises:
            LookupError: it is an input or stored.
        """
        found: NodeProto | None = next((node for node in self.graph.node if tensor in node.output), None)
        if found is None:
            raise LookupError(f"no node makes {tensor}")
        return found

    def readers(self, tensor: str) -> list[NodeProto]:
        """The nodes that read a tensor."""
        return [node for node in self.graph.node if tensor in node.input]

    def reader(self, tensor: str, *ops: str) -> NodeProto:
        """The first node of some operator types that reads a tensor.

        Raises:
            LookupError: there is none.
        """
        for node in self.readers(tensor):
            if node.op_type in ops:
                return node
        raise LookupError(f"no {ops} reads {tensor}")

    def value(self, name: str) -> Array | None:
        """A stored tensor."""
        found = next((tensor for tensor in self.graph.initializer if tensor.name == name), None)
        return None if found is None else numpy_helper.to_array(found)

    def stored(self, node: NodeProto, place: int) -> Array:
        """The stored tensor that a node reads.

        Raises:
            LookupError: it reads none there.
        """
        value = self.value(node.input[place]) if place < len(node.input) else None
        if value is None:
            raise LookupError(f"input {place} of {node.name} is not stored")
        return value

    def wide(self, tensor: str) -> int | None:
        """The axis along which a tensor is wide; None where it is not, or the source has no such tensor."""
        return self.facts.axis(tensor)

    def wide_output(self, node: NodeProto) -> int | None:
        """The axis along which a node's output, or the first tensor behind that the source has, is wide."""
        return next((axis for name in sorted(self.behind(node)) if (axis := self.wide(name)) is not None), None)

    def per_channel(self, *ops: str, wide: bool = True, last: bool = False) -> tuple[NodeProto, int, int]:
        """A node that reads one number per (wide) channel: with which input, and on which axis of that input.

        Raises:
            LookupError: there is none.
        """
        for node in reversed(list(self.nodes(*ops))) if last else self.nodes(*ops):
            if wide and self.wide_output(node) is None:
                continue
            for place, name in enumerate(node.input):
                value = self.value(name)
                long = [] if value is None else [axis for axis, size in enumerate(value.shape) if size > 1]
                fits = value is not None and value.dtype.kind == "f" and len(long) == 1
                if fits and value is not None and (not wide or value.size % self.beta == 0 and value.size > self.beta):
                    return node, place, long[0]
        raise LookupError(f"no {' or '.join(ops)} reads a parameter per channel")

    def tile(self, layer: NodeProto) -> NodeProto:
        """The node that repeats a layer's output.

        Raises:
            LookupError: there is none.
        """
        name = layer.output[0]
        while True:
            for node in self.readers(name):
                if node.op_type == "Tile":
                    return node
            name = self.reader(name, "Mul", "Add", "BatchNormalization").output[0]

    def copies(self, tensor: str) -> int:
        """The channels of one copy of a tensor that is wide.

        Raises:
            LookupError: it is not wide.
        """
        axis = self.wide(tensor)
        if axis is None:
            raise LookupError(f"{tensor} is not wide")
        return self.facts.source[tensor].shape[axis]

    # Places.

    def behind(self, node: NodeProto) -> Places:
        """The first tensors behind a node, its own outputs among them, that the source has as well."""
        found: set[str] = set()
        pending, seen = list(node.output), set[str]()
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.facts.source or name.removesuffix("/wide") in self.facts.source:
                found.add(name.removesuffix("/wide"))
            else:
                pending += [out for reader in self.readers(name) for out in reader.output]
        return frozenset(found)

    def around(self, *nodes: NodeProto, more: Iterable[str] = ()) -> Places:
        """Where a mistake at some nodes may be noticed."""
        names = {name for node in nodes for name in (node.name, *node.output, *self.behind(node))}
        names |= {name.removesuffix(PLANTED) for name in names} | set(more)
        return frozenset(name for name in names if name)

    # Editing.

    def store(self, value: Any) -> str:
        """Add an initializer; its name."""
        self._stored += 1
        name = f"{self._stored}{PLANTED}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def change(self, node: NodeProto, place: int, change: Change) -> Places:
        """Give one reader another constant: the latent tensor of a binarised weight where that is one."""
        value, name = self.value(node.input[place]), node.input[place]
        if value is None:
            maker = self.maker(name)
            copy = self.graph.node.add()
            copy.CopyFrom(maker)
            copy.name, copy.output[0] = f"{maker.name}{PLANTED}", f"{name}{PLANTED}"
            places = self.change(copy, 0, change)
            node.input[place] = copy.output[0]
            self.sort()
            return places | self.around(node, more=[name])
        changed = change(value.copy())
        kind = value.dtype if value.dtype.kind != "b" else changed.dtype
        node.input[place] = self.store(np.ascontiguousarray(changed).astype(kind).reshape(changed.shape))
        return self.around(node, more=[name])

    def insert(self, tensor: str, op: str, *others: str, only: NodeProto | None = None, **attributes: Any) -> Places:
        """Put an operator between a tensor and its readers, or one of them."""
        name = f"{tensor}{PLANTED}"
        if only is not None:
            only.input[:] = [name if each == tensor else each for each in only.input]
            made = helper.make_node(op, [tensor, *others], [name], name=name, **attributes)
            places = self.around(only, more=[tensor])
        else:
            maker = self.maker(tensor)
            places = self.around(maker)
            maker.output[:] = [name if each == tensor else each for each in maker.output]
            made = helper.make_node(op, [name, *others], [tensor], name=name, **attributes)
        self.graph.node.append(made)
        self.sort()
        return places

    def reorder(self, tensor: str, order: Change, axis: int = 1, only: NodeProto | None = None) -> Places:
        """Put the channels of a tensor in another order."""
        count = self.facts.result[tensor].shape[axis]
        index = np.asarray(order(np.arange(count))).astype(np.int64)
        if np.array_equal(index, np.arange(count)):
            raise LookupError("this order is the one that there is")
        return self.insert(tensor, "Gather", self.store(index), only=only, axis=axis)

    def attribute(self, node: NodeProto, name: str, value: Any) -> Places:
        """Set an attribute; None removes it."""
        kept = [each for each in node.attribute if each.name != name]
        del node.attribute[:]
        node.attribute.extend(kept if value is None else [*kept, helper.make_attribute(name, value)])
        return self.around(node)

    def has(self, node: NodeProto, name: str) -> Any:
        """The value of an attribute; None where it is not there."""
        found = next((each for each in node.attribute if each.name == name), None)
        return None if found is None else helper.get_attribute_value(found)

    def becomes(self, node: NodeProto, op: str, inputs: Iterable[str] | None = None, **attributes: Any) -> Places:
        """Put another operator in the place of a node, with these attributes and none of the node's."""
        places = self.around(node)
        node.op_type = op
        if inputs is not None:
            node.input[:] = list(inputs)
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        self.sort()
        return places

    def tidy(self) -> None:
        """Drop nodes and stored tensors that nothing reads any more."""
        outputs = {value.name for value in self.graph.output}
        notes = [each for note in self.graph.quantization_annotation for each in note.quant_parameter_tensor_names]
        while True:
            read = outputs | {name for node in self.graph.node for name in (*node.input, *captured(node))}
            dead = [node for node in self.graph.node if read.isdisjoint(node.output)]
            for node in dead:
                self.graph.node.remove(node)
            if not dead:
                break
        read |= {entry.value for entry in notes}
        for tensor in [each for each in self.graph.initializer if each.name not in read]:
            self.graph.initializer.remove(tensor)

    def sort(self) -> None:
        """Put the nodes behind what they read."""
        known = {each.name for each in (*self.graph.input, *self.graph.initializer)} | {""}
        waiting, done = list(self.graph.node), list[NodeProto]()
        while waiting:
            ready = [node for node in waiting if known.issuperset((*node.input, *captured(node)))]
            if not ready:
                raise LookupError(f"{waiting[0].name} reads what nothing makes")
            known.update(name for node in ready for name in node.output)
            done += ready
            taken = {id(node) for node in ready}
            waiting = [node for node in waiting if id(node) not in taken]
        place = {id(node): number for number, node in enumerate(done)}
        self.graph.node.sort(key=lambda node: place[id(node)])
