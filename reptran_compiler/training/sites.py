"""An operator where it stands in a graph, and how it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.verification.protograph import NodeView

Run = Callable[..., Any]
#: Attributes that change nothing here: of outputs that are not read, of training mode, and of 8-bit floats.
_HARMLESS = frozenset({"storage_order", "ratio", "seed", "saturate", "round_mode"})


class Unsupported(Exception):
    """An operator, or a form of one, that cannot be trained through."""


@dataclass(frozen=True)
class Site:
    """An operator in a graph.

    Attributes:
        node: the operator.
        static: what its inputs hold, by position; None where that depends on the graph's inputs or on parameters.
        opset: the version of ONNX' own operators.
        asked: the names of the attributes that were asked for.
    """

    node: NodeView
    static: tuple[NDArray[Any] | None, ...]
    opset: int
    asked: set[str] = field(default_factory=set)

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, or the default."""
        self.asked.add(name)
        return self.node.attribute(name, default)

    def see_attributes(self) -> None:
        """Raise `Unsupported` where the operator has an attribute that nothing asked for: it might matter."""
        for name in sorted({each.name for each in self.node.proto.attribute} - self.asked - _HARMLESS):
            raise Unsupported(f"its attribute {name!r} is not known")

    def value(self, position: int, attribute: str = "", default: Any = None) -> Any:
        """What an input holds, as an array, or an attribute that older opsets have in its place, or the default.

        Raises:
            Unsupported: the input is there and computed.
        """
        if self.node.input(position):
            held = self.static[position]
            if held is None:
                raise Unsupported(f"input {self.node.input(position)!r} is computed")
            return held
        return self.attribute(attribute, default) if attribute else default


@dataclass(frozen=True)
class Reading:
    """How an operator runs: a function, and the positions of the inputs that it is given."""

    run: Run
    positions: tuple[int, ...]


def integers(values: Any) -> tuple[int, ...]:
    """The integers of an array, or of an attribute."""
    return tuple(int(each) for each in np.asarray(values).reshape(-1))
