"""What kernels of one bit cannot represent of a network: the 0, which binary layers read of padding and of Sign."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from onnx import ModelProto, NodeProto

from reptran_compiler.costs.view import PASSING, attribute
from reptran_compiler.model.referred import array_of

#: How many layers a message names.
_SHOWN = 3


def unpackable(model: ModelProto, layers: Sequence[str]) -> tuple[str, ...]:
    """What keeps binary layers from being run on packed bits as they are, a sentence for each cause.

    Args:
        model: a model in ONNX' own operators, its binarisations in canonical form.
        layers: node names of its binary layers.
    """
    zeros = _Zeros(model)
    causes: tuple[tuple[str, Callable[[NodeProto], bool]], ...] = (
        ("zero padding (pad with +1 or -1 in front of the layer instead)", zeros.of_padding),
        ("a Sign that is 0 at 0 (--sign-zero plus makes it +1)", zeros.of_sign),
        ("weights that are 0", zeros.of_weights),
    )
    nodes = [node for node in model.graph.node if node.name in set(layers)]
    found = ((what, [node.name for node in nodes if check(node)]) for what, check in causes)
    return tuple(f"kernels of one bit have no 0, and {_named(names)} {what}" for what, names in found if names)


class _Zeros:
    """Where the zeros come from that layers of a model read."""

    def __init__(self, model: ModelProto) -> None:
        self._makers = {name: node for node in model.graph.node for name in node.output if name}
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}

    def of_padding(self, layer: NodeProto) -> bool:
        """Whether a layer pads, or a Pad in front of it does so with 0."""
        same = attribute(layer, "auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER")
        if layer.op_type == "Conv" and (same or any(attribute(layer, "pads", ()))):
            return True
        return any(node.op_type == "Pad" and self._with_zeros(node) for node in self._behind(layer.input[0]))

    def of_sign(self, layer: NodeProto) -> bool:
        """Whether a layer reads a Sign of what may be 0."""
        signs = [node for name in layer.input[:2] for node in self._behind(name) if node.op_type == "Sign"]
        return any(sign.input[0] not in self._stored or self._any_zero(sign.input[0]) for sign in signs)

    def of_weights(self, layer: NodeProto) -> bool:
        """Whether a layer's stored weights hold zeros."""
        return any(self._any_zero(name) for name in layer.input[:2] if name in self._stored)

    def _behind(self, name: str) -> Iterator[NodeProto]:
        """The operators that values came through since they were computed, and those that computed them."""
        seen: set[str] = set()
        stack = [name]
        while stack:
            node = self._makers.get(stack.pop())
            if node is None or node.output[0] in seen:
                continue
            seen.add(node.output[0])
            yield node
            stack += self._passed_on(node)

    def _passed_on(self, node: NodeProto) -> list[str]:
        if node.op_type == "Concat":
            return list(node.input)
        return list(node.input[:1]) if node.op_type in PASSING else []

    def _with_zeros(self, pad: NodeProto) -> bool:
        if attribute(pad, "mode", "constant") != "constant":
            return False
        name = pad.input[2] if len(pad.input) > 2 else ""
        if name:
            return name not in self._stored or self._any_zero(name)
        return float(attribute(pad, "value", 0.0)) == 0.0

    def _any_zero(self, name: str) -> bool:
        return not bool(np.all(array_of(self._stored[name])))


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    if len(names) == 1:
        return f"binary layer {shown} reads"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} binary layers read ({shown}{more})"
