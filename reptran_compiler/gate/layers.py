"""Layer by layer: is each layer of the original in the Rep network what the compilation makes of it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx import ModelProto, helper

from reptran_compiler.costs import CostReport, LayerCost
from reptran_compiler.costs.view import Operator, View
from reptran_compiler.reporting import Check
from reptran_compiler.transformation import LayerPlan

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "Gemm": {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0},
    "MatMul": {},
}
#: What is compared of a layer's costs, in the words of a report.
_COMPARED = {
    "op": "operator",
    "weight_shape": "weights",
    "input_shape": "input",
    "output_shape": "output",
    "macs": "multiply-accumulates",
}


def layer_checks(
    plans: Sequence[LayerPlan], reference: ModelProto, rep: ModelProto, costs: tuple[CostReport, CostReport]
) -> tuple[Check, ...]:
    """A check for each layer of the original.

    What has to be equal to the compilation's layer of that name: operator, shapes of weights, input and output (and so
    the replication in front and behind), groups, strides, pads and dilations, multiply-accumulates, and whether
    binarised maps meet binary weights. Values are not compared.

    Args:
        plans: the original's layers.
        reference: what the compilation gives.
        rep: the Rep network.
        costs: of the reference and of the Rep network.
    """
    views = View(reference), View(rep)
    wanted, found = ({layer.name: layer for layer in report.layers} for report in costs)
    nodes = [_nodes(view) for view in views]
    checks = []
    for plan in plans:
        if plan.name not in wanted:
            continue
        name, theirs, mine = plan.name, wanted[plan.name], found.get(plan.name)
        if mine is None or len(nodes[1].get(name, ())) != 1:
            count = len(nodes[1].get(name, ())) if mine is not None else 0
            detail = f"the Rep network has {count or 'no'} layers of this name" if count else "it is not there"
            checks.append(Check("layer", name, (detail,)))
            continue
        failures = [*_different_shapes(theirs, mine), *_different_attributes(nodes[0][name][0], nodes[1][name][0])]
        if not failures and _is_binary(views[0], nodes[0][name][0]) and not _is_binary(views[1], nodes[1][name][0]):
            failures.append("it is no binary layer any more: its input is not binarised, or its weights are not +-1")
        kind = f"{'binary ' if plan.binary else ''}{plan.role}"
        checks.append(Check("layer", name, tuple(failures), "" if failures else kind))
    return tuple(checks)


def _different_shapes(wanted: LayerCost, found: LayerCost) -> list[str]:
    return [
        f"{words} {_shown(getattr(found, key))} instead of {_shown(getattr(wanted, key))}"
        for key, words in _COMPARED.items()
        if getattr(found, key) != getattr(wanted, key)
    ]


def _different_attributes(wanted: Operator, found: Operator) -> list[str]:
    before, after = _attributes(wanted), _attributes(found)
    return [
        f"{name} {_shown(after.get(name))} instead of {_shown(before.get(name))}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _attributes(node: Operator) -> dict[str, Any]:
    """A layer's attributes, defaults left out; the shape of its kernel is that of its weights."""
    defaults = _DEFAULTS.get(node.op_type)
    found = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        plain = tuple(value) if isinstance(value, Sequence) and not isinstance(value, bytes) else value
        if attribute.name == "kernel_shape":
            continue
        if defaults is None:
            usual = {"strides": {1}, "dilations": {1}, "pads": {0}}.get(attribute.name)
            if (usual is not None and set(plain) <= usual) or (attribute.name, plain) in _USUAL:
                continue
        elif defaults.get(attribute.name) == plain:
            continue
        found[attribute.name] = plain
    return found


_USUAL = frozenset({("group", 1), ("auto_pad", b"NOTSET")})


def _nodes(view: View) -> dict[str, list[Operator]]:
    found: dict[str, list[Operator]] = {}
    for name, node in zip(view.names, view.nodes, strict=True):
        found.setdefault(name, []).append(node)
    return found


def _is_binary(view: View, node: Operator) -> bool:
    """Whether a binarised map meets weights of +-1, as far as the graph and the stored weights tell."""
    operands = view.operands(node)
    return operands is not None and view.is_binary_map(operands[0]) and view.is_binary_weight(operands[1])


def _shown(value: Any) -> str:
    if value is None:
        return "left out"
    return "x".join(map(str, value)) if isinstance(value, tuple) else f"{value:,}" if type(value) is int else str(value)
