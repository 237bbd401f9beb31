"""Reading the qonnx domain: its quantisers written in ONNX' own operators, so that everything behind can run them.

`BipolarQuant(x, scale)` is `scale` where x >= 0 and `-scale` elsewhere; `Quant(x, scale, zero_point, bits)` is
`(round(clip(x / scale + zero_point)) - zero_point) * scale`. Tensors keep their names."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from reptran_compiler.errors import BadInput
from reptran_compiler.model.io import Source
from reptran_compiler.model.referred import array_of
from reptran_compiler.model.subgraphs import captured

Array = NDArray[Any]

#: The domains that hold qonnx' quantisers; exporters have moved them.
DOMAINS = frozenset({"qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas"})

#: The operator for each of QONNX' `rounding_mode`s.
ROUNDING = {"ROUND": "Round", "HALF_EVEN": "Round", "CEIL": "Ceil", "FLOOR": "Floor"}
#: Older opsets lack some of the operators that quantisers are read as.
OLDEST_OPSET = 13


def readable(source: Source) -> Source:
    """A source, its model without quantisers of the qonnx domain.

    Raises:
        BadInput: as `standard_operators` does.
    """
    return replace(source, model=standard_operators(source.model))


def count_quantisers(model: ModelProto) -> int:
    """How many operators of the qonnx domain a model has."""
    return sum(node.domain in DOMAINS for node in model.graph.node)


def standard_operators(model: ModelProto) -> ModelProto:
    """A model without quantisers of the qonnx domain: the model itself where it has none.

    Raises:
        BadInput: a quantiser has parameters that are not stored, one bit, or a rounding mode that ONNX' operators
            cannot say; or the opset is too old to spell it.
    """
    if not any(node.domain in DOMAINS for node in model.graph.node):
        return model
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise BadInput(f"the model has QONNX operators and opset {opset}: export it with opset {OLDEST_OPSET} or later")
    made = ModelProto()
    made.CopyFrom(model)
    stored = dict(parameters(model))
    taken = {name for node in model.graph.node for name in (*node.input, *node.output, node.name)}
    taken.update(each.name for each in (*model.graph.initializer, *model.graph.input))
    del made.graph.node[:]
    for node in model.graph.node:
        if node.domain not in DOMAINS:
            made.graph.node.append(node)
            continue
        writer = _Writer(made, node, stored, taken)
        if node.op_type == "BipolarQuant":
            _bipolar(writer)
        elif node.op_type in ("Quant", "IntQuant"):
            _quant(writer)
        else:
            raise BadInput(f"QONNX operator {node.op_type} {node.name!r} is not known: BipolarQuant and Quant are read")
    _drop_unread(made, stored)
    kept = [each for each in made.opset_import if each.domain not in DOMAINS]
    del made.opset_import[:]
    made.opset_import.extend(kept)
    return made


def _drop_unread(made: ModelProto, parameters: Collection[str]) -> None:
    """Drop parameters that only quantisers read."""
    read = {name for node in made.graph.node for name in (*node.input, *captured(node))}
    read.update(value.name for value in (*made.graph.output, *made.graph.input))
    stored = [each for each in made.graph.initializer if each.name in read or each.name not in parameters]
    nodes = [node for node in made.graph.node if node.op_type != "Constant" or _wanted(node, read, parameters)]
    del made.graph.initializer[:]
    made.graph.initializer.extend(stored)
    del made.graph.node[:]
    made.graph.node.extend(nodes)


def _wanted(node: NodeProto, read: Collection[str], parameters: Collection[str]) -> bool:
    return node.output[0] in read or node.output[0] not in parameters


class _Writer:
    """Writes the operators that stand for one quantiser."""

    def __init__(self, model: ModelProto, node: NodeProto, stored: dict[str, Array], taken: set[str]) -> None:
        self.graph, self.node, self._known, self._taken = model.graph, node, stored, taken
        self.attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        self.base = node.name or node.output[0]

    def value(self, place: int, what: str) -> Array:
        """A stored input."""
        name = self.node.input[place]
        if name not in self._known:
            raise BadInput(f"the {what} {name!r} of QONNX operator {self.node.op_type} {self.base!r} is computed")
        return self._known[name]

    def number(self, value: float, suffix: str) -> str:
        """A new stored scalar."""
        name = self._free(suffix)
        self.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return name

    def add(self, op_type: str, inputs: list[str], suffix: str, *, last: bool = False) -> str:
        """A new node's output; the quantiser's own where it is the `last` one."""
        name = self._free(suffix)
        output = self.node.output[0] if last else name
        self.graph.node.append(helper.make_node(op_type, inputs, [output], name=name))
        return output

    def _free(self, suffix: str) -> str:
        candidates = (f"{self.base}/{suffix}{number or ''}" for number in range(len(self._taken) + 1))
        name = next(each for each in candidates if each not in self._taken)
        self._taken.add(name)
        return name


def _bipolar(writer: _Writer) -> None:
    x, scale = writer.node.input[:2]
    unit = bool((writer.value(1, "scale") == 1).all()) and writer.value(1, "scale").size == 1
    mask = writer.add("GreaterOrEqual", [x, writer.number(0.0, "zero")], "mask")
    signs = [mask, writer.number(1.0, "one"), writer.number(-1.0, "minus")]
    sign = writer.add("Where", signs, "sign", last=unit)
    if not unit:
        writer.add("Mul", [sign, scale], "scaled", last=True)


def _quant(writer: _Writer) -> None:
    x, scale, zero = writer.node.input[:3]
    bits = writer.value(3, "bit width").reshape(-1)
    if bits.size != 1 or bits[0] <= 1:
        raise BadInput(
            f"QONNX operator Quant {writer.base!r} has {bits.tolist()} bits: a Quant of one bit is written wrongly by "
            "known exporters; export a binarisation as BipolarQuant"
        )
    signed, narrow = writer.attributes.get("signed", 1), writer.attributes.get("narrow", 1)
    mode = bytes(writer.attributes.get("rounding_mode", b"ROUND")).decode().upper()
    if mode not in ROUNDING:
        raise BadInput(f"QONNX operator Quant {writer.base!r} rounds by {mode}: {', '.join(ROUNDING)} are read")
    low, high = bounds(float(bits[0]), bool(signed), bool(narrow))
    shifted = writer.add("Add", [writer.add("Div", [x, scale], "divided"), zero], "shifted")
    clipped = writer.add("Clip", [shifted, writer.number(low, "low"), writer.number(high, "high")], "clipped")
    rounded = writer.add(ROUNDING[mode], [clipped], "rounded")
    writer.add("Mul", [writer.add("Sub", [rounded, zero], "centred"), scale], "scaled", last=True)


def bounds(bits: float, signed: bool, narrow: bool) -> tuple[float, float]:
    """The least and the greatest integer of a Quant's bits."""
    if signed:
        return float(narrow) - 2 ** (bits - 1), 2 ** (bits - 1) - 1
    return 0.0, 2**bits - 1 - float(narrow)


def parameters(model: ModelProto) -> Iterator[tuple[str, Array]]:
    """The parameters of quantisers that initializers and Constants hold, by name."""
    wanted = {name for node in model.graph.node if node.domain in DOMAINS for name in node.input[1:]}
    for tensor in model.graph.initializer:
        if tensor.name in wanted:
            yield tensor.name, array_of(tensor)
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] in wanted and node.attribute[0].name == "value":
            yield node.output[0], numpy_helper.to_array(node.attribute[0].t)
