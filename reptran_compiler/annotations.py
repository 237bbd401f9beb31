"""What a file says of its tensors beside their values: stated shapes and quantization annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import ModelProto

from reptran_compiler.model.symbolic import Symbols, symbolic
from reptran_compiler.runtime import RuntimeFailure, TensorFact, facts_at
from reptran_compiler.trial import Trial

_Facts = Sequence[Mapping[str, TensorFact]]


def carry_annotations(source: ModelProto, result: ModelProto, trial: Trial, *, threads: int = 1) -> None:
    """Let a result say of a tensor what its source says, where the tensor kept its shape.

    A stated shape comes back with its documentation and metadata where the result agrees with it at every batch size
    of the trial. A quantization annotation of a tensor that has another shape goes, and one that names a tensor which
    the source computes and the result does not. Of a result that does not run (which is for the judge to say) nothing
    is stated.

    Args:
        source: the source; it is only read.
        result: the result; its value_info and quantization annotations are changed.
        trial: inputs that the source runs with.
        threads: threads of onnxruntime.
    """
    if not source.graph.value_info and not result.graph.quantization_annotation:
        return
    try:
        before = _facts(source, trial, threads, trial.symbols or symbolic(source))
        after = _facts(result, trial, threads, symbolic(result))
    except RuntimeFailure:
        before = after = [{}]
    made = {name for node in result.graph.node for name in node.output}
    stated = [
        value
        for value in source.graph.value_info
        if value.name in made
        and _same(value.name, before, after)
        and all(each[value.name].fits(value) for each in after)
    ]
    gone = {name for node in source.graph.node for name in node.output} - _tensors(result)
    notes = [
        note
        for note in result.graph.quantization_annotation
        if _same(note.tensor_name, before, after)
        and gone.isdisjoint(e.value for e in note.quant_parameter_tensor_names if e.key.endswith("_TENSOR"))
    ]
    del result.graph.value_info[:]
    result.graph.value_info.extend(stated)
    del result.graph.quantization_annotation[:]
    result.graph.quantization_annotation.extend(notes)


def _tensors(model: ModelProto) -> set[str]:
    made = {name for node in model.graph.node for name in node.output}
    return made | {each.name for each in (*model.graph.initializer, *model.graph.input)}


def _facts(model: ModelProto, trial: Trial, threads: int, symbols: Symbols) -> _Facts:
    sizes = trial.batches
    return [facts_at(model, batch=size, dims=trial.dims, threads=threads, symbols=symbols) for size in sizes]


def _same(name: str, before: _Facts, after: _Facts) -> bool:
    """Whether a tensor has one type and, at every batch size, one shape in both models."""
    return all(name in old and old[name] == new.get(name) for old, new in zip(before, after, strict=True))
