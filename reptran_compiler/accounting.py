"""Costs and layers of a compilation, as reports show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from onnx import ModelProto, NodeProto

from reptran_compiler.costs import CannotCount, Comparison, CostReport, LayerChange, LayerKind, Role, count
from reptran_compiler.pipeline import LayerPlan, Options, Transformation
from reptran_compiler.reporting import LayerRow
from reptran_compiler.trial import Trial


def count_costs(transformation: Transformation, trial: Trial) -> tuple[Comparison | None, str]:
    """Costs of the canonical source and of the result.

    Returns:
        The costs, or None and why they cannot be counted.
    """
    kinds = {
        plan.name: LayerKind(cast(Role, plan.role), plan.binary, plan.factored_scale) for plan in transformation.layers
    }
    shapes = trial.shapes if trial.dims else None
    try:
        before = count(transformation.canonical, kinds, input_shapes=shapes)
        after = count(transformation.result, kinds, input_shapes=shapes)
    except CannotCount as error:
        return None, f"costs could not be counted: {error}"
    return Comparison(before, after), ""


def cost_violations(costs: Comparison | None, options: Options, moved: Mapping[str, bool]) -> tuple[str, ...]:
    """What RepTran keeps and the result does not, in words."""
    found = [f"weights of {name} are not those of the source" for name, same in moved.items() if not same]
    if costs is not None:
        found += costs.violations
        if options.scope == "layer" and not _totals_kept(costs, options):
            found.append("parameters or multiply-accumulates grew, which scope layer promises they do not")
    return tuple(found)


def _totals_kept(costs: Comparison, options: Options) -> bool:
    """Whether totals are as scope `layer` promises; folding may turn statistics and scales into fewer numbers.

    Layers that share weights, and normalisations that share parameters, may each get their own: those are counted as
    often as they are read.
    """
    before, after = costs.before, costs.after
    shared = _shared_weights(before) + before.read_again
    if options.bn == "keep" and not shared:
        return costs.totals_equal
    return before.macs == after.macs and before.bops == after.bops and after.trainable <= before.trainable + shared


def _shared_weights(costs: CostReport) -> int:
    """Elements of the weights that several layers read, counted for each of these layers but the first."""
    seen: set[str] = set()
    extra = 0
    for layer in costs.layers:
        extra += layer.weights if layer.parameter and layer.parameter in seen else 0
        seen.add(layer.parameter)
    return extra


def layer_rows(
    transformation: Transformation, costs: Comparison | None, moved: Mapping[str, bool]
) -> tuple[LayerRow, ...]:
    """One row a layer, in the source's order."""
    changes = {change.name: change for change in costs.layers} if costs is not None else {}
    before, after = _nodes(transformation.canonical), _nodes(transformation.result)
    rows = []
    for plan in transformation.layers:
        change = changes.get(plan.name)
        rewritten = _rewritten(plan, change, before.get(plan.name), after.get(plan.name))
        if change is not None and (change.before or change.after):
            row = LayerRow.of(change, rewritten=rewritten, reason=plan.reason, rearranged=moved.get(plan.name))
        else:
            row = LayerRow(
                plan.name,
                plan.op,
                plan.role,
                plan.binary,
                rewritten,
                plan.reason,
                rearranged=moved.get(plan.name),
            )
        rows.append(row)
    return tuple(rows)


def _rewritten(plan: LayerPlan, change: LayerChange | None, before: NodeProto | None, after: NodeProto | None) -> bool:
    """Whether the layer reads or computes something else than it did."""
    if plan.role in ("stem", "narrow", "boundary"):
        return False
    if plan.role == "repconv" or before is None or after is None or before != after:
        return True
    if change is None or change.before is None or change.after is None:
        return False
    return (
        change.before.weight_shape != change.after.weight_shape or change.before.input_shape != change.after.input_shape
    )


def _nodes(model: ModelProto) -> dict[str, NodeProto]:
    return {node.name: node for node in model.graph.node}
