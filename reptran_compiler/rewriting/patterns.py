"""Patterns that read like the expression they match.

A pattern is a function of a `PatternBuilder` and of named operands:

    def pattern(p, x):
        return p.Add(p.Sub(p.any("b"), x, name="difference"), x, name="sum")

The same operand met twice must be the same tensor, by identity. Commutative operators match in either order.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, NoReturn

from reptran_compiler.model import Graph, Node, Tensor

#: Stands for every type of operator.
ANY = "*"


@dataclass(frozen=True)
class Operand:
    """Any tensor; with `constant`, only a stored one; with `test`, only one of which the test is true."""

    name: str
    constant: bool = False
    optional: bool = False
    test: Callable[[Tensor], bool] | None = None


@dataclass(frozen=True)
class Operator:
    """The output of an operator of one of some types."""

    types: tuple[str, ...]
    inputs: tuple[Operand | Operator | Either, ...]
    name: str
    attrs: tuple[tuple[str, Any], ...] = ()

    @cached_property
    def label(self) -> str:
        """What messages call it: its name, or its types."""
        return self.name or "/".join(self.types)

    @cached_property
    def deep(self) -> bool:
        """Whether the pattern asks for further operators above."""
        parts = (each.choices if isinstance(each, Either) else (each,) for each in self.inputs)
        return any(isinstance(part, Operator) for some in parts for part in some)

    @cached_property
    def needs(self) -> frozenset[frozenset[str]]:
        """Of each of these groups of types the expression has an operator above the one that it ends in."""
        above = (part for part in self.inputs if not isinstance(part, Operand))
        return frozenset[frozenset[str]]().union(*(part.above for part in above))

    @property
    def above(self) -> frozenset[frozenset[str]]:
        """`needs`, with the operator itself."""
        return self.needs | {frozenset(self.types)}

    @property
    def ends(self) -> tuple[str, ...]:
        """The types of the operator that the expression ends in."""
        return self.types

    def accepts(self, node: Node) -> bool:
        """Whether an operator has one of the types."""
        return ANY in self.types or node.op_type in self.types


@dataclass(frozen=True)
class Either:
    """Whichever of the alternatives matches first."""

    choices: tuple[Operand | Operator, ...]

    @property
    def deep(self) -> bool:
        """Whether an alternative asks for further operators above."""
        return any(isinstance(choice, Operator) and choice.deep for choice in self.choices)

    @cached_property
    def needs(self) -> frozenset[frozenset[str]]:
        """Of each of these groups of types every alternative has an operator above the one that it ends in."""
        return frozenset.intersection(*(choice.needs for choice in self.choices if isinstance(choice, Operator)))

    @property
    def above(self) -> frozenset[frozenset[str]]:
        """`needs`, with the operators themselves; nothing where any tensor will do."""
        if any(isinstance(choice, Operand) for choice in self.choices):
            return frozenset()
        return self.needs | {frozenset(self.ends)}

    @property
    def ends(self) -> tuple[str, ...]:
        """The types of the operators that an expression may end in."""
        return tuple(each for choice in self.choices if isinstance(choice, Operator) for each in choice.types)

    def accepts(self, node: Node) -> bool:
        """Whether an operator has one of the types that an expression may end in."""
        return any(isinstance(choice, Operator) and choice.accepts(node) for choice in self.choices)


Pattern = Operand | Operator | Either


class Mismatch(NamedTuple):
    """Why a pattern did not match: the pattern's part, where in the graph ("" for nowhere), and the reason."""

    part: str
    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.part} at {self.where}: {self.reason}" if self.where else f"{self.part}: {self.reason}"


class RequirementNotMet(Exception):
    """A rule's own check turned a match down."""

    @property
    def mismatch(self) -> Mismatch:
        """Why."""
        found: Mismatch = self.args[0]
        return found


#: What names of operands and operators do not stand in for.
_METHODS = frozenset({"get", "keep_name", "require", "turn_down"})


