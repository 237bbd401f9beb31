"""Rules in one line: how an operator carries replication.

    swish = pointwise("com.example.Swish")

in a file given to `--rules`, or behind an entry point, is all that it takes to carry an operator of one's own. The
engine executes each of these rules on copies that differ, as it does any rule. An operator that no rule carries is
a boundary.
"""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.replication.copies import read_outputs, rebuilt, wide_operand
from reptran_compiler.replication.effects import replicates
from reptran_compiler.replication.state import Wide
from reptran_compiler.rewriting import Match, Rule, Tagged, rule

#: Where carriers stand among the rules of their phase: behind those of layers, in front of boundaries.
CARRIERS = 50


def pointwise(*types: str, name: str | None = None) -> Rule:
    """Operators that act on each element of their first operand alone; further operands are not wide.

    Args:
        types: operator types, with the domain in front where it is not ONNX' own.
        name: the rule's name.
    """

    class Pointwise:
        def pattern(p: Any) -> Any:
            return p.op(" ".join(types))

        def rewrite(m: Match, g: Graph) -> list[Tagged]:
            state = wide_operand(m)
            return [Tagged(out, state) for out in read_outputs(m)]

    Pointwise.__doc__ = f"{_listed(types)}: each copy alone."
    return _carrier(name or f"carry-{_slug(types)}", Pointwise)


def broadcasting(*types: str, name: str | None = None) -> Rule:
    """Operators that broadcast their operands against each other; narrow operands with channels are repeated.

    Args:
        types: operator types.
        name: the rule's name.
    """

    class Broadcasting:
        def pattern(p: Any) -> Any:
            return p.op(" ".join(types))

        def rewrite(m: Match, g: Graph) -> list[Tagged]:
            copies, root = m.context, m.root
            rank = copies.rank(root.outputs[0])
            states = {t.name: state for t in root.inputs if (state := copies.wide(t)) is not None}
            wide = [(t, states[t.name]) for t in root.inputs if t.name in states and not isinstance(t, Constant)]
            m.require(bool(wide), "no operand is wide")
            placed = {(state.axis + rank - copies.rank(tensor), state.outer) for tensor, state in wide}
            m.require(len(placed) == 1, "wide operands have their channels on different axes")
            axis, outer = placed.pop()
            size = copies.shape(root.outputs[0])[axis]
            inputs = []
            for tensor in root.inputs:
                state = copies.wide(tensor)
                if not tensor.name or (state is not None and state.size == size):
                    inputs.append(tensor)
                elif state is not None:
                    m.require(outer == 1, "the copies lie interleaved", tensor)
                    inputs.append(copies.per_copy(g, tensor, state, size))
                else:
                    at = 0 if _old_slope(m, tensor) else axis - (rank - len(copies.shape(tensor)))
                    shape = copies.shape(tensor)
                    if at < 0 or shape[at] == 1:
                        inputs.append(tensor)
                    else:
                        inputs.append(copies.repeated(g, tensor, at, outer))
            equal = all(state.equal for _, state in wide)
            return [Tagged(out, Wide(axis, size, outer, equal)) for out in rebuilt(m, g, inputs)]

    Broadcasting.__doc__ = f"{_listed(types)}: narrow operands are repeated, p^ = tile(p, beta)."
    return _carrier(name or f"carry-{_slug(types)}", Broadcasting)


def per_channel(op_type: str, *operands: int, name: str | None = None, blocks: bool = False) -> Rule:
    """An operator on [N, C, ...] with one parameter a channel in some of its operands.

    Args:
        op_type: the operator type.
        operands: the places of operands of shape [C].
        name: the rule's name.
        blocks: whether the copies have to lie as blocks along the channels.
    """

    class PerChannel:
        def pattern(p: Any) -> Any:
            return p.op(op_type)

        def rewrite(m: Match, g: Graph) -> list[Tagged]:
            copies, root = m.context, m.root
            state = wide_operand(m, blocks=blocks)
            m.require(state.axis == 1, "its channels are not on axis 1")
            inputs = list(root.inputs)
            for place in operands:
                inputs[place] = copies.repeated(g, inputs[place], 0, state.outer)
            m.require(len(read_outputs(m)) == 1, "a second output is read")
            return [Tagged(rebuilt(m, g, inputs)[0], state)]

    PerChannel.__doc__ = f"{op_type}: each copy of a channel has its own copy of the parameters."
    return _carrier(name or f"carry-{_slug((op_type,))}", PerChannel)


def spatial(*types: str, name: str | None = None) -> Rule:
    """Operators on [N, C, ...] that work on each channel alone, over its space.

    Args:
        types: operator types.
        name: the rule's name.
    """

    class Spatial:
        def pattern(p: Any) -> Any:
            return p.op(" ".join(types))

        def rewrite(m: Match, g: Graph) -> list[Tagged]:
            state = wide_operand(m, blocks=True)
            m.require(state.axis == 1, "its channels are not on axis 1")
            m.require(len(read_outputs(m)) == 1, "a second output is read")
            return [Tagged(m.root.outputs[0], state)]

    Spatial.__doc__ = f"{_listed(types)}: each channel alone."
    return _carrier(name or f"carry-{_slug(types)}", Spatial)


def _carrier(name: str, body: type) -> Rule:
    return rule(name, effect=replicates(), phase="replicate", order=CARRIERS)(body)


def _old_slope(m: Match, tensor: Tensor) -> bool:
    """Before opset 9, a PRelu slope of shape [C] belongs to axis 1."""
    slope = m.root.op == "PRelu" and tensor is m.root.inputs[1]
    return slope and m.graph.opset < 9 and len(m.context.shape(tensor)) == 1


def _listed(types: tuple[str, ...]) -> str:
    return ", ".join(types[:4]) + (" and others" if len(types) > 4 else "")


def _slug(types: tuple[str, ...]) -> str:
    return types[0].lower().replace(".", "-")
