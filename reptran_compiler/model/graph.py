"""The graph that rules rewrite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from reptran_compiler.model.elements import Constant, Node, Tensor, Unread, Variable
from reptran_compiler.model.referred import Move, Scratch, moved, signs_of

Array = NDArray[Any]

_TENSORS = (Variable, Constant)


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
        opset: the version of ONNX' own operators.
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
        self.opset = next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)

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

    def rearranged(self, hint: str, tensor: Constant, move: Move) -> Constant:
        """A new stored tensor with a fresh name: another one in another arrangement."""
        name = self.fresh(hint)
        made = self._derived(tensor, lambda source: moved(source, name, move))
        return made or self.stored(name, np.array(move.apply(tensor.values), order="C"))

    def signs(self, hint: str, tensor: Constant) -> Constant:
        """A new stored tensor with a fresh name: the signs of another one, each 1, -1 or 0, in its type."""
        name = self.fresh(hint)
        made = self._derived(tensor, lambda source: signs_of(source, name)) or self.stored(name, np.sign(tensor.values))
        made.zeros = tensor.zeros  # a sign is 0 where the number is
        return made

    def _derived(self, tensor: Constant, derive: Callable[[TensorProto], TensorProto | None]) -> Constant | None:
        """What is derived from the reference that a stored tensor is; None where it is none, or where it is stored."""
        source = tensor.reference
        if self.scratch is None or not self.scratch.derives or source is None:
            return None
        made = derive(source)
        return None if made is None else Constant(made.name, Unread(made), made)

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
        read = [each if isinstance(each, _TENSORS) else _absent(each, op, place) for place, each in enumerate(inputs)]
        inside: Iterable[str] = ()
        if like is None:
            label, source, domain = self.fresh(name or op), None, None
        else:
            label, source, inside = like.name, like.source, like.captured
            domain = like.domain if like.op == op else None
            if self.beside and any(each.name == label for each in self.beside):
                label = self.fresh(label)
        made = [Variable(self.fresh(f"{label}/out")) for _ in range(outputs)]
        node = Node(op, label, dict(attrs) if attrs else {}, read, made, domain, source, inside)
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
        kept, readers = {id(node) for node in keep}, list(old.outputs)
        list.clear(old.outputs)
        for reader in readers:
            if id(reader) in kept:
                list.append(old.outputs, reader)
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
        left = [node for node in self.nodes if not node.gone]
        # A chain that no output needs would end in a node that nothing reads.
        needed = left if all(map(self.is_read, left)) else self._needed()
        if len(needed) < len(self.nodes):
            known = set(map(id, needed))
            for node in self.nodes:
                if id(node) not in known:
                    _drop(node)
        self.nodes = self._sorted(needed)
        self.version += 1

    def _needed(self) -> list[Node]:
        """The nodes that some output needs."""
        needed: set[int] = set()
        stack = [tensor.inputs[0] for tensor in self.outputs if tensor.inputs]
        if self.pinned:
            stack += [n for n in self.nodes if any(o.name in self.pinned for o in n.outputs)]
        while stack:
            node = stack.pop()
            if id(node) in needed:
                continue
            needed.add(id(node))
            stack += [tensor.inputs[0] for tensor in node.inputs if tensor.inputs]
        return [node for node in self.nodes if id(node) in needed]

    def _pinned(self, nodes: list[Node]) -> dict[str, Node]:
        """The makers of what subgraphs read."""
        if not self.pinned:
            return {}
        return {t.name: node for node in nodes for t in node.outputs if t.name in self.pinned}

    def _sorted(self, nodes: list[Node]) -> list[Node]:
        """The nodes, each behind the makers of what it reads, otherwise in their order."""
        pinned = self._pinned(nodes)
        order: list[Node] = []
        done: set[int] = set()
        waiting: dict[int, int] = {}  # for how many makers a node waits, by its place
        behind: dict[int, list[int]] = {}  # the places of the nodes that wait for one
        for place, node in enumerate(nodes):
            makers = [id(tensor.inputs[0]) for tensor in node.inputs if tensor.inputs]
            if pinned:
                makers += [id(pinned[name]) for name in node.captured if name in pinned]
            if not done.issuperset(makers):
                late = [maker for maker in makers if maker not in done]
                waiting[place] = len(late)
                for maker in late:
                    behind.setdefault(maker, []).append(place)
                continue
            ready = [place]
            while ready:
                here = nodes[heappop(ready)]
                order.append(here)
                done.add(id(here))
                for reader in behind.pop(id(here), ()):
                    waiting[reader] -= 1
                    if not waiting[reader]:
                        heappush(ready, reader)
        if len(order) != len(nodes):
            raise ValueError("the graph has a circle")
        return order


def _drop(node: Node) -> None:
    """Take an operator off its tensors."""
    node.inputs.clear()
    node.outputs.clear()
    node.__dict__["gone"] = True


def _absent(operand: Any, op: str, place: int) -> Variable:
    """What stands for an optional operand that is None. Raises `TypeError` for anything else, which is no tensor."""
    if operand is None:
        return Variable("")
    hint = "give one of its .outputs" if isinstance(operand, Node) else "store it with g.constant"
    raise TypeError(f"operand {place} of {op} is a {type(operand).__name__}, no tensor: {hint}")
