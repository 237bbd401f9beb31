"""The matcher: whether the expression that ends in an operator is one that a pattern describes, and if not, why."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from onnx import defs, helper

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.rewriting.patterns import ANY, Either, Match, Mismatch, Operand, Operator, Pattern

_COMMUTATIVE = frozenset({"Add", "Mul", "Equal", "And", "Or", "Max", "Min", "Sum"})

Bound = dict[str, Any]
Nodes = dict[int, Node]
#: Takes what is bound and found so far further; whether that gave a match.
Then = Callable[[Bound, Nodes], bool]
#: Whether a node, or an operand, fits and what comes behind it does, too.
Step = Callable[[Any, Bound, Nodes, "_Attempt", Then], bool]
#: What was made of the operands of a pattern so far, by identity.
Steps = dict[int, Step]
Matcher = Callable[[Graph, Node], Match | Mismatch]


def match(pattern: Operator | Either, graph: Graph, root: Node) -> Match | Mismatch:
    """Match a pattern against the expression that ends in a node.

    A tensor inside the match that others read, or that is a graph output, makes it fail, unless the pattern
    itself reads it more than once.

    Returns:
        The first match, or why the attempt that came furthest failed.
    """
    return compiled(pattern)(graph, root)


def compiled(pattern: Operator | Either) -> Matcher:
    """`match` for one pattern, which is looked at once: a function for each of its parts, however often it is there."""
    if isinstance(pattern, Operator) and not pattern.inputs and not pattern.attrs:
        return _any_operands(pattern)
    choices = pattern.choices if isinstance(pattern, Either) else (pattern,)
    known: Steps = {}
    steps = [_operator(choice, known) for choice in choices if isinstance(choice, Operator)]

    def matched(graph: Graph, root: Node) -> Match | Mismatch:
        attempt = _Attempt(graph, root)
        for step in steps:
            if step(root, {}, {}, attempt, attempt.end):
                assert attempt.found is not None, "`end` is behind every match"
                return attempt.found
        return Mismatch(*attempt.why)

    return matched


def _any_operands(pattern: Operator) -> Matcher:
    """The matcher of a pattern that asks for a type of operator alone."""
    name, types = pattern.name, frozenset(pattern.types)

    def matched(graph: Graph, root: Node) -> Match | Mismatch:
        if ANY in types or root.op_type in types:
            return Match(graph, root, {name: root} if name else {}, (root,))
        return Mismatch(pattern.label, root.name, f"is a {root.op_type}")

    return matched


class _Attempt:
    """The match of one expression; `why` says what did not fit in the best attempt so far."""

    def __init__(self, graph: Graph, root: Node) -> None:
        self.graph, self.root = graph, root
        self.why = ("expression", root.name, "does not match")
        self.furthest = -1
        self.found: Match | None = None

    def fails(self, part: str, where: str, reason: str, bound: Bound, nodes: Nodes) -> bool:
        """Note why an attempt failed, with what it had found by then."""
        if len(bound) + len(nodes) > self.furthest:
            self.why, self.furthest = (part, where, reason), len(bound) + len(nodes)
        return False

    def end(self, bound: Bound, nodes: Nodes) -> bool:
        """Note a match, unless it leaks."""
        leak = self._leak(nodes)
        if leak is not None:
            return self.fails("expression", leak.name, "is also read outside the match", bound, nodes)
        self.found = Match(self.graph, self.root, bound, tuple(nodes.values()))
        return True

    def _leak(self, nodes: Nodes) -> Tensor | None:
        """A tensor inside the expression that is read outside of it."""
        for node in nodes.values() if len(nodes) > 1 else ():
            for tensor in node.outputs if node is not self.root else ():
                if self.graph.is_output(tensor) or any(id(reader) not in nodes for reader in tensor.outputs):
                    return tensor
        return None


def _operator(p: Operator, known: Steps) -> Step:
    """All ways in which an operator fits."""
    types, label, name, attrs, count = frozenset(p.types), p.label, p.name, p.attrs, len(p.inputs)
    any_type, steps = ANY in types, tuple(_part(part, known) for part in p.inputs)

    def fits(node: Node, bound: Bound, nodes: Nodes, attempt: _Attempt, then: Then) -> bool:
        if not any_type and node.op_type not in types:
            return attempt.fails(label, node.name, f"is a {node.op_type}", bound, nodes)
        for attribute, wanted in attrs:
            value = _attribute(attempt.graph, node, attribute)
            if not (wanted(value) if callable(wanted) else value == wanted):
                return attempt.fails(label, node.name, f"its {attribute} is {value!r}", bound, nodes)
        if count and len(node.inputs) > count:
            return attempt.fails(label, node.name, f"has {len(node.inputs)} inputs, not {count}", bound, nodes)
        if name:
            if bound.get(name, node) is not node:
                return attempt.fails(label, node.name, "is not the operator met before under this name", bound, nodes)
            bound = {**bound, name: node}
        nodes = {**nodes, id(node): node}
        if not count:
            return then(bound, nodes)
        given: list[Tensor | None] = [tensor if tensor.name else None for tensor in node.inputs]
        given += [None] * (count - len(given))
        if _inputs(steps, 0, given, bound, nodes, attempt, then):
            return True
        if node.op not in _COMMUTATIVE or len(node.inputs) != 2:
            return False
        given[:2] = given[1::-1]
        return _inputs(steps, 0, given, bound, nodes, attempt, then)

    return fits


def _inputs(
    steps: tuple[Step, ...],
    index: int,
    given: list[Tensor | None],
    bound: Bound,
    nodes: Nodes,
    attempt: _Attempt,
    then: Then,
) -> bool:
    """Whether operands fit from one of them on."""
    if index == len(steps) - 1:
        return steps[index](given[index], bound, nodes, attempt, then)

    def rest(now: Bound, seen: Nodes) -> bool:
        return _inputs(steps, index + 1, given, now, seen, attempt, then)

    return steps[index](given[index], bound, nodes, attempt, rest)


def _part(p: Pattern, known: Steps) -> Step:
    """All ways in which an operand fits."""
    if id(p) not in known:
        if isinstance(p, Either):
            known[id(p)] = _either(p, known)
        else:
            known[id(p)] = _made(p, known) if isinstance(p, Operator) else _operand(p)
    return known[id(p)]


def _either(p: Either, known: Steps) -> Step:
    """An operand that is one of several things."""
    choices = tuple(_part(choice, known) for choice in p.choices)

    def either(tensor: Tensor | None, bound: Bound, nodes: Nodes, attempt: _Attempt, then: Then) -> bool:
        return any(choice(tensor, bound, nodes, attempt, then) for choice in choices)

    return either


def _made(p: Operator, known: Steps) -> Step:
    """An operand that an operator makes."""
    fits, label = _operator(p, known), p.label

    def made(tensor: Tensor | None, bound: Bound, nodes: Nodes, attempt: _Attempt, then: Then) -> bool:
        maker = tensor.inputs[0] if tensor is not None and tensor.inputs else None
        if maker is not None and maker.outputs[0] is tensor:
            return fits(maker, bound, nodes, attempt, then)
        reason = "no operator makes it" if maker is None else f"is not the first output of {maker.name!r}"
        return attempt.fails(label, tensor.name if tensor else "", reason, bound, nodes)

    return made


def _operand(p: Operand) -> Step:
    """An operand that is a tensor."""
    name, constant, test = p.name, p.constant, p.test
    part = name or ("constant" if constant else "operand")

    def operand(tensor: Tensor | None, bound: Bound, nodes: Nodes, attempt: _Attempt, then: Then) -> bool:
        if tensor is None:
            return then(bound, nodes) if p.optional else attempt.fails(name, "", "is absent", bound, nodes)
        if constant and not isinstance(tensor, Constant):
            return attempt.fails(part, tensor.name, "is not a constant", bound, nodes)
        if test is not None and not test(tensor):
            return attempt.fails(part, tensor.name, "does not pass the pattern's test", bound, nodes)
        if name:
            if bound.get(name, tensor) is not tensor:
                reason = "is not the tensor met before under this name"
                return attempt.fails(part, tensor.name, reason, bound, nodes)
            bound = {**bound, name: tensor}
        return then(bound, nodes)

    return operand


def _attribute(graph: Graph, node: Node, name: str) -> Any:
    """An attribute, or where it is absent the default that the operator has in the graph's opset."""
    if name in node.attrs:
        return node.attrs[name]
    return _default(node.op, "", graph.opset, name) if node.domain in (None, "", "ai.onnx") else None


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
