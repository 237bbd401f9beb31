"""What stands directly behind a layer: its factored scale, its bias, its BatchNormalization.

Replication puts copies (Tile, Concat of one tensor, Expand) between a layer and its affine; those are looked
through, so that a network and its wide form are counted in the same kinds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .view import Operator, View

#: Operators that leave a layer's output what it is: copies, and another shape for it.
_THROUGH = frozenset("Tile Expand Identity Cast Reshape Flatten Squeeze Unsqueeze Transpose Dropout".split())


@dataclass(frozen=True)
class Trail:
    """A tensor that lies directly behind the layer with node index ``layer``.

    ``stage`` says what stood between: 0 nothing, 1 the layer's scale, 2 its bias or its BatchNormalization.
    """

    layer: int
    stage: int


class Trails:
    """Follows layers' outputs while nodes are visited in the order of the graph."""

    def __init__(self, view: View, layers: Iterable[int]) -> None:
        self._view = view
        self._layers = frozenset(layers)
        self._behind: dict[str, Trail] = {}

    def behind(self, name: str) -> Trail | None:
        """The layer that a tensor lies directly behind; None for any other tensor."""
        return self._behind.get(name)

    def visit(self, index: int) -> None:
        """Note what the outputs of a node lie behind. Nodes must come in the order of the graph."""
        node = self._view.nodes[index]
        trail = Trail(index, 0) if index in self._layers else self._next(node)
        if trail is not None and trail.stage < 2:
            self._behind[node.output[0]] = trail

    def _next(self, node: Operator) -> Trail | None:
        if node.op_type in _THROUGH or (node.op_type == "Concat" and len(set(node.input)) == 1):
            return self._behind.get(node.input[0])
        if node.op_type not in {"Mul", "Div"}:
            return None
        operands = self._view.operands(node)
        trail = None if operands is None else self._behind.get(operands[0])
        return None if trail is None else Trail(trail.layer, trail.stage + 1)
