"""The matcher: whether the expression that ends in an operator is one that a pattern describes, and if not, why."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from onnx import defs, helper

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.rewriting.patterns import ANY, Either, Match, Mismatch, Operand, Operator

_COMMUTATIVE = frozenset({"Add", "Mul", "Equal", "And", "Or", "Max", "Min", "Sum"})

#: Whether what is matched behind a part fits, too.
Then = Callable[[], bool]
#: Whether a node, or an operand, fits and what comes behind it does, too; where not, nothing that it bound is left.
Step = Callable[[Any, "_Attempt", Then], bool]
#: What was made of the operands of a pattern so far, by identity.
Steps = dict[int, Step]
#: Whether a tensor fits, and the name that it was bound to, if any.
Test = Callable[[Any, "_Attempt"], tuple[bool, str]]
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
            if step(root, attempt, attempt.end):
                return Match(graph, root, attempt.bound, tuple(attempt.nodes.values()))
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
    """The match of one expression: what is bound and found so far, and what did not fit in the best attempt."""

    def __init__(self, graph: Graph, root: Node) -> None:
        self.graph, self.root = graph, root
        self.why = ("expression", root.name, "does not match")
        self.furthest = -1
        self.bound: dict[str, Any] = {}
        self.nodes: dict[int, Node] = {}

    def fails(self, part: str, where: str, reason: str) -> bool:
        """Note why an attempt failed, if it had found more by then than others had."""
        found = len(self.bound) + len(self.nodes)
        if found > self.furthest:
            self.why, self.furthest = (part, where, reason), found
        return False

    def end(self) -> bool:
        """Whether what was found is a match: nothing leaks."""
        leak = self._leak()
        return leak is None or self.fails("expression", leak.name, "is also read outside the match")

    def _leak(self) -> Tensor | None:
        """A tensor inside the expression that is read outside of it."""
        nodes = self.nodes
        for node in nodes.values() if len(nodes) > 1 else ():
            for tensor in node.outputs if node is not self.root else ():
                if self.graph.is_output(tensor) or any(id(reader) not in nodes for reader in tensor.outputs):
                    return tensor
        return None


def _operator(p: Operator, known: Steps) -> Step:
    """All ways in which an operator fits."""
    types, label, name, attrs, count = frozenset(p.types), p.label, p.name, p.attrs, len(p.inputs)
    any_type, operands = ANY in types, _operands(p, known)

    def fits(node: Node, attempt: _Attempt, then: Then) -> bool:
        if not any_type and node.op_type not in types:
            return attempt.fails(label, node.name, f"is a {node.op_type}")
        for attribute, wanted in attrs:
            value = _attribute(attempt.graph, node, attribute)
            if not (wanted(value) if callable(wanted) else value == wanted):
                return attempt.fails(label, node.name, f"its {attribute} is {value!r}")
        if count and len(node.inputs) > count:
            return attempt.fails(label, node.name, f"has {len(node.inputs)} inputs, not {count}")
        bound, nodes, key = attempt.bound, attempt.nodes, id(node)
        if name and bound.get(name, node) is not node:
            return attempt.fails(label, node.name, "is not the operator met before under this name")
        named, new = name and name not in bound, key not in nodes
        if named:
            bound[name] = node
        nodes[key] = node
        if operands(node, attempt, then) if count else then():
            return True
        if named:
            del bound[name]
        if new:
            del nodes[key]
        return False

    return fits


def _operands(p: Operator, known: Steps) -> Step:
    """All ways in which the operands of an operator fit: in their order, then the other way round."""
    count = len(p.inputs)
    parts = tuple(_operand(part) if isinstance(part, Operand) else None for part in p.inputs)
    steps = tuple(None if isinstance(part, Operand) else _part(part, known) for part in p.inputs)

    def fit(place: int, given: list[Tensor | None], attempt: _Attempt, then: Then) -> bool:
        """Whether operands fit from one of them on."""
        names = []
        for here in range(place, count):
            tensor, step, part = given[here], steps[here], parts[here]
            if step is not None:
                ok = step(tensor, attempt, lambda: fit(here + 1, given, attempt, then))  # noqa: B023 - called before
                break
            assert part is not None, "an operand is tested where nothing else is made of it"
            ok, name = part(tensor, attempt)
            if name:
                names.append(name)
            if not ok:
                break
        else:
            ok = then()
        if not ok:
            for name in names:
                del attempt.bound[name]
        return ok

    def fits(node: Node, attempt: _Attempt, then: Then) -> bool:
        given: list[Tensor | None] = [tensor if tensor.name else None for tensor in node.inputs]
        if len(given) < count:
            given += [None] * (count - len(given))
        if fit(0, given, attempt, then):
            return True
        if node.op not in _COMMUTATIVE or len(node.inputs) != 2:
            return False
        given[:2] = given[1::-1]
        return fit(0, given, attempt, then)

    return fits


def _part(p: Either | Operator, known: Steps) -> Step:
    """All ways in which an operand fits that is more than a tensor."""
    if id(p) not in known:
        known[id(p)] = _either(p, known) if isinstance(p, Either) else _made(p, known)
    return known[id(p)]


def _either(p: Either, known: Steps) -> Step:
    """An operand that is one of several things."""
    choices = tuple(_alone(each) if isinstance(each, Operand) else _part(each, known) for each in p.choices)

    def either(tensor: Tensor | None, attempt: _Attempt, then: Then) -> bool:
        return any(choice(tensor, attempt, then) for choice in choices)

    return either


def _made(p: Operator, known: Steps) -> Step:
    """An operand that an operator makes."""
    fits, label = _operator(p, known), p.label

    def made(tensor: Tensor | None, attempt: _Attempt, then: Then) -> bool:
        maker = tensor.inputs[0] if tensor is not None and tensor.inputs else None
        if maker is not None and maker.outputs[0] is tensor:
            return fits(maker, attempt, then)
        reason = "no operator makes it" if maker is None else f"is not the first output of {maker.name!r}"
        return attempt.fails(label, tensor.name if tensor else "", reason)

    return made


def _alone(p: Operand) -> Step:
    """An operand that is a tensor, among alternatives."""
    test = _operand(p)

    def alone(tensor: Tensor | None, attempt: _Attempt, then: Then) -> bool:
        ok, name = test(tensor, attempt)
        ok = ok and then()
        if name and not ok:
            del attempt.bound[name]
        return ok

    return alone


def _operand(p: Operand) -> Test:
    """Whether an operand is a tensor that fits."""
    name, constant, test = p.name, p.constant, p.test
    part = name or ("constant" if constant else "operand")

    def operand(tensor: Tensor | None, attempt: _Attempt) -> tuple[bool, str]:
        if tensor is None:
            return p.optional or attempt.fails(name, "", "is absent"), ""
        if constant and not isinstance(tensor, Constant):
            return attempt.fails(part, tensor.name, "is not a constant"), ""
        if test is not None and not test(tensor):
            return attempt.fails(part, tensor.name, "does not pass the pattern's test"), ""
        if not name:
            return True, ""
        if name not in attempt.bound:
            attempt.bound[name] = tensor
            return True, name
        same = attempt.bound[name] is tensor
        return same or attempt.fails(part, tensor.name, "is not the tensor met before under this name"), ""

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
