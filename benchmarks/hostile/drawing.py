"""What the mutations of structure draw from a model: a node, a tensor, a name, a number that hurts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

Random = np.random.Generator
#: Changes a model in place. Raises `Nothing` where the model has nothing to change.
Change = Callable[[ModelProto, Random], None]
T = TypeVar("T")

#: Sizes and positions at the edges of what fits, and beyond.
NUMBERS = (0, 1, -1, 2, 3, 5, 7, -2, 64, 1 << 20, 1 << 31, -(1 << 31), 1 << 40, 1 << 62, -(1 << 63), (1 << 63) - 1)
#: Names that mean something to somebody.
NAMES = (
    "",
    " ",
    "/",
    "../x",
    "a\nb",
    "\x1b[31mred\x1b[0m",
    "ü\u202etxt",
    "x" * 5000,
    "\0",
    "%s{0}",
    "'; \"",
    "shape of x",
)
FLOATS = (0.0, -0.0, 1e-45, -1.0, 3.4e38, float("inf"), float("-inf"), float("nan"))


class Nothing(Exception):
    """The model has nothing that this mutation could change."""


def one(random: Random, some: Sequence[T]) -> T:
    """One of them.

    Raises:
        Nothing: there is none.
    """
    if not len(some):
        raise Nothing
    return some[int(random.integers(len(some)))]


def number(random: Random) -> int:
    """A number that hurts, more often a small one."""
    return int(one(random, NUMBERS if random.random() < 0.6 else NUMBERS[:9]))


def node(model: ModelProto, random: Random) -> NodeProto:
    """A node of the main graph."""
    found: NodeProto = one(random, model.graph.node)
    return found


def tensor(model: ModelProto, random: Random) -> TensorProto:
    """A stored tensor: an initializer, or sometimes one that a node holds."""
    held: list[TensorProto] = [a.t for each in model.graph.node for a in each.attribute if a.HasField("t")]
    found: TensorProto = one(random, held if held and random.random() < 0.4 else model.graph.initializer)
    return found


def name(model: ModelProto, random: Random) -> str:
    """The name of a tensor of the model, or one that nothing has."""
    draw = random.random()
    if draw < 0.1:
        return one(random, NAMES)
    if draw < 0.2:
        return "nowhere"
    known: list[str] = [name for each in model.graph.node for name in (*each.input, *each.output)]
    known += [value.name for value in model.graph.input]
    return one(random, known)
