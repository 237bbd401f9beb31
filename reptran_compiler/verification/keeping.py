"""Whether a result says what its source says: metadata, documentation, functions, annotations, stated shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from onnx import ModelProto, NodeProto, StringStringEntryProto, ValueInfoProto

from reptran_compiler.runtime import RuntimeFailure, TensorFact, random_feeds, tensor_facts
from reptran_compiler.verification.protograph import captured
from reptran_compiler.verification.report import Failure
from reptran_compiler.verification.sizes import judged_batches

_MODEL_FIELDS = ("producer_name", "producer_version", "domain", "model_version", "doc_string")
_Facts = Sequence[Mapping[str, TensorFact]]


def check_kept(
    result: ModelProto,
    source: ModelProto,
    *,
    batches: Sequence[int] | None = None,
    dims: Mapping[str, int] | None = None,
) -> tuple[Failure, ...]:
    """What a result does not say any more, or says of what there is not.

    The model's and the graph's documentation and metadata, local functions, the documentation and metadata of graph
    inputs and outputs, of nodes and of stored tensors that are the source's, and quantization annotations and stated
    shapes of tensors that have the shape that they had. A graph output states its shape itself: that value_info repeats
    it is not asked for. Nodes and stored tensors that nothing reads are said as well.

    Args:
        result: the result.
        source: the file it was made from.
        batches: the batch sizes of the runs that tell shapes; those of `judged_batches` when absent.
        dims: sizes of dynamic axes other than the batch.
    """
    return (
        *_of_model(result, source),
        *_of_values(result, source),
        *_of_nodes(result, source),
        *_of_stored(result, source),
        *_of_annotations(result, source),
        *_unread(result, source),
        *_of_tensors(result, source, batches, dims),
    )


def _lost(place: str, what: str, *, node: bool = False) -> Failure:
    return Failure("" if node else place, place if node else "", "kept", f"{what} is not what the source says")


def _of_model(result: ModelProto, source: ModelProto) -> Iterator[Failure]:
    for field in _MODEL_FIELDS:
        if getattr(result, field) != getattr(source, field):
            yield _lost("", f"the model's {field}")
    for field in ("name", "doc_string"):
        if getattr(result.graph, field) != getattr(source.graph, field):
            yield _lost("", f"the graph's {field}")
    for whose, old, new in (
        ("the model's", source.metadata_props, result.metadata_props),
        ("the graph's", source.graph.metadata_props, result.graph.metadata_props),
    ):
        found = _entries(new)
        for key, value in _entries(old).items():
            if found.get(key) != value and not key.startswith("reptran."):
                yield _lost("", f"{whose} metadata {key!r}")
    functions = {(each.domain, each.name): each for each in result.functions}
    for each in source.functions:
        if functions.get((each.domain, each.name)) != each:
            yield _lost("", f"the local function {each.domain}:{each.name}")


def _of_values(result: ModelProto, source: ModelProto) -> Iterator[Failure]:
    found = {value.name: value for value in (*result.graph.input, *result.graph.output)}
    for value in (*source.graph.input, *source.graph.output):
        new = found.get(value.name)
        if new is not None and not _same_words(value, new):
            yield _lost(value.name, "its documentation or metadata")


def _of_nodes(result: ModelProto, source: ModelProto) -> Iterator[Failure]:
    """Nodes that have the name and the type of one of the source."""
    count = Counter(node.name for node in source.graph.node)
    before = {node.name: node for node in source.graph.node if node.name and count[node.name] == 1}
    for node in result.graph.node:
        old = before.get(node.name)
        if old is not None and old.op_type == node.op_type and not _same_words(old, node):
            yield _lost(node.name, "its documentation or metadata", node=True)


def _of_stored(result: ModelProto, source: ModelProto) -> Iterator[Failure]:
    before = {tensor.name: tensor for tensor in source.graph.initializer if tensor.doc_string}
    for tensor in result.graph.initializer if before else ():
        old = before.get(tensor.name)
        same = old is not None and (old.dims, old.data_type) == (tensor.dims, tensor.data_type)
        if old is not None and same and tensor.doc_string != old.doc_string:
            yield _lost(tensor.name, "its documentation")


def _of_annotations(result: ModelProto, source: ModelProto) -> Iterator[Failure]:
    """Annotations of tensors, or with parameters, that there are not, but for what the source has not either.

    The value of a key like SCALE_TENSOR names a tensor; that of another is a word (qonnx' `finn_datatype`).
    """
    if not result.graph.quantization_annotation:
        return
    known = _tensors(result) | (_annotated(source) - _tensors(source))
    for note in result.graph.quantization_annotation:
        if note.tensor_name not in known:
            yield Failure(note.tensor_name, "", "kept", "a quantization annotation of a tensor that is not there")
        for entry in note.quant_parameter_tensor_names:
            if entry.key.endswith("_TENSOR") and entry.value not in known:
                detail = f"its quantization annotation's {entry.key} {entry.value!r} is not there"
                yield Failure(note.tensor_name, "", "kept", detail)


def _tensors(model: ModelProto) -> set[str]:
    made = {name for node in model.graph.node for name in node.output}
    return made | {each.name for each in (*model.graph.initializer, *model.graph.input)}


def _annotated(model: ModelProto) -> set[str]:
    """The names in a model's annotations."""
    notes = model.graph.quantization_annotation
    values = {entry.value for note in notes for entry in note.quant_parameter_tensor_names}
    return values | {note.tensor_name for note in notes}


def _unread(result: ModelProto, source: ModelProto) -> Iterator[Failure]:
    """Nodes and stored tensors of the result's own that no output depends on."""
    graph = result.graph
    read = {name for node in graph.node for name in (*node.input, *captured(node))}
    read |= {value.name for value in (*graph.output, *graph.input)}
    read |= {entry.value for note in graph.quantization_annotation for entry in note.quant_parameter_tensor_names}
    for node in graph.node:
        if node.output and read.isdisjoint(node.output):
            yield Failure(node.output[0], node.name, "kept", "nothing reads what it makes")
    known = {tensor.name for tensor in source.graph.initializer}
    for tensor in graph.initializer:
        if tensor.name not in read and tensor.name not in known:
            yield Failure(tensor.name, "", "kept", "nothing reads this stored tensor")


def _of_tensors(
    result: ModelProto, source: ModelProto, batches: Sequence[int] | None, dims: Mapping[str, int] | None
) -> Iterator[Failure]:
    """Annotations and stated shapes of tensors that are as they were."""
    notes = {note.tensor_name: note for note in source.graph.quantization_annotation}
    stated = {value.name: value for value in source.graph.value_info}
    if not notes and not stated:
        return
    feeds = [random_feeds(source, batch=batch, dims=dims) for batch in judged_batches(source, batches, dims)]
    try:
        before, after = ([tensor_facts(model, each) for each in feeds] for model in (source, result))
    except RuntimeFailure:
        return  # that it does not run is another check's
    kept = {note.tensor_name: note for note in result.graph.quantization_annotation}
    gone = {name for node in source.graph.node for name in node.output} - _tensors(result)
    for name, note in notes.items():
        # What names a tensor that is computed no more has to go.
        whole = gone.isdisjoint(e.value for e in note.quant_parameter_tensor_names if e.key.endswith("_TENSOR"))
        if whole and _unchanged(name, before, after) and kept.get(name) != note:
            yield _lost(name, "its quantization annotation")
    shapes = {value.name: value for value in result.graph.value_info}
    made, known = ({name for node in each.graph.node for name in node.output} for each in (result, source))
    inside = (made & known) - {value.name for value in result.graph.output}
    for name, value in stated.items():
        if (
            name in inside
            and _unchanged(name, before, after)
            and all(each[name].fits(value) for each in before)
            and shapes.get(name) != value
        ):
            yield _lost(name, "its stated shape")


def _unchanged(name: str, before: _Facts, after: _Facts) -> bool:
    """Whether a tensor has, in all runs, the type and shape that it had."""
    return all(name in old and old[name] == new.get(name) for old, new in zip(before, after, strict=True))


def _same_words(old: NodeProto | ValueInfoProto, new: NodeProto | ValueInfoProto) -> bool:
    return old.doc_string == new.doc_string and _entries(old.metadata_props) == _entries(new.metadata_props)


def _entries(entries: Iterable[StringStringEntryProto]) -> dict[str, str]:
    return {entry.key: entry.value for entry in entries}
