"""Whether a file is a valid model, says nothing wrong about itself, and looks to users as the source did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto

from reptran_compiler.model.referred import as_inputs
from reptran_compiler.runtime import RuntimeFailure, TensorFact, probe, random_feeds
from reptran_compiler.runtime.session import EMBEDDED_LIMIT
from reptran_compiler.verification.interface import describe, interface_failures
from reptran_compiler.verification.protograph import subgraphs
from reptran_compiler.verification.report import Failure, WellFormedReport
from reptran_compiler.verification.sizes import judged_batches


def check_well_formed(
    model: ModelProto,
    source: ModelProto,
    *,
    seed: int = 0,
    batches: Sequence[int] | None = None,
    dims: Mapping[str, int] | None = None,
) -> WellFormedReport:
    """Check a result as a file.

    The checks: unique names; nodes in order; opset, IR version, graph inputs and outputs as in the source;
    onnx' checker, and strict shape inference (each only where the source passes it); and every shape that the
    file states against the shapes of real runs.

    Args:
        model: the result.
        source: the file it was made from.
        seed: of the runs' inputs.
        batches: the batch sizes of the runs; those of `judged_batches` when absent.
        dims: sizes of dynamic axes other than the batch.

    Raises:
        CannotFeed: an input of the source cannot be fed.
    """
    checks = {
        "names": _names(model, source),
        "order": _order(model),
        "versions": _versions(model, source),
        "interface": interface_failures(source, model),
    }
    for name, check in (("checker", _checker), ("shape inference", _inference)):
        # Inference reads the shapes of large tensors alone.
        light, light_source = (as_inputs(each, large=check is _inference) for each in (model, source))
        if _size(light) <= EMBEDDED_LIMIT and _size(light_source) <= EMBEDDED_LIMIT and not check(light_source):
            message = check(light)
            checks[name] = [Failure("", "", name, message)] if message else []
    checks["stated shapes"] = _stated_shapes(model, source, seed, batches, dims)
    failures = tuple(failure for found in checks.values() for failure in found)
    return WellFormedReport(failures, tuple(checks))


def _size(model: ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def _names(model: ModelProto, source: ModelProto) -> list[Failure]:
    graph, known = model.graph, source.graph
    made = [name for node in graph.node for name in node.output if name]
    stored = [tensor.name for tensor in graph.initializer]
    given = [value.name for value in graph.input if value.name not in set(stored)]
    failures = [
        Failure(name, "", "names", f"the name is given {count} times")
        for name, count in Counter([*made, *stored, *given]).items()
        if count > 1
    ]
    already = {name for name, count in Counter(node.name for node in known.node).items() if count > 1}
    failures.extend(
        Failure("", name, "names", f"{count} nodes have this name")
        for name, count in Counter(node.name for node in graph.node).items()
        if count > 1 and name and name not in already
    )
    tensors = {*made, *stored, *given}
    stale = {value.name for value in known.value_info}
    failures.extend(
        Failure(value.name, "", "names", "a shape is stated for a tensor that is not there")
        for value in graph.value_info
        if value.name not in tensors and value.name not in stale
    )
    return failures


def _order(model: ModelProto) -> list[Failure]:
    """Every tensor is made before it is read, in subgraphs too."""
    return list(_unordered(model.graph, set()))


def _unordered(graph: GraphProto, outer: set[str]) -> list[Failure]:
    known = outer | {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    failures: list[Failure] = []
    for node in graph.node:
        failures.extend(
            Failure(name, node.name, "order", "it is read before it is made")
            for name in node.input
            if name and name not in known
        )
        for body in subgraphs(node):
            failures.extend(_unordered(body, known))
        known.update(node.output)
    failures.extend(
        Failure(value.name, "", "order", "a graph output that nothing makes")
        for value in graph.output
        if value.name not in known
    )
    return failures


def _versions(model: ModelProto, source: ModelProto) -> list[Failure]:
    failures = []
    if model.ir_version != source.ir_version:
        detail = f"IR version {model.ir_version} instead of {source.ir_version}"
        failures.append(Failure("", "", "versions", detail))
    versions = [{entry.domain or "ai.onnx": entry.version for entry in each.opset_import} for each in (model, source)]
    if versions[0] != versions[1]:
        failures.append(Failure("", "", "versions", f"opset {versions[0]} instead of {versions[1]}"))
    return failures


def _checker(model: ModelProto) -> str:
    """What onnx' checker says against a model, "" when nothing."""
    try:
        onnx.checker.check_model(model, full_check=False)
    except Exception as error:  # noqa: BLE001 - the checker raises several unrelated classes
        return " ".join(str(error).split())[:400] or type(error).__name__
    return ""


def _inference(model: ModelProto) -> str:
    """What strict shape inference says against a model, "" when nothing."""
    try:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # noqa: BLE001 - as above
        return " ".join(str(error).split())[:400] or type(error).__name__
    return ""


def _stated_shapes(
    model: ModelProto,
    source: ModelProto,
    seed: int,
    batches: Sequence[int] | None,
    dims: Mapping[str, int] | None,
) -> list[Failure]:
    """Every type, rank, size and axis name that the file states, against real runs."""
    failures: dict[str, Failure] = {}
    for batch in judged_batches(source, batches, dims):
        feeds = random_feeds(source, batch=batch, dims=dims, seed=seed)
        try:
            facts = _run(model, feeds)
        except RuntimeFailure as error:
            return [Failure("", "", "runs", f"the file does not run at batch {batch}: {error}")]
        sizes: dict[str, int] = {}
        for value in model.graph.input:
            stated_wrongly(value, facts.get(value.name), sizes)
        for value in (*model.graph.value_info, *model.graph.output):
            detail = stated_wrongly(value, facts.get(value.name), dict(sizes))
            if detail:
                failures.setdefault(value.name, Failure(value.name, "", "stated shapes", f"{detail} at batch {batch}"))
    return list(failures.values())


def _run(model: ModelProto, feeds: Mapping[str, NDArray[Any]]) -> Mapping[str, TensorFact]:
    """What a run tells of the tensors that a model states, though a stated type keeps the file itself from running."""
    stated = {value.name for value in (*model.graph.value_info, *model.graph.output)}
    try:
        return probe(model, feeds, among=stated)[0]
    except RuntimeFailure:
        if not model.graph.value_info:
            raise
    bare = ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    return probe(bare, feeds, among=stated)[0]


def stated_wrongly(value: onnx.ValueInfoProto, fact: TensorFact | None, sizes: dict[str, int]) -> str:
    """What is wrong with a stated type and shape, "" where nothing is; notes the sizes of named axes on the way.

    Args:
        value: what a file states of a tensor.
        fact: what a run says of it; None where that is not known.
        sizes: of named axes, in that run; it is added to.
    """
    if fact is None or not value.type.HasField("tensor_type"):
        return ""
    kind = value.type.tensor_type
    if kind.elem_type and onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type) != fact.dtype:
        return f"{describe(value)} is stated where a run gives {fact.dtype}"
    if not kind.HasField("shape"):
        return ""
    wrong = len(kind.shape.dim) != fact.rank
    for axis, size in zip(kind.shape.dim, fact.shape, strict=False):
        if axis.HasField("dim_value"):
            wrong |= axis.dim_value != size
        elif axis.dim_param:
            wrong |= sizes.setdefault(axis.dim_param, size) != size
    return f"{describe(value)} is stated where a run gives {list(fact.shape)}" if wrong else ""
