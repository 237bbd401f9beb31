"""Which layers of a lowered network compute in integers, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from reptran_compiler.lowering.latency import Convolution, Machine
from reptran_compiler.model import Constant, Node
from reptran_compiler.model.windows import windows_of
from reptran_compiler.replication import IntegerForm, Layers, binarised

#: What every layer can be, and what one of a map of fixed size can be besides.
FORMS: tuple[IntegerForm, ...] = ("convolution", "product")
#: Int8 Clip is of this opset.
_OPSET = 12
#: The largest weight that fits int8, and uint8 around a zero point.
_LARGEST = 127
#: How much a layer has to save: turning its map costs what its neighbours pay, too.
_MICROSECONDS = 30.0


def integer_layers(layers: Layers, optimize: str, machine: Machine) -> Mapping[str, IntegerForm]:
    """The layers that compute in integers, by name, and how.

    Args:
        layers: the network's.
        optimize: "int8" for all that can, "auto" for those that are faster so; none otherwise.
        machine: where they are to be faster.
    """
    chosen = {}
    for node in _able(layers) if optimize in ("int8", "auto") else ():
        size, forms = _size(node, layers), FORMS if _fixed(node, layers) else FORMS[:1]
        form = machine.fastest(size, forms) if optimize == "int8" else faster_in_integers(size, machine, forms)
        if form is not None:
            chosen[node.name] = form
    return chosen


def faster_in_integers(
    layer: Convolution, machine: Machine, forms: Sequence[IntegerForm] = FORMS
) -> IntegerForm | None:
    """The fastest of some ways to compute a layer in integers; None where floats are faster, or the model may err."""
    form = machine.fastest(layer, forms)
    faster = machine.ratio(layer, form) < 1 - machine.share and machine.saves(layer, form) > _MICROSECONDS
    return form if faster else None


def _able(layers: Layers) -> list[Node]:
    """The convolutions of binarised maps with stored signs, or sums of some."""
    if layers.graph.opset < _OPSET:
        return []
    return [
        node
        for node in layers.graph.nodes
        if node.op_type == "Conv"
        and _reads_signs(node)
        and isinstance(node.inputs[1], Constant)
        and layers.facts.of(node.inputs[0]).dtype == np.float32
        and len(node.inputs[1].shape) == 4
        and node.attrs.get("group", 1) == 1
        and _small_integers(node.inputs[1])
    ]


def _small_integers(weights: Constant) -> bool:
    """Whether weights are signs, or sums of some."""
    values = weights.values
    return bool((np.abs(values) <= _LARGEST).all() and (np.rint(values) == values).all())


def _reads_signs(node: Node) -> bool:
    """Whether a layer without bias reads a binarised map, or one with a bias what `pad-by-layer` makes of that."""
    x = node.inputs[0]
    if len(node.inputs) == 2:
        return binarised(x) is not None
    return bool(x.inputs) and x.inputs[0].op_type == "Add" and binarised(x.inputs[0].inputs[0]) is not None


def _fixed(node: Node, layers: Layers) -> bool:
    """Whether a layer always looks at the same places of its map, as a product needs it."""
    extent, (_, _, *kernel) = layers.extent(node.inputs[0]), node.inputs[1].shape
    return extent is not None and windows_of(node, (kernel[0], kernel[1]), extent) is not None


def _size(node: Node, layers: Layers) -> Convolution:
    outputs, inputs, *kernel = node.inputs[1].shape
    _, _, *space = layers.facts.of(node.outputs[0]).shape
    return Convolution(inputs, outputs, math.prod(kernel), math.prod(space))
