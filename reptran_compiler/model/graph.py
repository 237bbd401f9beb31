"""The graph that rules rewrite: graphsurgeon's nodes and tensors, equal only to themselves.

graphsurgeon compares nodes and tensors deeply, which makes every list removal slow and merges look-alikes.
The classes here compare by identity; everything else is graphsurgeon's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from heapq import heapify, heappop, heappush
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto
from onnx_graphsurgeon.util.misc import SynchronizedList

from reptran_compiler.model.protos import element_dtype
from reptran_compiler.model.referred import Scratch, array_of, is_referred
from reptran_compiler.model.subgraphs import captured

Array = NDArray[Any]

_NOTHING: Mapping[str, None] = MappingProxyType({})


class _Links(SynchronizedList):  # type: ignore[misc]
    """What an operator or a tensor is linked with: each of these is linked back, in its list called `field_name`."""

    def __init__(self, owner: Any, back: str, initial: Sequence[Any] = ()) -> None:
        self.parent_obj, self.field_name = owner, back
        if initial:
            list.extend(self, initial)
            for each in initial:
                list.append(each.__dict__[back], owner)

    def clear(self) -> None:
        """Become empty; the other sides forget the owner."""
        back, owner = self.field_name, self.parent_obj
        for each in self:
            list.remove(each.__dict__[back], owner)
        list.clear(self)


class Unread(gs.ir.tensor.LazyValues):  # type: ignore[misc]
    """The values of a stored tensor, not read yet."""

    def __init__(self, tensor: TensorProto) -> None:
        self.tensor, self.shape, self.dtype = tensor, tuple(tensor.dims), element_dtype(tensor.data_type)

    def load(self) -> Array:
        """The values."""
        return array_of(self.tensor)


def _set(self: Any, name: str, value: Any) -> None:
    """Set an attribute of a tensor or an operator; graphsurgeon's way, which keeps both sides linked, is slow."""
    if name == "inputs" or name == "outputs":
        gs.Variable.__setattr__(self, name, value)
    else:
        object.__setattr__(self, name, value)


class Variable(gs.Variable):  # type: ignore[misc]
    """A tensor that is computed or fed. `inputs` holds its maker (none or one), `outputs` its readers."""

    name: str
    inputs: list[Node]
    outputs: list[Node]

    __eq__ = object.__eq__
    __hash__ = object.__hash__
    __setattr__ = _set

    def __init__(self, name: str) -> None:
        here = self.__dict__
        here["name"], here["dtype"], here["shape"], here["type"] = name, None, None, "tensor_type"
        here["inputs"], here["outputs"] = _Links(self, "outputs"), _Links(self, "inputs")


class Constant(gs.Constant):  # type: ignore[misc]
    """A stored tensor. It never changes: another value is another constant."""

    name: str
    inputs: list[Node]
    outputs: list[Node]
    source: TensorProto | None
    _values: Any

    __eq__ = object.__eq__
    __hash__ = object.__hash__
    __setattr__ = _set

    def __init__(self, name: str, values: Array | Unread, source: TensorProto | None = None) -> None:
        here = self.__dict__
        here["name"], here["_values"], here["source"] = name, values, source
        here["data_location"] = here["_export_dtype"] = None
        here["inputs"], here["outputs"] = _Links(self, "outputs"), _Links(self, "inputs")

    @property
    def values(self) -> Array:
        """The values, loaded when first asked; the array is read-only for good, and so is the attribute."""
        loaded: Array = self._values.load() if isinstance(self._values, Unread) else self._values
        if isinstance(self._values, Unread) and not is_referred(self._values.tensor):
            self._values = loaded  # what is referred to is not kept: it is at hand
        if loaded.flags.writeable:
            loaded.flags.writeable = False
            # A view of an array that is read-only cannot be made writeable.
            self._values = loaded = loaded.view()
        return loaded


Tensor = Variable | Constant


class Node(gs.Node):  # type: ignore[misc]
    """An operator.

    Attributes:
        op_type: the operator type, with its domain in front where that is not ONNX' own.
        source: the node of the file that it stems from: its metadata goes along with it.
        gone: whether it was taken out of its graph.
    """

    op: str
    op_type: str
    name: str
    attrs: dict[str, Any]
    domain: str | None
    inputs: list[Tensor]
    outputs: list[Variable]

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(
        self,
        op: str,
        name: str,
        attrs: dict[str, Any],
        inputs: Sequence[Tensor],
        outputs: Sequence[Variable],
        domain: str | None = None,
        source: NodeProto | None = None,
    ) -> None:
        here = self.__dict__
        here["op"], here["name"], here["attrs"] = op, name, attrs
        here["op_type"] = op if not domain or domain == "ai.onnx" else f"{domain}.{op}"
        here["domain"], here["source"], here["gone"] = domain, source, False
        here["inputs"], here["outputs"] = _Links(self, "outputs", inputs), _Links(self, "inputs", outputs)

    def __setattr__(self, name: str, value: Any) -> None:
        _set(self, name, value)
        if name == "op" or name == "domain":
            own = not self.domain or self.domain == "ai.onnx"
            self.__dict__["op_type"] = self.op if own else f"{self.domain}.{self.op}"

    @cached_property
    def captured(self) -> Mapping[str, None]:
        """The names that its subgraphs read, in order, those that they make themselves included."""
        return _NOTHING if self.source is None else dict.fromkeys(captured(self.source)) or _NOTHING

    def input(self, position: int) -> Tensor | None:
        """An input, None where it is absent."""
        if position >= len(self.inputs) or self.inputs[position].name == "":
            return None
        return self.inputs[position]


