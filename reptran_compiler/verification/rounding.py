"""The one change of values that lowering may be asked for: classifiers with weights in int8 (`--classifier int8`).

The rule is stated, and carried out here on the result, without a look at what was lowered: a scale for each output
channel, its largest absolute weight over 127 in float32, or 1 where that is 0; weight / scale in float32, to the
nearest integer, ties to even; times scale. Such a result is what the lowered form has to be equal to. By how much the
rounding moves the outputs is measured, and no failure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from reptran_compiler.runtime import RuntimeFailure, Session, is_float, random_feeds
from reptran_compiler.verification.layers import before_layers, weight_position
from reptran_compiler.verification.protograph import MalformedGraph, NodeView, ProtoGraph
from reptran_compiler.verification.report import Change, ClassifierReport, Failure
from reptran_compiler.verification.sizes import judged_batches

Array = NDArray[Any]


@dataclass(frozen=True)
class Rounded:
    """A result whose classifiers have the weights that int8 holds.

    Attributes:
        model: it.
        weights: of each classifier, by the tensor that it makes: float32, in its own shape.
    """

    model: ModelProto
    weights: Mapping[str, Array]


def round_classifiers(result: ModelProto) -> Rounded:
    """Round the weights of all classifiers: of the layers that no other layer is behind, depthwise ones left out.

    Args:
        result: the network; it is not changed.
    """
    graph = ProtoGraph(result)
    model = ModelProto()
    model.CopyFrom(result)
    weights = {}
    for node, position in _classifiers(graph):
        values = _rounded(graph.value(node.inputs[position]), _channel_axis(node, position))
        weights[node.outputs[0]] = values
        name = f"{node.inputs[position]}@{node.outputs[0]}"
        model.graph.initializer.append(numpy_helper.from_array(values, name))
        model.graph.node[node.index].input[position] = name
    return Rounded(model, weights)


def check_classifier(
    result: ModelProto,
    rounded: Rounded,
    lowered: ModelProto,
    *,
    seed: int = 0,
    batches: Sequence[int] | None = None,
    dims: Mapping[str, int] | None = None,
    threads: int = 1,
) -> ClassifierReport:
    """See that a lowered network stores in int8 what it should, and measure what that changes.

    Args:
        result: the network, its classifiers as they were.
        rounded: what `round_classifiers` made of it.
        lowered: what is written. `check_lowered` compares all that it computes with `rounded.model`.
        seed: of the inputs.
        batches: the batch sizes to run; those of `judged_batches` when absent.
        dims: sizes of dynamic axes other than the batch.
        threads: threads of onnxruntime.

    Returns:
        The report; changes are those of each graph output of floating-point numbers that depends on a classifier, or,
        where there is none, of what the classifiers make.

    Raises:
        RuntimeFailure: `result` does not run.
    """
    failures = [] if rounded.weights else [Failure("", "", "classifier", "the result has no classifier")]
    try:
        graph = ProtoGraph(lowered)
    except MalformedGraph as error:
        return ClassifierReport((Failure("", "", "well-formed", str(error)),))
    for output, weights in rounded.weights.items():
        detail = _difference(graph, output, weights)
        if detail:
            failures.append(Failure(output, "", "classifier", detail))
    names = tuple(node.name for node, _ in _classifiers(ProtoGraph(result)))
    changes: dict[str, Change] = {}
    for batch in judged_batches(result, batches, dims):
        feeds = random_feeds(result, batch=batch, dims=dims, seed=seed + batch)
        for change in _changes(result, rounded, feeds, threads):
            known = changes.get(change.tensor, change)
            changes[change.tensor] = change if change.relative > known.relative else known
    return ClassifierReport(tuple(failures), names, tuple(changes.values()))


def _classifiers(graph: ProtoGraph) -> Iterator[tuple[NodeView, int]]:
    """The classifiers, with the place of their weights."""
    before = before_layers(graph)
    for node in graph.nodes:
        position = weight_position(graph, node)
        if position is None or node.outputs[0] in before:
            continue
        depthwise = int(node.attribute("group", 1)) > 1 and graph.value(node.inputs[1]).shape[1] == 1
        if not depthwise:
            yield node, position


def _channel_axis(node: NodeView, position: int) -> int:
    """Where a classifier's weights have its output channels."""
    rows = node.op == "Conv" or position == 0 or bool(node.attribute("transB", 0))
    return 0 if rows else 1


def _rounded(weights: Array, axis: int) -> Array:
    """Weights as int8 holds them, by the stated rule, one channel after the other."""
    channels = []
    for channel in np.moveaxis(weights.astype(np.float32), axis, 0):
        step = np.float32(np.abs(channel).max()) / np.float32(127)
        step = step if step > 0 else np.float32(1)
        channels.append(np.rint(channel / step).clip(-127, 127) * step)
    return np.ascontiguousarray(np.moveaxis(np.stack(channels), 0, axis))


def _difference(graph: ProtoGraph, output: str, expected: Array) -> str:
    """What is wrong with the weights of a lowered classifier; "" where nothing is."""
    node = graph.maker.get(output)
    position = None if node is None else weight_position(graph, node)
    if node is None or position is None:
        return "the lowered graph makes it by no layer with stored weights"
    above = graph.above(node.inputs[position])
    stored = [graph.initializers[name] for name in above if name in graph.initializers]
    if [t.data_type for t in stored if tuple(t.dims) == expected.shape] != [TensorProto.INT8]:
        return "its weights are not stored in int8"
    try:
        found = graph.value(node.inputs[position])
    except RuntimeFailure as error:
        return f"its weights cannot be evaluated: {error}"
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f"weights of {found.dtype} {list(found.shape)} instead of {expected.dtype} {list(expected.shape)}"
    wrong = found != expected
    if not wrong.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    detail = f"the first at {list(at)}: {found[at]!s} instead of {expected[at]!s}"
    return f"{int(wrong.sum())} of {wrong.size} weights are not those that int8 holds, {detail}"


def _changes(result: ModelProto, rounded: Rounded, feeds: Mapping[str, Array], threads: int) -> Iterator[Change]:
    """By how much the rounding moves outputs, on inputs on which all is equal in front of the classifiers."""
    graph = ProtoGraph(result)
    asked = [name for name in graph.outputs if not graph.above(name).isdisjoint(rounded.weights)]
    asked += [name for name in rounded.weights if name not in asked]
    before = Session(result, outputs=asked, threads=threads).run(feeds, asked)
    after = Session(rounded.model, outputs=asked, threads=threads).run(feeds, asked)
    outputs = [name for name in asked if name in graph.outputs and is_float(before[name].dtype)]
    for name in outputs or list(rounded.weights):
        old, new = before[name].astype(np.float64), after[name].astype(np.float64)
        moved = float(np.abs(new - old).max(initial=0.0))
        largest = float(np.abs(old).max(initial=0.0))
        yield Change(name, moved, moved / largest if largest > 0 else np.inf if moved > 0 else 0.0)
