"""RepConv weights: each element of W is one of W', and W' takes as many multiplications (rules 1 and 3).

Where W is the sign of a stored latent tensor and W' is one too, the latent tensors are compared: training goes on from
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.runtime import RuntimeFailure, TensorFact
from reptran_compiler.verification.layers import LayerRole, Role, weight_position
from reptran_compiler.verification.protograph import NodeView, ProtoGraph
from reptran_compiler.verification.report import Failure

Array = NDArray[Any]

#: The operators of canonical binarisations, which read what is binarised first.
_BINARISES = frozenset({"Sign", "Where", "GreaterOrEqual", "Not", "Less", "Sub", "Mul", "Cast"})


def rearranged(weight: Array, beta: int, groups: int = 1, blocks: int = 1) -> Array:
    """W' from W by rule 1.

    Args:
        weight: [Co, Ci/groups, ...], filters first.
        beta: the replication factor.
        groups: the groups of a convolution.
        blocks: for a linear layer behind a Flatten of (H, W, C): the number of runs (H*W) that its columns
            consist of.

    Returns:
        [Co/beta, beta*Ci/groups, ...].
    """
    count, inner, *space = weight.shape
    rows = count // groups // beta
    parts = weight.reshape(groups, beta, rows, blocks, inner // blocks, *space)
    order = [0, 2, 3, 1, 4, *range(5, parts.ndim)]
    moved: Array = parts.transpose(order).reshape(count // beta, inner * beta, *space)
    return moved


def filters_first(node: NodeView, position: int, weight: Array) -> Array:
    """A layer's weights with the filters on the first axis."""
    if node.op == "Conv":
        return weight
    if node.op == "Gemm":
        return weight if node.attribute("transB", 0) else weight.T
    return weight if position == 0 else np.swapaxes(weight, -1, -2)


def check_weights(
    source: ProtoGraph,
    result: ProtoGraph,
    layers: Iterable[LayerRole],
    beta: int,
    facts: tuple[Mapping[str, TensorFact], Mapping[str, TensorFact]],
) -> tuple[dict[str, Failure], int]:
    """Find every RepConv in the result and compare its weights, element for element, and its MACs.

    Args:
        source: the canonical source.
        result: the result.
        layers: the layers' roles.
        beta: the replication factor.
        facts: shapes in one run of the source and of the result, with the same batch.

    Returns:
        The failures by the layer's output tensor, and the number of RepConvs without any.
    """
    makers = {node.name: node for node in source.nodes}
    by_name: dict[str, list[NodeView]] = {}
    for node in result.nodes:
        by_name.setdefault(node.name, []).append(node)
    failures: dict[str, Failure] = {}
    good = 0
    repconvs = [layer for layer in layers if layer.role is Role.REPCONV]
    moved = [node for layer in repconvs for node in by_name.get(layer.node, ())]
    with suppress(RuntimeFailure):  # whoever is to blame is found below
        source.preload(layer.weight for layer in repconvs)
        result.preload(name for node in moved for name in node.inputs)
    for layer in repconvs:
        found = by_name.get(layer.node, [])
        try:
            detail = _difference(source, result, layer, makers[layer.node], found, beta, facts)
        except (RuntimeFailure, KeyError, ValueError) as error:
            detail = f"its weights cannot be evaluated: {error}"
        if detail:
            failures[layer.output] = Failure(layer.output, layer.node, "replicate-input", detail)
        else:
            good += 1
    return failures, good


def _difference(
    source: ProtoGraph,
    result: ProtoGraph,
    layer: LayerRole,
    old: NodeView,
    found: list[NodeView],
    beta: int,
    facts: tuple[Mapping[str, TensorFact], Mapping[str, TensorFact]],
) -> str:
    if len(found) != 1:
        return f"the result has {len(found)} nodes of this RepConv's name"
    new = found[0]
    old_position, new_position = weight_position(source, old), weight_position(result, new)
    if new_position is None or old_position is None:
        return f"in the result it is a {new.op} without constant weights"
    before = filters_first(old, old_position, source.value(old.inputs[old_position]))
    after = filters_first(new, new_position, result.value(new.inputs[new_position]))
    if before.size != after.size:
        return f"{after.size} weights instead of {before.size}"
    groups = int(new.attribute("group", 1)) if new.op == "Conv" else 1
    if groups != layer.groups:
        return f"{groups} groups instead of {layer.groups}"
    expected = rearranged(before, beta, layer.groups, layer.blocks)
    if after.shape != expected.shape:
        return f"weights of shape {list(after.shape)} instead of {list(expected.shape)}"
    if after.dtype != expected.dtype:
        return f"weights of type {after.dtype} instead of {expected.dtype}"
    wrong = after != expected
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        detail = f"the first at {list(at)}: {after[at]!s} instead of {expected[at]!s}"
        return f"{int(wrong.sum())} of {wrong.size} weights are not where rule 1 puts them, {detail}"
    if detail := _latent_difference(source, result, layer, (old, old_position), (new, new_position), beta):
        return detail
    macs = [_macs(part, node, facts[place]) for place, (part, node) in enumerate(((before, old), (after, new)))]
    return f"{macs[1]} MACs instead of {macs[0]}" if macs[0] != macs[1] else ""


def _latent_difference(
    source: ProtoGraph,
    result: ProtoGraph,
    layer: LayerRole,
    old: tuple[NodeView, int],
    new: tuple[NodeView, int],
    beta: int,
) -> str:
    """What differs between the stored tensors whose signs are the weights, where both files have one."""
    before, after = _latent(source, *old), _latent(result, *new)
    if before is None or after is None:
        return ""
    expected = rearranged(filters_first(*old, before), beta, layer.groups, layer.blocks)
    found = filters_first(*new, after)
    if found.shape == expected.shape and np.array_equal(found, expected):
        return ""
    wrong = int((found != expected).sum()) if found.shape == expected.shape else found.size
    return f"{wrong} of {found.size} latent weights are not those of the source: their signs are, but not their values"


def _latent(graph: ProtoGraph, node: NodeView, position: int) -> Array | None:
    """The stored tensor whose binarisation a layer's weights are; None where +-1 or real numbers are stored."""
    name = node.inputs[position]
    while name in graph.maker:
        maker = graph.maker[name]
        if maker.op not in _BINARISES:
            return None
        name = maker.inputs[0]
    weight = node.inputs[position]
    same = name != weight and graph.value(name).shape == graph.value(weight).shape
    return graph.value(name) if same else None


def _macs(weight: Array, node: NodeView, facts: Mapping[str, TensorFact]) -> int:
    """Multiply-accumulates of a layer: each weight works once for every output position."""
    outputs = int(np.prod(facts[node.outputs[0]].shape))
    return int(weight.size) * outputs // int(weight.shape[0])
