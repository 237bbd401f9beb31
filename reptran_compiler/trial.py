"""The source's trial run: it has to run before anything is done to it, and tells with which inputs it does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from reptran_compiler.errors import BadInput
from reptran_compiler.model.symbolic import Symbols, symbolic
from reptran_compiler.runtime import (
    CannotFeed,
    EndlessLoop,
    InputSpec,
    RuntimeFailure,
    Session,
    TensorFact,
    batch_sizes,
    blank_feeds,
    inferred_facts,
    input_specs,
    random_feeds,
    too_large,
)
from reptran_compiler.validation import check_structure
from reptran_compiler.verification import ProtoGraph, judged_batches, quick_batch
from reptran_compiler.verification.cutting import cut_part
from reptran_compiler.verification.wellformed import stated_wrongly

Array = NDArray[Any]

#: The oldest opset that is read.
OLDEST_OPSET = 7

#: What is tried for a second size of a dynamic axis: layers with strides may ask for multiples of their product.
_CHANGES: tuple[Callable[[int], int], ...] = (
    lambda size: size + 1,
    lambda size: size + 4,
    lambda size: size + 16,
    lambda size: size + 32,
    lambda size: 2 * size,
)
_RARE = MappingProxyType({"float64": TensorProto.DOUBLE, "bfloat16": TensorProto.BFLOAT16})
_GUESSES = (32, 64, 224, 128, 256, 16, 28, 8, 4, 1)


@dataclass(frozen=True)
class Trial:
    """Inputs that the source runs with.

    Attributes:
        batches: batch sizes that it runs with.
        dims: sizes of its other dynamic axes, as `runtime.random_feeds` takes them.
        other_dims: other sizes of those axes that it runs with; empty where there are none, or none were found.
        shapes: whole shapes of its inputs, at the first batch size.
        notes: what the user should know of them.
        limited: whether a batch size was refused though the axis is dynamic.
        symbols: what its shapes are in terms of its dynamic axes, where that was looked at.
        graph: the source as the judge reads it, with its large constants evaluated; None where nothing is verified.
    """

    batches: tuple[int, ...]
    dims: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    limited: bool = False
    other_dims: Mapping[str, int] = field(default_factory=dict)
    symbols: Symbols | None = field(default=None, repr=False, compare=False)
    graph: ProtoGraph | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class _Source:
    """A source that loads. `symbols` are those of its shapes where they need not be seen in a run, `graph` is it with
    its constants evaluated where the judge will ask for them too; `quick` as `try_source` has it."""

    model: ModelProto
    session: Session
    symbols: Symbols | None = None
    graph: ProtoGraph | None = None
    quick: bool = False

    def inferred(self, feeds: Mapping[str, Array]) -> Mapping[str, TensorFact]:
        """Shapes and types of its tensors, as far as they are known without a run."""
        return inferred_facts(self.model, feeds, self.symbols)

    def outputs(
        self, size: int, dims: Mapping[str, int], inferred: Mapping[str, TensorFact], *, run: bool
    ) -> Mapping[str, TensorFact]:
        """Shapes and types of its outputs at a batch size, but for those that are no plain tensors.

        Args:
            size: the batch size.
            dims: sizes of other dynamic axes.
            inferred: what is known without a run.
            run: whether it is run though all is known.

        Raises:
            RuntimeFailure: it does not run.
        """
        made = (name for node in self.model.graph.node for name in node.output if name)
        if not run and all(name in inferred for name in made):
            return {value.name: inferred[value.name] for value in self.model.graph.output}
        feeds = random_feeds(self.model, batch=size, dims=dims)
        return _facts(self.session.run(feeds, [value.name for value in self.model.graph.output]))


def _facts(arrays: Mapping[str, Any]) -> dict[str, TensorFact]:
    """Shapes and types of what is fed or found, but for what is no plain tensor."""
    tensors = ((name, each) for name, each in arrays.items() if isinstance(each, np.ndarray))
    return {name: TensorFact(each.shape, each.dtype) for name, each in tensors}


def try_source(
    model: ModelProto,
    *,
    dims: Mapping[str, int] | None = None,
    batches: Sequence[int] | None = None,
    threads: int = 1,
    verify: bool = True,
    quick: bool = False,
) -> Trial:
    """Run a source once at every batch size that it will be verified with.

    Where nothing will be verified, a source whose shapes are known without a run is loaded only, and shape inference
    tells what it would give; with `quick`, it does so at batch sizes at which shapes alone will be compared.

    Args:
        model: the source.
        dims: sizes of dynamic axes other than the batch; where one is missing, usual sizes are tried.
        batches: the batch sizes; those of `judged_batches` when absent, or 1 where the model refuses both.
        threads: threads of onnxruntime.
        verify: whether the result will be verified.
        quick: whether its values will be so at one batch size only.

    Raises:
        BadInput: the model is malformed or does not run, its opset is unsuitable, an input cannot be fed, an output
            is not what the file states, or no axis has a name that `dims` gives a size to.
    """
    _check_opset(model)
    graph = check_structure(model)
    try:
        specs = input_specs(model)
        sizes = batch_sizes(model, batches)
        source = replace(_loaded(graph, threads, verify), quick=quick)
    except CannotFeed as error:
        raise BadInput(f"the model's inputs cannot be fed: {error}") from None
    except RuntimeFailure as error:
        raise BadInput(f"the model does not load in onnxruntime: {error}{_hint(model)}") from None
    given = dict(dims or {})
    _check_names(specs, given)
    missing = _missing(specs, given)
    failure = ""
    for guess in _GUESSES if missing else (0,):
        tried = {**given, **{name: guess for name in missing}}
        try:
            working, failure = _working(source, sizes, tried)
            if not working and batches is None and any(spec.dynamic_batch for spec in specs):
                working, failure = _working(source, (1,), tried)
        except CannotFeed as error:
            raise BadInput(f"the model's inputs cannot be fed: {error}") from None
        if batches is not None and len(working) < len(sizes):
            continue
        if working:
            if batches is None and len(working) > 1 and (more := judged_batches(graph, dims=tried)) != sizes:
                sizes = more
                working, failure = _working(source, sizes, tried)
            return _trial(source, working, sizes, tried, missing)
    hint = f" (dynamic axes {', '.join(missing)}: give their sizes with --dim NAME=SIZE)" if missing else ""
    raise BadInput(f"{failure}{hint}")


def _loaded(graph: ProtoGraph, threads: int, verify: bool) -> _Source:
    """A source that loads, and runs without computing its large constants again in each run."""
    model = graph.model
    whole = Session(model, threads=threads)
    if not verify:
        return _Source(model, whole, symbolic(model))
    del whole  # two sessions would hold its weights twice
    try:
        # What nothing reads is run as well: the source runs as a whole, or not.
        ends = [name for name in graph.maker if name not in graph.constants and name not in graph.readers]
        outputs = list(dict.fromkeys((*graph.outputs, *ends)))
        part = cut_part(graph, {}, {}, outputs, graph.weights)
        session = Session(part, threads=threads, weights=graph.weights)
    except RuntimeFailure:
        return _Source(model, Session(model, threads=threads))
    return _Source(model, session, graph=graph)


def refuses_a_batch(model: ModelProto, sizes: Sequence[int], dims: Mapping[str, int]) -> bool:
    """Whether a model that loads does not run at one of some batch sizes, with these sizes of its other axes."""
    return len(_working(_Source(model, Session(model)), sizes, dims)[0]) < len(sizes)


def _trial(
    source: _Source,
    working: tuple[int, ...],
    wanted: tuple[int, ...],
    dims: Mapping[str, int],
    missing: Sequence[str],
) -> Trial:
    notes = []
    if working != wanted:
        shown = " and ".join(map(str, working))
        notes.append(f"the batch axis is dynamic, but the model runs with batch {shown} only: verified with that")
    if missing:
        sizes = ", ".join(f"{name} = {dims[name]}" for name in missing)
        notes.append(f"dynamic axes were given a size for counting and verification: {sizes}")
    feeds = blank_feeds(source.model, batch=working[0], dims=dims)
    shapes = {name: array.shape for name, array in feeds.items()}
    other = _other_sizes(source, working[0], dims)
    if dims and not other:
        notes.append("the model was found to run with one size of its dynamic axes only: verified with that")
    return Trial(working, dims, shapes, tuple(notes), working != wanted, other, source.symbols, source.graph)


def _other_sizes(source: _Source, batch: int, dims: Mapping[str, int]) -> dict[str, int]:
    """Sizes of the dynamic axes, none of them as in `dims`, that the model runs with; the smallest step that does."""
    for change in _CHANGES if dims else ():
        tried = {name: change(size) for name, size in dims.items()}
        if _working(source, (batch,), tried)[0]:
            return tried
    return {}


def _working(source: _Source, sizes: Sequence[int], dims: Mapping[str, int]) -> tuple[tuple[int, ...], str]:
    """The batch sizes that run, and why the last one that does not does not.

    Raises:
        BadInput: a loop does not end; no other size is waited for.
    """
    working, failure = list[int](), ""
    model = source.model
    feeds = {size: blank_feeds(model, batch=size, dims=dims) for size in sizes}
    largest, first = max(sizes), quick_batch(sizes)
    inferred = {largest: source.inferred(feeds[largest])}
    fits = not _too_large(model, inferred[largest])  # then all smaller ones do
    for size in sorted(sizes, key=lambda size: size != first):
        run = source.symbols is None and not (source.quick and first in working)
        if size not in inferred and not (run and fits):
            inferred[size] = source.inferred(feeds[size])
        complaint = "" if fits else _too_large(model, inferred[size])
        try:
            found = {} if complaint else source.outputs(size, dims, inferred.get(size, {}), run=run)
            complaint = complaint or _stated_wrongly(model, feeds[size], found)
        except EndlessLoop as error:
            raise BadInput(f"the model does not run in onnxruntime: {error}") from None
        except RuntimeFailure as error:
            complaint = f"the model does not run in onnxruntime: {error}"
        if complaint:
            failure = complaint
        else:
            working.append(size)
    return tuple(size for size in sizes if size in working), failure


def _too_large(model: ModelProto, inferred: Mapping[str, TensorFact]) -> str:
    """Which tensor would fill the memory, "" where none is known to. None does that is no larger than a stored one."""
    known = max((math.prod(tensor.dims) for tensor in model.graph.initializer), default=0)
    for name, fact in inferred.items():
        if math.prod(fact.shape) > known and (large := too_large(fact.shape, fact.dtype)):
            return f"the model cannot be run: tensor {name!r} {large}"
    return ""


def _stated_wrongly(model: ModelProto, feeds: Mapping[str, Array], found: Mapping[str, TensorFact]) -> str:
    """Which graph output is not what the file states, "" where all are."""
    sizes: dict[str, int] = {}
    facts = {**found, **_facts(feeds)}
    for value in (*model.graph.input, *model.graph.output):
        fact = facts.get(value.name)
        if fact is not None:
            wrong = stated_wrongly(value, fact, sizes)
            if wrong and value.name in found:
                return f"graph output {value.name!r} is not what the file says: {wrong}"
    return ""


def _missing(specs: Sequence[InputSpec], dims: Mapping[str, int]) -> list[str]:
    """The dynamic axes other than batches that have no size, by the names that `dims` has them under."""
    batch = {spec.shape[0] for spec in specs if spec.dynamic_batch}
    return list(dict.fromkeys(name for name in _axes(specs, batch) if name not in dims))


def _check_names(specs: Sequence[InputSpec], dims: Mapping[str, int]) -> None:
    """Raise `BadInput` where a size is given for what is no dynamic axis."""
    axes = list(dict.fromkeys(_axes(specs, {spec.shape[0] for spec in specs if spec.dynamic_batch})))
    open_axes = ((spec, axis) for spec in specs for axis, size in enumerate(spec.shape) if not isinstance(size, int))
    places = {f"{spec.name}:{axis}" for spec, axis in open_axes}
    for name in dims:
        if name not in axes and name not in places:
            there = f"there are {', '.join(axes)}" if axes else "all sizes but the batch are fixed"
            raise BadInput(f"no input has a dynamic axis {name!r} (besides the batch, which is tried anyway); {there}")


def _axes(specs: Sequence[InputSpec], batch: set[int | str | None]) -> Iterator[str]:
    for spec in specs:
        for axis, size in enumerate(spec.shape[1:], 1):
            if isinstance(size, str) and size not in batch:
                yield size
            elif size is None:
                yield f"{spec.name}:{axis}"


def _hint(model: ModelProto) -> str:
    """What to do about a model whose numbers are of a type that few operators have kernels for."""
    kinds = {value.type.tensor_type.elem_type for value in model.graph.input}
    kinds |= {tensor.data_type for tensor in model.graph.initializer}
    rare = [name for name, kind in _RARE.items() if kind in kinds]
    return f" (it holds {' and '.join(rare)}, which few of its operators take: export it in float32)" if rare else ""


def _check_opset(model: ModelProto) -> None:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    if opset is None:
        raise BadInput("the model does not say which opset of ONNX it uses")
    newest = onnx.defs.onnx_opset_version()
    if opset < OLDEST_OPSET:
        raise BadInput(f"the model uses opset {opset}; opsets from {OLDEST_OPSET} on are read")
    if opset > newest:
        raise BadInput(
            f"the model uses opset {opset}; the installed onnx knows opsets up to {newest}: update onnx and "
            "onnxruntime, or export with an older opset"
        )
