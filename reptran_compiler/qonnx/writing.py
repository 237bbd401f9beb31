"""Writing QONNX: binarisations become BipolarQuant, quantisers Quant, and what holds signs has that stated.

What is written is read back (`reading.standard_operators`), and that is what the compiler judges: a mistake here is
found as one in the rules is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from reptran_compiler.costs.view import PASSING
from reptran_compiler.errors import BadInput
from reptran_compiler.model.protos import copy_fields
from reptran_compiler.model.subgraphs import captured
from reptran_compiler.qonnx.chains import Bipolar, Chains, Integer
from reptran_compiler.qonnx.integers import IntegerType
from reptran_compiler.qonnx.reading import OLDEST_OPSET, standard_operators

#: The domain that is written, and its version.
_DOMAIN, _VERSION = "qonnx.custom_op.general", 2
#: The key of a data type among the parameters of a quantization annotation, and the type of +-1.
_DATATYPE, _SIGNS = "finn_datatype", "BIPOLAR"
_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
#: What the reader puts behind the name of the operator that a quantiser ends in.
_ENDINGS = ("/sign", "/scaled")


def qonnx_operators(
    model: ModelProto, integers: Mapping[str, IntegerType] = MappingProxyType({}), beta: int = 1
) -> ModelProto:
    """A model with its binarisations and quantisers as operators of the qonnx domain.

    `Where(x >= 0, 1, -1)` becomes BipolarQuant, and so does `Sign` of stored numbers none of which is 0.
    `(round(clip(x / s + z)) - z) * s` becomes Quant where the bounds are those of an integer type. What holds signs has
    that stated (BIPOLAR, as the `finn_datatype` of a quantization annotation). An operator that reads a tensor twice
    reads an Identity of it the second time: qonnx renames only the first of equal inputs. value_info is kept of what
    nodes still make, graph outputs apart: qonnx refuses a shape that is stated twice.

    Args:
        model: a model in ONNX' own operators; it is not changed.
        integers: the types that weights of the source had, by layer name; stated where the model's still are of them.
        beta: the replication factor: weights of a widened classifier are a beta-th of what they were.

    Raises:
        BadInput: a layer reads a Sign that may meet a 0, which BipolarQuant makes +1; or the opset is too old to be
            read back.
    """
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise BadInput(f"--emit qonnx: the model has opset {opset}: export it with opset {OLDEST_OPSET} or later")
    return _Writer(model, integers, beta).write()


def read_back(written: ModelProto, original: ModelProto) -> ModelProto:
    """What a reader makes of a model that was written, what its quantisers hold inside called and stated as before.

    Args:
        written: what `qonnx_operators` made.
        original: what it made it of.
    """
    read = standard_operators(written)
    before, after = Chains(original), Chains(read)
    swap = {
        new: before.steps(before.maker[name])[kind]
        for name, maker in after.maker.items()
        if name in before.maker
        for kind, new in after.steps(maker).items()
        if before.steps(before.maker[name]).get(kind, new) not in after.maker
    }
    for node in read.graph.node:
        node.input[:] = [swap.get(name, name) for name in node.input]
        node.output[:] = [swap.get(name, name) for name in node.output]
    inside = set(swap.values())
    read.graph.value_info.extend(value for value in original.graph.value_info if value.name in inside)
    return read


class _Writer:
    """Writes one model."""

    def __init__(self, model: ModelProto, integers: Mapping[str, IntegerType], beta: int) -> None:
        self.model, self.chains = model, Chains(model)
        self._integers, self._beta = integers, beta
        self._numbers: dict[float, TensorProto] = {}
        self._signs: list[str] = []
        taken = {name for node in model.graph.node for name in (node.name, *node.input, *node.output)}
        self._taken = taken | {each.name for each in (*model.graph.initializer, *model.graph.input)}

    def write(self) -> ModelProto:
        graph = self.model.graph
        self._see_no_zero()
        written = [each for node in graph.node for each in self._written(node)]
        given = {value.name for value in graph.output}
        nodes = list(_read(written, given, {name for node in graph.node for name in _reads(node)}))
        before, after = ({name for node in each for name in _reads(node)} for each in (graph.node, nodes))
        made = ModelProto()
        copy_fields(self.model, made, without=("graph",))
        copy_fields(graph, made.graph, without=("node", "initializer", "value_info"))
        made.graph.node.extend(nodes)
        inside = {name for node in nodes for name in node.output} - given
        made.graph.value_info.extend(value for value in graph.value_info if value.name in inside)
        kept = after | given | {value.name for value in graph.input}
        made.graph.initializer.extend(t for t in graph.initializer if t.name in kept or t.name not in before)
        made.graph.initializer.extend(self._numbers.values())
        self._state_types(made)
        if all(each.domain != _DOMAIN for each in made.opset_import):
            made.opset_import.append(helper.make_opsetid(_DOMAIN, _VERSION))
        return made

    def _written(self, node: NodeProto) -> Iterator[NodeProto]:
        """The operators that stand for one."""
        found = self.chains.ending_in(node)
        if found is None:
            yield from self._reading_once(node)
            return
        if isinstance(found, Bipolar):
            made = NodeProto(op_type="BipolarQuant", input=[found.x, self._number(1.0)])
            self._signs.append(node.output[0])
        else:
            made = NodeProto(op_type="Quant", input=self._operands(found))
            made.attribute.extend(
                helper.make_attribute(key, value)
                for key, value in (
                    ("signed", int(found.signed)),
                    ("narrow", int(found.narrow)),
                    ("rounding_mode", found.rounding),
                )
            )
        copy_fields(node, made, without=("op_type", "domain", "input", "attribute", "name"))
        made.domain, made.name = _DOMAIN, self._named(node)
        yield made

    def _operands(self, found: Integer) -> list[str]:
        zero = found.zero or self._number(0.0)
        return [found.x, found.scale, zero, self._number(float(found.bits))]

    def _reading_once(self, node: NodeProto) -> Iterator[NodeProto]:
        """A node that reads no tensor twice, behind the Identities that it takes."""
        double = [place for place, name in enumerate(node.input) if name and name in node.input[:place]]
        if not double:
            yield node
            return
        single = NodeProto()
        single.CopyFrom(node)
        for place in double:
            copy = self._fresh(f"{node.input[place]}/again")
            yield helper.make_node("Identity", [node.input[place]], [copy], name=copy)
            single.input[place] = copy
        yield single

    def _see_no_zero(self) -> None:
        """Raise `BadInput` where what a layer reads comes from a Sign that is no BipolarQuant."""
        makers, seen = self.chains.maker, set()
        stack = [(name, node.name) for node in self.model.graph.node if node.op_type in _LAYERS for name in node.input]
        while stack:
            name, layer = stack.pop()
            node = makers.get(name)
            if node is None or name in seen:
                continue
            seen.add(name)
            if node.op_type == "Sign" and self.chains.ending_in(node) is None:
                raise BadInput(
                    f"--emit qonnx: {node.op_type} {node.name!r}, which layer {layer!r} reads, is 0 at 0, and "
                    "BipolarQuant +1: --sign-zero plus makes it that"
                )
            if node.op_type == "Concat" or node.op_type in PASSING:
                operands = node.input if node.op_type == "Concat" else node.input[:1]
                stack += [(each, layer) for each in operands]

    def _state_types(self, made: ModelProto) -> None:
        """State the data types of binarised maps, and of weights that are stored as signs or integers."""
        types = dict.fromkeys(self._signs, _SIGNS)
        for layer in made.graph.node:
            for name in layer.input[:2] if layer.op_type in _LAYERS else ():
                found = self._type(name, layer.name)
                if found:
                    types[name] = found
        notes = {note.tensor_name: note for note in made.graph.quantization_annotation}
        for name, kind in types.items():
            note = notes.get(name) or made.graph.quantization_annotation.add(tensor_name=name)
            entries = [each for each in note.quant_parameter_tensor_names if each.key == _DATATYPE]
            entry = entries[0] if entries else note.quant_parameter_tensor_names.add(key=_DATATYPE)
            entry.value = kind

    def _type(self, name: str, layer: str) -> str:
        """The data type of a layer's stored weights; "" of others."""
        values = self.chains.value(name)
        if values is None:
            return ""
        if bool(np.isin(values, (-1, 1)).all()):
            return _SIGNS
        known = self._integers.get(layer)
        return known.name_for(values, self._beta) if known is not None else ""

    def _number(self, value: float) -> str:
        """A stored scalar, the same for all that read it."""
        if value not in self._numbers:
            name = self._fresh(f"qonnx/{value:g}")
            self._numbers[value] = numpy_helper.from_array(np.array(value, np.float32), name)
        return self._numbers[value].name

    def _named(self, node: NodeProto) -> str:
        """The name of the quantiser that stands for some operators, of which a node is the last."""
        ending = next((each for each in _ENDINGS if node.name.endswith(each)), "")
        short = node.name.removesuffix(ending)
        return self._fresh(short) if ending and short not in self._taken else str(node.name)

    def _fresh(self, hint: str) -> str:
        candidates = (f"{hint}{number or ''}" for number in range(len(self._taken) + 1))
        name = next(each for each in candidates if each not in self._taken)
        self._taken.add(name)
        return name


def _reads(node: NodeProto) -> tuple[str, ...]:
    return (*node.input, *captured(node))


def _read(nodes: Iterable[NodeProto], given: set[str], before: set[str]) -> Iterator[NodeProto]:
    """The nodes without those whose readers are gone.

    Args:
        nodes: the nodes.
        given: names of the graph's outputs.
        before: the names that nodes read when all readers were there.
    """
    nodes = list(nodes)
    maker = {name: node for node in nodes for name in node.output if name}
    counts = Counter(name for node in nodes for name in _reads(node))
    gone: set[int] = set()
    stack = [name for name in before if name in maker and not counts[name]]
    while stack:
        node = maker[stack.pop()]
        if id(node) in gone or any(counts[name] or name in given for name in node.output if name):
            continue
        gone.add(id(node))
        for name in _reads(node):
            counts[name] -= 1
            if not counts[name] and name in maker:
                stack.append(name)
    return (node for node in nodes if id(node) not in gone)
