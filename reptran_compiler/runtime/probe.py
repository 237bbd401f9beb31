"""Shapes and types of every tensor of a model, as a run shows them rather than as the file claims."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from reptran_compiler.model.protos import copy_fields, element_dtype
from reptran_compiler.model.referred import byte_count
from reptran_compiler.model.subgraphs import captured
from reptran_compiler.model.symbolic import Dimension, Symbols
from reptran_compiler.runtime.feeds import blank_feeds, random_feeds
from reptran_compiler.runtime.session import RuntimeFailure, Session, element_type

_SMALL_BYTES = 1024
#: Integers of which tensors of fewer axes consist count as sizes.
_RANK_OF_SIZES = 2

#: Words in the names of operators that read or make something else than plain tensors.
_NO_TENSORS = ("Sequence", "Optional", "ZipMap")
_MAKES_SEQUENCES = frozenset(
    "SplitToSequence SequenceConstruct SequenceEmpty SequenceInsert SequenceErase SequenceMap".split()
)

_TYPES: Mapping[str, str] = {
    "float": "float32",
    "double": "float64",
    "string": "object",
}


@dataclass(frozen=True)
class TensorFact:
    """What a run says about one tensor.

    Attributes:
        shape: its shape in that run.
        dtype: its numpy dtype.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def fits(self, stated: ValueInfoProto) -> bool:
        """Whether the run agrees with what is stated of a tensor. Of what is no tensor nothing is stated."""
        if not stated.type.HasField("tensor_type"):
            return True
        kind = stated.type.tensor_type
        if kind.elem_type and element_dtype(kind.elem_type) != self.dtype:
            return False
        if not kind.HasField("shape"):
            return True
        sizes = [axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim]
        if len(sizes) != self.rank:
            return False
        return all(size in (None, real) for size, real in zip(sizes, self.shape, strict=True))


def probe(
    model: ModelProto,
    feeds: Mapping[str, NDArray[Any]],
    *,
    values: Sequence[str] = (),
    threads: int = 1,
    among: Container[str] | None = None,
) -> tuple[dict[str, TensorFact], dict[str, NDArray[Any]]]:
    """Run a model once and note the shape and dtype of every tensor in its main graph.

    Only shapes leave onnxruntime, so large feature maps cost nothing.

    Args:
        model: the model; it is not changed.
        feeds: its inputs.
        values: tensors whose values are wanted as well.
        threads: threads within one operator.
        among: the computed tensors of which facts are wanted; all of them when absent.

    Returns:
        The facts by tensor name (graph inputs and initializers included; tensors that are not plain tensors
        are left out), and the values asked for.

    Raises:
        RuntimeFailure: the model does not load or does not run.
    """
    names = [name for node in model.graph.node for name in node.output if name]
    plain = [name for name in _plain_tensors(model, names) if among is None or name in among]
    taken = set(names) | {value.name for value in model.graph.input} | {t.name for t in model.graph.initializer}
    prefix = "shape of "
    while any(name.startswith(prefix) for name in taken):
        prefix += "* "
    shapes = [NodeProto(op_type="Shape", input=[name], output=[prefix + name]) for name in plain]
    session = Session(
        model, outputs=[*plain, *(prefix + name for name in plain), *values], threads=threads, nodes=shapes
    )
    found = session.run(feeds, [*(prefix + name for name in plain), *values])
    facts = _stored_facts(model)
    facts.update({name: TensorFact(array.shape, array.dtype) for name, array in feeds.items()})
    for name in plain:
        shape = tuple(int(size) for size in found[prefix + name])
        facts[name] = TensorFact(shape, _dtype(session.types[name]))
    return facts, {name: found[name] for name in values}


def tensor_facts(
    model: ModelProto, feeds: Mapping[str, NDArray[Any]], *, threads: int = 1, symbols: Symbols | None = None
) -> dict[str, TensorFact]:
    """Shape and dtype of every tensor in a model's main graph, for inputs of the given shapes.

    Shape inference tells them at the cost of no run; where it leaves anything open, a run does (`probe`).
    What the file itself states about its inner tensors is not believed.

    Args:
        model: the model; it is not changed.
        feeds: its inputs.
        threads: threads within one operator.
        symbols: what shapes are in terms of the dynamic axes, for what shape inference does not follow.

    Raises:
        RuntimeFailure: a run was needed and failed.
    """
    names = _made(model)
    inferred = _inferred(model, feeds, symbols, names)
    if all(name in inferred for name in names):
        return inferred
    return probe(model, feeds, threads=threads)[0]


def facts_at(
    model: ModelProto,
    *,
    batch: int,
    dims: Mapping[str, int],
    threads: int = 1,
    symbols: Symbols | None = None,
) -> dict[str, TensorFact]:
    """As `tensor_facts`, for inputs that are drawn with `random_feeds` where a run is needed.

    Raises:
        CannotFeed: they cannot be drawn.
        RuntimeFailure: a run was needed and failed.
    """
    names = _made(model)
    inferred = _inferred(model, blank_feeds(model, batch=batch, dims=dims), symbols, names)
    if all(name in inferred for name in names):
        return inferred
    return probe(model, random_feeds(model, batch=batch, dims=dims), threads=threads)[0]