class Graph:
    """The main graph of a model.

    Attributes:
        model: the model it was read from, without its graph: opsets, metadata, functions.
        nodes: the operators; makers stand before readers.
        inputs, outputs: the graph's inputs and outputs, in order.
        pinned: names of tensors that subgraphs (If, Loop) read; they must not vanish.
        beside: operators that were made and are not part of the graph yet.
        recent: the names that were given since operators were last adopted.
        scratch: where large constants are stored; None to hold them in memory.
        version: another number whenever its operators or their connections have changed.
    """

    def __init__(
        self,
        model: ModelProto,
        nodes: Iterable[Node],
        inputs: Iterable[Tensor],
        outputs: Iterable[Tensor],
        pinned: frozenset[str],
        names: set[str],
        scratch: Scratch | None = None,
    ) -> None:
        self.model = model
        self.scratch = scratch
        self.nodes = list(nodes)
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.pinned = pinned
        self._names = names
        self._numbers: dict[str, int] = {}  # the last number behind each hint: none below is free
        self.beside: list[Node] = []
        self.recent: set[str] = set()
        self.version = 0

    @property
    def opset(self) -> int:
        """The version of ONNX' own operators."""
        return next((int(o.version) for o in self.model.opset_import if o.domain in ("", "ai.onnx")), 1)

    def fresh(self, hint: str) -> str:
        """A name that nothing in the graph has yet: the hint, or the hint with a number."""
        name, number = hint, self._numbers.get(hint, 1)
        while name in self._names:
            number += 1
            name = f"{hint}.{number}"
        self._names.add(name)
        self._numbers[hint] = number
        self.recent.add(name)
        return name

    def constant(self, hint: str, values: Array | Sequence[int] | Sequence[float], dtype: Any = None) -> Constant:
        """A new stored tensor with a fresh name."""
        return self.stored(self.fresh(hint), np.array(values, dtype=dtype, order="C"))

    def stored(self, name: str, values: Array) -> Constant:
        """A stored tensor of a name that is the caller's business, its values where the graph keeps large ones."""
        if self.scratch is None or not self.scratch.keeps(values):
            return Constant(name, values)
        made = self.scratch.store(values, name)
        return Constant(name, Unread(made), made)

    def node(
        self,
        op: str,
        inputs: Sequence[Tensor | None],
        attrs: Mapping[str, Any] | None = None,
        *,
        like: Node | None = None,
        name: str = "",
        outputs: int = 1,
    ) -> Node:
        """A new operator with fresh output tensors, beside the graph: it joins `nodes` when it is adopted.

        Args:
            op: its type, of ONNX' own domain unless `like` is given and of the same type.
            inputs: what it reads; None for an optional input that is absent.
            attrs: its attributes.
            like: a node whose name, documentation and metadata it takes over (a second one, another name).
            name: a hint for its name where `like` is absent.
            outputs: how many.

        Raises:
            TypeError: what it shall read is no tensor.
        """
        read = [Variable("") if each is None else _checked(each, op, place) for place, each in enumerate(inputs)]
        if like is None:
            label, source, domain = self.fresh(name or op), None, None
        else:
            label, source = like.name, like.source
            domain = like.domain if like.op == op else None
            if any(each.name == label for each in self.beside):
                label = self.fresh(label)
        made = [Variable(self.fresh(f"{label}/out")) for _ in range(outputs)]
        node = Node(op, label, dict(attrs) if attrs else {}, read, made, domain, source)
        self.beside.append(node)
        return node

    def mark(self) -> int:
        """A mark for `since`."""
        return len(self.beside)

    def since(self, mark: int) -> list[Node]:
        """The operators that were made beside the graph since a mark."""
        return self.beside[mark:]

    def adopt(self, nodes: Iterable[Node]) -> None:
        """Make operators part of the graph, and drop all others that stand beside it."""
        if not nodes and not self.beside and not self.recent:
            return
        kept = list(nodes)
        if self.beside:
            if len(kept) < len(self.beside):
                known = {id(node) for node in kept}
                for node in self.beside:
                    if id(node) not in known:
                        _drop(node)
            self.beside.clear()
        if self.recent:
            self.recent.clear()
        if kept:
            self.nodes += kept
            self.version += 1

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Build something beside the graph for a look at it: behind the block it is dropped, and its names are free."""
        start, names, numbers, recent = self.mark(), set(self._names), dict(self._numbers), set(self.recent)
        try:
            yield
        finally:
            for node in self.since(start):
                _drop(node)
            del self.beside[start:]
            self._names, self._numbers, self.recent = names, numbers, recent

    def replace(self, old: Tensor, new: Tensor, keep: Iterable[Node] = ()) -> None:
        """Let every reader of `old` but those of `keep` read `new`, which takes over the name and place of `old`."""
        self.redirect(old, new, keep)
        if old in self.outputs:
            self.outputs = [new if tensor is old else tensor for tensor in self.outputs]
        old.__dict__["name"], new.__dict__["name"] = new.name, old.name

    def redirect(self, old: Tensor, new: Tensor, keep: Iterable[Node] = ()) -> None:
        """Let every reader of `old` but those of `keep` read `new`; both keep their names."""
        self.version += 1
        kept = {id(node) for node in keep}
        readers = list(old.outputs)
        stay = [reader for reader in readers if id(reader) in kept] if kept else []
        list.clear(old.outputs)
        list.extend(old.outputs, stay)
        for reader in dict.fromkeys(readers):
            if id(reader) in kept:
                continue
            for position, tensor in enumerate(reader.inputs):
                if tensor is old:
                    list.__setitem__(reader.inputs, position, new)
                    list.append(new.outputs, reader)

    def prune(self, node: Node) -> None:
        """Take an operator that nothing reads any more off the tensors that it reads, and so on above it.

        It leaves `nodes` with the next `tidy`.
        """
        stack = [node]
        while stack:
            here = stack.pop()
            if self.is_read(here):
                continue
            above = [tensor.inputs[0] for tensor in here.inputs if tensor.inputs]
            here.inputs.clear()
            here.__dict__["gone"] = True
            self.version += 1
            stack += above

    def is_output(self, tensor: Tensor) -> bool:
        """Whether it is an output of the graph, or read by a subgraph."""
        return tensor in self.outputs or tensor.name in self.pinned

    def is_read(self, node: Node) -> bool:
        """Whether anything reads an operator: another one, a subgraph, or who runs the graph."""
        for tensor in node.outputs:
            if tensor.outputs or tensor in self.outputs or tensor.name in self.pinned:
                return True
        return False

    def tidy(self) -> None:
        """Drop nodes that no output needs and sort the rest, keeping the order where it is free."""
        needed: set[int] = set()
        stack = [t.inputs[0] for t in self.outputs if t.inputs]
        if self.pinned:
            stack += [n for n in self.nodes if any(o.name in self.pinned for o in n.outputs)]
        while stack:
            node = stack.pop()
            if id(node) in needed:
                continue
            needed.add(id(node))
            for tensor in node.inputs:
                if tensor.inputs:
                    stack.append(tensor.inputs[0])
        if len(needed) < len(self.nodes):
            for node in self.nodes:
                if id(node) not in needed:
                    _drop(node)
            self.nodes = [node for node in self.nodes if id(node) in needed]
        self.nodes = self._sorted(self.nodes)
        self.version += 1

    def _pinned(self, nodes: list[Node]) -> dict[str, Node]:
        """The makers of what subgraphs read."""
        if not self.pinned:
            return {}
        return {t.name: node for node in nodes for t in node.outputs if t.name in self.pinned}

    def _in_order(self, nodes: list[Node]) -> bool:
        """Whether makers stand before readers."""
        pinned, seen = self._pinned(nodes), set[int]()
        for node in nodes:
            for tensor in node.inputs:
                if tensor.inputs and id(tensor.inputs[0]) not in seen:
                    return False
            if pinned and not all(id(pinned[name]) in seen for name in node.captured if name in pinned):
                return False
            seen.add(id(node))
        return True

    def _sorted(self, nodes: list[Node]) -> list[Node]:
        if self._in_order(nodes):
            return nodes
        place = {id(node): index for index, node in enumerate(nodes)}
        waiting = [0] * len(nodes)
        behind: list[list[int]] = [[] for _ in nodes]
        pinned = self._pinned(nodes)
        for index, node in enumerate(nodes):
            makers = {place[id(t.inputs[0])] for t in node.inputs if t.inputs}
            if pinned:
                makers |= {place[id(pinned[name])] for name in node.captured if name in pinned}
            waiting[index] = len(makers)
            for maker in makers:
                behind[maker].append(index)
        ready = [index for index, count in enumerate(waiting) if count == 0]
        heapify(ready)
        order = []
        while ready:
            index = heappop(ready)
            order.append(nodes[index])
            for later in behind[index]:
                waiting[later] -= 1
                if waiting[later] == 0:
                    heappush(ready, later)
        if len(order) != len(nodes):
            raise ValueError("the graph has a circle")
        return order


def _drop(node: Node) -> None:
    """Take an operator off its tensors."""
    node.inputs.clear()
    node.outputs.clear()
    node.__dict__["gone"] = True


def _checked(tensor: Any, op: str, place: int) -> Tensor:
    """What an operator shall read. Raises `TypeError` where it is no tensor."""
    if isinstance(tensor, (Variable, Constant)):
        return tensor
    hint = "give one of its .outputs" if isinstance(tensor, Node) else "store it with g.constant"
    raise TypeError(f"operand {place} of {op} is a {type(tensor).__name__}, no tensor: {hint}")
