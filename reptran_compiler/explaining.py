"""What became of a node, from the source's file to the result's, and what each rule said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto

from reptran_compiler.model import Node, import_model
from reptran_compiler.pipeline import Transformation
from reptran_compiler.rewriting import Rule


@dataclass(frozen=True)
class _Stage:
    """A graph on the way from the source to the result.

    Attributes:
        title: what a user calls it.
        nodes: its operators by name.
        makers: its operators by the tensors that they make.
        stored: its stored tensors.
        phases: the phases of the rules that led to it.
    """

    title: str
    nodes: Mapping[str, Node]
    makers: Mapping[str, Node]
    stored: frozenset[str]
    phases: tuple[str, ...] = ()

    def find(self, name: str) -> Node | None:
        """The operator of a name, or that makes the tensor of a name."""
        return self.nodes.get(name) or self.makers.get(name)

    def heir(self, node: Node) -> Node | None:
        """The operator that stands where one of an earlier stage stood."""
        makers = (self.makers.get(tensor.name) for tensor in node.outputs if tensor.name)
        return self.nodes.get(node.name) or next((maker for maker in makers if maker is not None), None)


def explanation(
    source: ModelProto, transformation: Transformation, rules: Sequence[Rule], name: str
) -> list[str] | None:
    """What became of a node, and what each rule said of it, a line each; None where there is no such node.

    Args:
        source: the model that was transformed.
        transformation: what it was transformed into.
        rules: the rules with which it was.
        name: of a node, or of a tensor that a node makes; in the source, or in what became of it.
    """
    stages = [
        _stage("source", source),
        _stage("canonical form", transformation.canonical, "canonicalise"),
        _stage("result", transformation.result, "replicate", "finish"),
    ]
    if transformation.lowered is not None:
        stages.append(_stage("lowered form", transformation.lowered, "lower"))
    begin = next((place for place, stage in enumerate(stages) if stage.find(name) is not None), None)
    if begin is None:
        return None
    node = stages[begin].find(name)
    assert node is not None, "`begin` is where it is"
    lines = [] if node.name == name else [f"an output of {node.op_type} {node.name!r}"]
    if begin:
        lines.append(f"not in the source, but in the {stages[begin].title}: {node.op_type}")
    lines += _said(transformation, node.name)
    for stage in stages[begin + 1 :]:
        heir = stage.heir(node)
        if heir is None:
            return [*lines, _gone(transformation, rules, node, stage)]
        if heir.name != node.name:
            lines.append(f"in the {stage.title}, {heir.op_type} {heir.name!r} takes its place:")
            lines += _said(transformation, heir.name)
        elif heir.op_type != node.op_type:
            lines.append(f"in the {stage.title}: {heir.op_type}")
        node = heir
    return lines


def _stage(title: str, model: ModelProto, *phases: str) -> _Stage:
    graph = import_model(model)
    makers = {tensor.name: node for node in graph.nodes for tensor in node.outputs if tensor.name}
    stored = frozenset(tensor.name for tensor in model.graph.initializer)
    return _Stage(title, {node.name: node for node in graph.nodes}, makers, stored, phases)


def _said(transformation: Transformation, node: str) -> list[str]:
    """What is reported of a node of some name."""
    lines = []
    for plan in transformation.layers:
        if plan.name == node:
            kind = f"{'binary ' if plan.binary else ''}{plan.op} layer, {plan.role}"
            lines.append(f"{kind}: {plan.reason}" if plan.reason else kind)
    lines += [f"boundary: {reason}" for name, reason in transformation.boundaries if name == node]
    for report in transformation.reports:
        if node in report.applied:
            lines.append(f"{report.rule}: applied")
        elif node in report.missed:
            lines.append(f"{report.rule}: no, {report.missed[node]}")
    return lines


def _gone(transformation: Transformation, rules: Sequence[Rule], node: Node, stage: _Stage) -> str:
    """Why a node is not in a stage: a rule replaced it, alone or in the expression of a later operator."""
    if any(tensor.name in stage.stored for tensor in node.outputs):
        return f"in the {stage.title}, its value is stored"
    phases = {rule.name: rule.phase for rule in rules}
    applied: dict[str, str] = {}
    for report in transformation.reports:
        if phases.get(report.rule) in stage.phases:
            for name in report.applied:
                applied.setdefault(name, report.rule)
    queue = [node]
    seen = {id(node)}
    for here in queue:
        if here.name in applied:
            place = "" if here is node else f" at {here.op_type} {here.name!r}"
            return f"not in the {stage.title}: {applied[here.name]}{place} does without it"
        readers = [reader for tensor in here.outputs for reader in tensor.outputs if id(reader) not in seen]
        seen.update(id(reader) for reader in readers)
        queue += readers
    return f"not in the {stage.title}: nothing that is left there reads it"
