"""The matcher: whether the expression that ends in an operator is one that a pattern describes, and if not, why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from onnx import defs, helper

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.rewriting.patterns import Either, Match, Mismatch, Operand, Operator, Pattern

_COMMUTATIVE = frozenset({"Add", "Mul", "Equal", "And", "Or", "Max", "Min", "Sum"})

Bound = dict[str, Any]
Nodes = dict[int, Node]
Found = Iterator[tuple[Bound, Nodes]]


def match(pattern: Operator | Either, graph: Graph, root: Node) -> Match | Mismatch:
    """Match a pattern against the expression that ends in a node.

    A tensor inside the match that others read, or that is a graph output, makes it fail, unless the pattern
    itself reads it more than once.

    Returns:
        The first match, or why the attempt that came furthest failed.
    """
    if isinstance(pattern, Operator) and not pattern.inputs and not pattern.attrs and pattern.accepts(root):
        return Match(graph, root, {pattern.name: root} if pattern.name else {}, (root,))
    matcher = _Matcher(graph, ("expression", root.name, "does not match"))
    for choice in pattern.choices if isinstance(pattern, Either) else (pattern,):
        if not isinstance(choice, Operator):
            continue
        for bound, nodes in matcher.operator(choice, root, {}, {}):
            leak = _leak(graph, root, nodes)
            if leak is None:
                return Match(graph, root, bound, tuple(nodes.values()))
            matcher.fail("expression", leak.name, "is also read outside the match", bound, nodes)
    return Mismatch(*matcher.why)


def _leak(graph: Graph, root: Node, nodes: Nodes) -> Tensor | None:
    """A tensor inside an expression that is read outside of it."""
    inner = (tensor for node in nodes.values() if node is not root for tensor in node.outputs)
    return next((t for t in inner if graph.is_output(t) or any(id(reader) not in nodes for reader in t.outputs)), None)


@dataclass
class _Matcher:
    """Tries patterns against the operators of a graph; `why` says what did not fit in the best attempt so far, and
    becomes a `Mismatch`."""

    graph: Graph
    why: tuple[str, str, str]
    _furthest: int = -1

    def fail(self, part: str, where: str, reason: str, bound: Bound, nodes: Nodes) -> None:
        """Note that an attempt failed, with what it had found by then."""
        if len(bound) + len(nodes) > self._furthest:
            self.why, self._furthest = (part, where, reason), len(bound) + len(nodes)

    def operator(self, p: Operator, node: Node, bound: Bound, nodes: Nodes) -> Found:
        """All ways in which an operator fits, given what is bound already."""
        reason = self._unfit(p, node)
        if reason:
            self.fail(p.label, node.name, reason, bound, nodes)
            return
        if p.name:
            if bound.get(p.name, node) is not node:
                self.fail(p.label, node.name, "is not the operator met before under this name", bound, nodes)
                return
            bound = {**bound, p.name: node}
        nodes = {**nodes, id(node): node}
        if not p.inputs:
            yield bound, nodes
            return
        orders = [list(node.inputs)]
        if node.op in _COMMUTATIVE and len(node.inputs) == 2:
            orders.append(list(reversed(node.inputs)))
        for order in orders:
            yield from self._inputs(p, 0, order, bound, nodes)

    def _unfit(self, p: Operator, node: Node) -> str:
        """Why an operator by itself does not fit; empty where it does."""
        if not p.accepts(node):
            return f"is a {node.op_type}"
        for attribute, wanted in p.attrs:
            value = self._attribute(node, attribute)
            if not (wanted(value) if callable(wanted) else value == wanted):
                return f"its {attribute} is {value!r}"
        if p.inputs and len(node.inputs) > len(p.inputs):
            return f"has {len(node.inputs)} inputs, not {len(p.inputs)}"
        return ""

    def _attribute(self, node: Node, name: str) -> Any:
        """An attribute, or where it is absent the default that the operator has in the graph's opset."""
        if name in node.attrs:
            return node.attrs[name]
        return _default(node.op, "", self.graph.opset, name) if node.domain in (None, "", "ai.onnx") else None

    def _inputs(self, p: Operator, index: int, order: list[Tensor], bound: Bound, nodes: Nodes) -> Found:
        if index == len(p.inputs):
            yield bound, nodes
            return
        tensor = order[index] if index < len(order) and order[index].name != "" else None
        for now, seen in self._operand(p.inputs[index], tensor, bound, nodes):
            yield from self._inputs(p, index + 1, order, now, seen)

    def _operand(self, p: Pattern, tensor: Tensor | None, bound: Bound, nodes: Nodes) -> Found:
        if isinstance(p, Either):
            for choice in p.choices:
                yield from self._operand(choice, tensor, bound, nodes)
        elif isinstance(p, Operator):
            maker = tensor.inputs[0] if tensor is not None and tensor.inputs else None
            if maker is not None and maker.outputs[0] is tensor:
                yield from self.operator(p, maker, bound, nodes)
                return
            reason = "no operator makes it" if maker is None else f"is not the first output of {maker.name!r}"
            self.fail(p.label, tensor.name if tensor else "", reason, bound, nodes)
        elif tensor is None:
            if p.optional:
                yield bound, nodes
            else:
                self.fail(p.name, "", "is absent", bound, nodes)
        else:
            reason = _unfit_tensor(p, tensor, bound)
            if reason:
                part = p.name or ("constant" if p.constant else "operand")
                self.fail(part, tensor.name, reason, bound, nodes)
            else:
                yield ({**bound, p.name: tensor} if p.name else bound), nodes


def _unfit_tensor(p: Operand, tensor: Tensor, bound: Bound) -> str:
    """Why a tensor is not what a pattern asks for; empty where it is."""
    if p.constant and not isinstance(tensor, Constant):
        return "is not a constant"
    if p.test is not None and not p.test(tensor):
        return "does not pass the pattern's test"
    if bound.get(p.name, tensor) is not tensor:
        return "is not the tensor met before under this name"
    return ""


@cache
def _default(op: str, domain: str, opset: int, name: str) -> Any:
    """The default of an operator's attribute; None where it has none, or the operator is not known."""
    try:
        attribute = defs.get_schema(op, opset, domain).attributes.get(name)
    except defs.SchemaError:
        return None
    if attribute is None or not attribute.default_value.name:
        return None
    return helper.get_attribute_value(attribute.default_value)