@dataclass(init=False)
class Match:
    """A match: operands and operators by the names that the pattern gives them, as attributes.

    Attributes:
        graph: the graph.
        root: the operator that the expression ends in.
        bound: operands and operators by name.
        nodes: the operators of the expression.
        facts: shapes, types, values and tags of tensors.
        context: what the phase knows of the whole graph: `Layers` before and after replication, `Copies` in it.
    """

    graph: Graph
    root: Node
    bound: dict[str, Any]
    nodes: tuple[Node, ...]
    facts: Any
    context: Any
    names: list[tuple[Tensor, Tensor]]

    def __init__(
        self,
        graph: Graph,
        root: Node,
        bound: dict[str, Any] | None = None,
        nodes: tuple[Node, ...] = (),
        facts: Any = None,
        context: Any = None,
        names: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> None:
        here, given = self.__dict__, bound or {}
        here.update(given)
        for taken in _METHODS.intersection(given):
            del here[taken]
        here["graph"], here["root"], here["bound"], here["nodes"] = graph, root, given, nodes
        here["facts"], here["context"], here["names"] = facts, context, [*names]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the pattern binds nothing to the name {name!r}")

    def get(self, name: str) -> Any:
        """What is bound to a name, None where an optional operand is absent."""
        return self.bound.get(name)

    def keep_name(self, old: Tensor, new: Tensor) -> None:
        """Let a new tensor have the name of one inside the match, which it takes the place of."""
        self.names.append((old, new))

    def require(self, condition: bool, reason: str, at: Node | Tensor | None = None) -> None:
        """Turn the match down, with a reason, where a condition does not hold."""
        if not condition:
            self.turn_down(reason, at)

    def turn_down(self, reason: str, at: Node | Tensor | None = None) -> NoReturn:
        """Turn the match down, with a reason."""
        raise RequirementNotMet(Mismatch("check", (at if at is not None else self.root).name, reason))


class PatternBuilder:
    """Builds patterns: `p.Conv(x, p.const("w"), name="conv", group=1)` for any operator type.

    Without operands the inputs are free. Further keywords are attributes: a value, or a function that says whether
    a value will do. An attribute that is absent has the operator's default, None where it has none. Operators inside
    the expression stand for their first outputs.
    """

    def __getattr__(self, op: str) -> Callable[..., Operator]:
        if op.startswith("_"):
            raise AttributeError(op)
        return lambda *inputs, name="", **attrs: Operator((op,), tuple(inputs), name, tuple(attrs.items()))

    def any(self, name: str = "", *, optional: bool = False, test: Callable[[Tensor], bool] | None = None) -> Operand:
        """Any tensor."""
        return Operand(name, optional=optional, test=test)

    def const(self, name: str = "", *, optional: bool = False, test: Callable[[Tensor], bool] | None = None) -> Operand:
        """A stored tensor."""
        return Operand(name, constant=True, optional=optional, test=test)

    def consts(self, names: str) -> tuple[Operand, ...]:
        """Several stored tensors, names separated by blanks."""
        return tuple(self.const(name) for name in names.split())

    def op(self, types: str, *inputs: Pattern, name: str = "", **attrs: Any) -> Operator:
        """An operator of one of several types, separated by blanks; `"*"` is any type."""
        return Operator(tuple(types.split()), inputs, name, tuple(attrs.items()))

    def either(self, *choices: Operand | Operator) -> Either:
        """Alternatives, the first that matches."""
        return Either(choices)


def build(pattern: Callable[..., Operator | Either]) -> Operator | Either:
    """The pattern that a pattern function describes; its parameters behind the builder are operands.

    Raises:
        TypeError: it describes no operator, or has parts that are none of a pattern.
    """
    names = list(inspect.signature(pattern).parameters)[1:]
    described = pattern(PatternBuilder(), *(Operand(name) for name in names))
    choices = described.choices if isinstance(described, Either) else (described,)
    if not choices or not all(isinstance(choice, Operator) for choice in choices):
        raise TypeError(f"its pattern returns a {type(described).__name__}, and has to return p.SomeOperator(...)")
    _see_parts(choices)
    return described


def _see_parts(parts: tuple[Any, ...]) -> None:
    """Raise `TypeError` where a part of a pattern is none."""
    stack, seen = list(parts), set[int]()
    while stack:
        part = stack.pop()
        if not isinstance(part, (Operand, Operator, Either)):
            raise TypeError(f"its pattern has the part {part!r}: operands are p.any(), p.const() or parameters")
        if id(part) not in seen:
            seen.add(id(part))
            stack += part.choices if isinstance(part, Either) else part.inputs if isinstance(part, Operator) else ()