def inferred_facts(
    model: ModelProto, feeds: Mapping[str, NDArray[Any]], symbols: Symbols | None = None
) -> dict[str, TensorFact]:
    """As `tensor_facts`, as far as shape inference and symbols tell; tensors with an open axis are left out."""
    return _inferred(model, feeds, symbols, _made(model))


def _made(model: ModelProto) -> list[str]:
    """The tensors that the nodes of a model's main graph make."""
    return [name for node in model.graph.node for name in node.output if name]


def _inferred(
    model: ModelProto, feeds: Mapping[str, NDArray[Any]], symbols: Symbols | None, names: Sequence[str]
) -> dict[str, TensorFact]:
    """`inferred_facts` of a model that makes some tensors."""
    facts = _stored_facts(model)
    facts.update({name: TensorFact(array.shape, array.dtype) for name, array in feeds.items()})
    shapes: Mapping[str, tuple[int, ...]] = {}
    if symbols is not None:
        shapes = _told_shapes(names, _axis_sizes(model, feeds), symbols)
        known: dict[tuple[int, int], TensorFact] = {}  # most tensors have the shape and type of some other
        for name, shape in shapes.items():
            dtype = symbols.dtypes.get(name)
            if dtype is not None:
                key = (id(shape), id(dtype))
                facts[name] = known.get(key) or known.setdefault(key, TensorFact(shape, dtype))
        if all(name in facts for name in names):
            return facts
    light = _light(model)
    for name, array in feeds.items():
        kind = element_type(array.dtype)
        light.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, list(array.shape)))
    for value in _inferred_values(light):
        kind = value.type.tensor_type
        if value.name in facts or not value.type.HasField("tensor_type") or not kind.elem_type:
            continue
        dtype = element_dtype(kind.elem_type)
        if value.name in shapes:
            facts[value.name] = TensorFact(shapes[value.name], dtype)
        elif kind.HasField("shape") and all(axis.HasField("dim_value") for axis in kind.shape.dim):
            facts[value.name] = TensorFact(tuple(axis.dim_value for axis in kind.shape.dim), dtype)
    return facts


def _told_shapes(names: Sequence[str], sizes: Mapping[str, int], symbols: Symbols) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors for some sizes of the dynamic axes, as far as symbols tell them.

    onnxruntime pools an image smaller than its window as symbols say, not as shape inference does.
    """
    known: dict[tuple[int, ...], tuple[int, ...] | None] = {}
    told = {}
    for name in names:
        axes = symbols.shapes.get(name)
        if axes is None:
            continue
        key = tuple(map(id, axes))
        shape = known[key] if key in known else known.setdefault(key, _evaluated(axes, sizes))
        if shape is not None:
            told[name] = shape
    return told


def integer_values(model: ModelProto, feeds: Mapping[str, NDArray[Any]], symbols: Symbols) -> dict[str, NDArray[Any]]:
    """The values of the small integer tensors that inputs of the given shapes determine, whatever their data."""
    sizes = _axis_sizes(model, feeds)
    found = {}
    for name, elements in symbols.values.items():
        values = _evaluated(list(elements.reshape(-1)), sizes)
        if values is not None:
            found[name] = np.asarray(values, np.int64).astype(symbols.dtypes[name]).reshape(elements.shape)
    # Behind an operator that symbols do not follow a run tells: it sees the same shapes, whatever the data.
    missing = [name for name in _shaped(model) if name not in found and _may_be_sizes(name, symbols)]
    if missing:
        session = Session(_part(model, missing, found), outputs=missing)
        values_seen = session.run(feeds, missing)
        found |= {name: array for name, array in values_seen.items() if _are_sizes(array)}
    return found


def _may_be_sizes(name: str, symbols: Symbols) -> bool:
    """Whether a tensor may be one of few integers, as far as symbols tell its type and shape."""
    dtype, shape = symbols.dtypes.get(name), symbols.shapes.get(name)
    return (dtype is None or dtype.kind in "iu") and (shape is None or len(shape) < _RANK_OF_SIZES)


def _are_sizes(found: object) -> bool:
    """Whether what a run gave (a tensor, or a sequence) is an array of integers in at most one row."""
    return isinstance(found, np.ndarray) and found.dtype.kind in "iu" and found.ndim < _RANK_OF_SIZES


def _part(model: ModelProto, names: Sequence[str], known: Mapping[str, NDArray[Any]]) -> ModelProto:
    """What computes some tensors from a model's inputs, stored tensors and tensors of known value; the model's own
    outputs are left out."""
    part = ModelProto()
    copy_fields(model, part, without=("graph",))
    copy_fields(model.graph, part.graph, without=("node", "input", "initializer", "output", "value_info"))
    makers = {name: place for place, node in enumerate(model.graph.node) for name in node.output if name}
    wanted, needed, pending = set(names), set[int](), list(names)
    while pending:  # the file's nodes are in any order
        place = makers.get(pending.pop())
        if place is None or place in needed:
            continue
        needed.add(place)
        node = model.graph.node[place]
        reads = [name for name in (*node.input, *captured(node)) if name not in known]
        wanted.update(reads)
        pending += reads
    nodes = [model.graph.node[place] for place in sorted(needed)]
    part.graph.node.extend(nodes)
    stored = {tensor.name for tensor in model.graph.initializer}
    part.graph.input.extend(value for value in model.graph.input if value.name in wanted or value.name not in stored)
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in wanted)
    made = {name for node in nodes for name in node.output}
    read = {name for node in nodes for name in (*node.input, *captured(node))}
    given = (name for name in known if name in read and name not in made)
    part.graph.initializer.extend(numpy_helper.from_array(known[name], name) for name in given)
    return part


def _shaped(model: ModelProto) -> list[str]:
    """The tensors that are computed from shapes and stored tensors alone."""
    if not any(node.op_type in ("Shape", "Size") for node in model.graph.node):
        return []
    stored = {tensor.name for tensor in model.graph.initializer}
    shaped: dict[str, None] = {}
    before = -1
    while before < len(shaped):  # once, and once more to see it, where the file's nodes are sorted
        before = len(shaped)
        for node in model.graph.node:
            reads = [name for name in node.input if name]
            free = node.op_type not in ("If", "Loop", "Scan") and all(n in stored or n in shaped for n in reads)
            if node.op_type in ("Shape", "Size") or (free and any(name in shaped for name in reads)):
                shaped.update(dict.fromkeys(name for name in node.output if name))
    return list(shaped)


def _axis_sizes(model: ModelProto, feeds: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """The sizes of dynamic axes by the names that `symbolic` gives them."""
    sizes = {}
    for value in model.graph.input:
        for place, axis in enumerate(value.type.tensor_type.shape.dim):
            if value.name in feeds and not axis.HasField("dim_value"):
                sizes[axis.dim_param or f"{value.name}:{place}"] = int(feeds[value.name].shape[place])
    return sizes


def _evaluated(shape: Sequence[Dimension] | None, sizes: Mapping[str, int]) -> tuple[int, ...] | None:
    try:
        return None if shape is None else tuple(size.evaluate(sizes) for size in shape)
    except (LookupError, ArithmeticError, ValueError):
        return None


def _plain_tensors(model: ModelProto, names: Sequence[str]) -> list[str]:
    """The names without those of sequences, maps and optionals, as far as operators and inference tell."""
    made = [node for node in model.graph.node if any(word in node.op_type for word in _NO_TENSORS)]
    if not made:
        return list(names)
    light = _light(model)
    stored = {tensor.name for tensor in model.graph.initializer}
    light.graph.input.extend(value for value in model.graph.input if value.name not in stored)
    kinds = {value.name: value.type.WhichOneof("value") for value in _inferred_values(light)}
    other = {name for name, kind in kinds.items() if kind not in (None, "tensor_type")}
    other.update(name for node in made if node.op_type in _MAKES_SEQUENCES for name in node.output)
    return [name for name in names if name not in other]


def _light(model: ModelProto) -> ModelProto:
    """A model's nodes and outputs for inference, its larger initializers as inputs and its own inputs left out."""
    light = ModelProto(ir_version=max(model.ir_version, 4), opset_import=model.opset_import)
    light.functions.extend(model.functions)
    light.graph.name = "shapes"
    light.graph.node.extend(model.graph.node)
    for tensor in model.graph.initializer:
        if byte_count(tensor) <= _SMALL_BYTES:
            light.graph.initializer.append(tensor)
        else:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            light.graph.input.append(value)
    light.graph.output.extend(ValueInfoProto(name=value.name) for value in model.graph.output)
    return light


def _inferred_values(light: ModelProto) -> list[ValueInfoProto]:
    """What inference says of the tensors inside a model; nothing where it fails as a whole."""
    try:
        result = onnx.shape_inference.infer_shapes(light, data_prop=True)
    except Exception:  # noqa: BLE001 - inference raises unrelated classes; a run will say what is wrong
        return []
    return [*result.graph.value_info, *result.graph.output]


def _stored_facts(model: ModelProto) -> dict[str, TensorFact]:
    """Shape and type of the initializers; equal ones are one object."""
    known: dict[tuple[int, tuple[int, ...]], TensorFact] = {}
    facts = {}
    for tensor in model.graph.initializer:
        key = (tensor.data_type, tuple(tensor.dims))
        fact = known.get(key)
        if fact is None:
            fact = known[key] = TensorFact(key[1], element_dtype(key[0]))
        facts[tensor.name] = fact
    return facts


def _dtype(text: str) -> np.dtype[Any]:
    """The numpy dtype of onnxruntime's spelling of a tensor type, `tensor(float)`."""
    inner = text[len("tensor(") : -1] if text.startswith("tensor(") else text
    if inner == "bfloat16":
        return element_dtype(TensorProto.BFLOAT16)
    try:
        return np.dtype(_TYPES.get(inner, inner))
    except TypeError:
        raise RuntimeFailure(f"a tensor of type {text} has no counterpart in numpy") from None
