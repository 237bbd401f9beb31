"""The pipeline: a source model in, its canonical form and its RepTran form out."""

from __future__ import annotations

import re
import runpy
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from reptran_compiler.model import Constant, Graph, export_model, import_model
from reptran_compiler.replication import CannotReplicate, Replication, find_roles
from reptran_compiler.replication.widen import Decision, WeightMove
from reptran_compiler.rewriting import Engine, Refused, Rule, RuleReport
from reptran_compiler.runtime import TensorFact, probe, random_feeds, tensor_facts
from reptran_compiler.verification.cutpoints import data_tensors
from reptran_compiler.verification.protograph import ProtoGraph

Array = NDArray[Any]


@dataclass(frozen=True)
class Options:
    """The options of a compilation; `exclude` and `include` are regular expressions over node names."""

    beta: int = 2
    scope: str = "network"
    fc: str = "widen"
    bn: str = "fold"
    weights: str = "latent"
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    strict: bool = False
    passes: tuple[str, ...] | None = None
    rules: tuple[str, ...] = ()
    dims: tuple[tuple[str, int], ...] = ()


class Refusal(Exception):
    """The compiler refuses a model or an option. `exit_code` is 1 (nothing to do) or 2 (bad input)."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class LayerPlan:
    """What became of a layer."""

    name: str
    op: str
    role: str
    binary: bool
    reason: str
    source_weight: str
    result_weight: str
    factored_scale: bool


@dataclass(frozen=True)
class Transformation:
    """A canonical source G and its result R, with everything that is known of how R came about."""

    canonical: ModelProto
    result: ModelProto
    layers: tuple[LayerPlan, ...]
    boundaries: tuple[tuple[str, str], ...]
    excluded: frozenset[str]
    included: frozenset[str]
    notes: tuple[str, ...]
    stages: tuple[tuple[str, ModelProto], ...]
    moves: tuple[WeightMove, ...]
    reports: tuple[RuleReport, ...] = ()


def transform(model: ModelProto, options: Options) -> Transformation:
    """Canonicalise and replicate a model.

    Raises:
        Refusal: nothing can be rewritten, a regular expression names no layer, or copies of integers differ.
    """
    if any(node.op_type in ("Tile", "Expand") and _already(model) for node in model.graph.node):
        raise Refusal("the model is a Rep network already (a binary convolution's output is repeated)")
    canonical, facts, factored, reports = canonicalise(model, options)
    graph = import_model(canonical)
    roles = find_roles(graph, facts)
    excluded = _named(options.exclude, frozenset(roles.layers), "--exclude")
    included = _named(options.include, frozenset(roles.layers), "--include")
    excluded -= included
    binary = frozenset(name for name, what in factored.items() if what.binary)
    replication = Replication(graph, facts, options.beta, "network", options.fc, excluded, included, binary)
    try:
        replication.run()
        if options.scope == "layer":
            graph, replication = _drop_ins(canonical, facts, options, replication, binary)
    except CannotReplicate as error:
        raise Refusal(str(error)) from None
    decisions = replication.decisions
    if not any(d.role == "repconv" for d in decisions):
        raise Refusal(
            "the model has no layer that can be rewritten"
            + "".join(f"; {d.node}: {d.role} {d.reason}" for d in decisions[:5])
        )
    if not any(
        d.role == "repconv" and factored[d.node].binary or d.role == "boundary" for d in decisions
    ) and not (any(node.op == "Sign" or node.op == "Where" for node in graph.nodes)):
        raise Refusal("the model has no binary layer: no layer reads a binarised map")
    blocked = [d for d in decisions if d.role == "boundary"]
    if options.strict and blocked:
        raise Refusal(f"boundary at {blocked[0].node!r}: {blocked[0].reason} (--strict)")
    wide = export_model(graph)
    if options.weights == "binary":
        _bake(graph)
    if options.bn == "fold":
        fold_batch_norms(graph, {name: fact.rank for name, fact in facts.items()})
    graph.tidy()
    result = export_model(graph)
    plans = tuple(
        LayerPlan(
            d.node,
            d.op,
            d.role,
            factored[d.node].binary,
            d.reason,
            factored[d.node].weight,
            "",
            factored[d.node].scaled,
        )
        for d in decisions
        if d.node in factored
    )
    others = tuple((d.node, d.reason) for d in decisions if d.role == "boundary" and d.node not in factored)
    stages = (("canonical", canonical), ("replicated", wide), ("result", result))
    return Transformation(
        canonical, result, plans, others, excluded, included, (), stages, tuple(replication.moves), reports
    )


def available_rules(options: Options) -> tuple[Rule, ...]:
    """The rules of a compilation in their order: built in, from the entry points, from `--rules` files.

    Raises:
        Refusal: a file does not load or holds no rule, or `--passes` names a rule that there is not.
    """
    from reptran_passes import binarisation

    rules: list[Rule] = list(binarisation.RULES)
    for point in sorted(entry_points(group="reptran_compiler.passes"), key=lambda each: each.name):
        rules.append(point.load())
    for file in options.rules:
        rules += _rules_of(file)
    if options.passes is None:
        return tuple(rules)
    known = {rule.name: rule for rule in rules}
    unknown = [name for name in options.passes if name not in known]
    if unknown:
        raise Refusal(f"--passes {unknown[0]!r}: no such pass; there are {', '.join(known)}", 2)
    return tuple(known[name] for name in options.passes)


def _rules_of(file: str) -> list[Rule]:
    try:
        found = runpy.run_path(file)
    except Exception as error:
        raise Refusal(f"--rules {file}: {type(error).__name__}: {error}", 2) from None
    rules = [value for value in found.values() if isinstance(value, Rule)]
    if not rules:
        raise Refusal(f"--rules {file}: defines no rule", 2)
    return rules


def canonicalise(
    model: ModelProto, options: Options
) -> tuple[ModelProto, dict[str, TensorFact], Mapping[str, Any], tuple[RuleReport, ...]]:
    """The canonical form of a model, shapes of its tensors at batch 2, and what factoring found of each layer."""
    from reptran_passes import canonical

    view = ProtoGraph(model)
    data = data_tensors(view)
    names = [n for node in model.graph.node for n in node.output if n and n not in data]
    feeds = [random_feeds(model, batch=batch, dims=dict(options.dims)) for batch in (2, 5)]
    runs = [probe(model, feed, values=names)[1] for feed in feeds]
    facts = dict(tensor_facts(model, feeds[0]))
    later = tensor_facts(model, feeds[1])
    if options.dims and any(node.op in ("Shape", "Size") and node.inputs[0] in data for node in view.nodes):
        raise Refusal(
            "the model computes shapes while axes besides the batch are dynamic; export it with fixed image sizes"
        )
    whole = runs[0]
    proven = _proven(view, data, runs)
    runs = [{name: value for name, value in run.items() if name in proven} for run in runs]
    graph = import_model(model)
    graph.tidy()
    canonical.drop_identities(graph)
    uniform = {
        n: float(a.reshape(-1)[0])
        for n, a in whole.items()
        if a.size and a.dtype.kind == "f" and bool((a == a.reshape(-1)[0]).all())
    }
    engine = Engine(graph, facts, uniform=uniform, data=data)
    try:
        for rule in available_rules(options):
            engine.apply(rule)
    except Refused as error:
        raise Refusal(str(error)) from None
    canonical.settle_reshapes(graph, runs, [{n: f.shape for n, f in some.items()} for some in (facts, later)])
    canonical.drop_expands(graph, facts)
    for node in graph.nodes:
        for t in node.inputs:
            if isinstance(t, Constant):
                facts.setdefault(t.name, TensorFact(tuple(t.shape), t.values.dtype))
    values = {n: a for n, a in runs[0].items() if n in runs[1] and np.array_equal(a, runs[1][n])}
    roles = find_roles(graph, facts)
    inner = {
        n.name
        for n in graph.nodes
        if n.name in roles.layers
        and n.name not in roles.depthwise
        and n.inputs[1 - roles.layers[n.name]].name not in _stem_inputs(graph, roles)
    }
    classifiers = {n.name for n in graph.nodes if n.name in roles.layers and roles.is_classifier(n)}
    factored = canonical.factor_layers(graph, facts, values, inner, classifiers)
    canonical.fold_constants(graph, runs)
    graph.tidy()
    made = export_model(graph)
    facts = dict(tensor_facts(made, feeds[0]))
    return made, facts, factored, tuple(engine.reports.values())


_AFFINE_IN_SIZES = frozenset(
    "Shape Gather Slice Concat Unsqueeze Squeeze Cast Identity Reshape Transpose Add Sub Neg".split()
)


def _proven(view: ProtoGraph, data: frozenset[str], runs: list[dict[str, Array]]) -> frozenset[str]:
    """Tensors that are affine in the batch size, and what is computed from those of them that never change.

    An affine function that is equal at two sizes is constant; of any other (Min, a division that rounds down,
    a comparison) equality at two sizes proves nothing.
    """
    fixed, affine = set(view.initializers), set(view.initializers)
    for node in view.nodes:
        if any(name in data for name in node.outputs):
            continue
        reads = [name for name in node.reads if node.op != "Shape"]
        settled = node.op != "Shape" and all(name in fixed for name in reads)
        scaled = node.op == "Mul" and sum(name not in fixed for name in reads) == 1
        if settled or ((node.op in _AFFINE_IN_SIZES or scaled) and all(name in affine for name in reads)):
            affine.update(node.outputs)
            same = all(n in runs[0] and n in runs[1] and np.array_equal(runs[0][n], runs[1][n]) for n in node.outputs)
            if settled or same:
                fixed.update(node.outputs)
    return frozenset(affine)


def _stem_inputs(graph: Graph, roles: Any) -> set[str]:
    """Tensors that only stems read: those near a graph input that no layer's output reaches."""
    reached: set[str] = set()
    for node in graph.nodes:
        if node.name in roles.layers or any(t.name in reached for t in node.inputs):
            reached.update(t.name for t in node.outputs)
    return {name for name in roles.near if name not in reached}


def _named(patterns: tuple[str, ...], layers: frozenset[str], flag: str) -> frozenset[str]:
    found: set[str] = set()
    for pattern in patterns:
        try:
            some = {name for name in layers if re.search(pattern, name)}
        except re.error as error:
            raise Refusal(f"{flag} {pattern!r} is no regular expression: {error}", 2) from None
        if not some:
            raise Refusal(
                f"{flag} {pattern!r} names no layer; layers are called like {sorted(layers)[:3]}", 2
            )
        found |= some
    return frozenset(found)


def _drop_ins(
    canonical: ModelProto,
    facts: Mapping[str, Any],
    options: Options,
    plan: Replication,
    binary: frozenset[str],
) -> tuple[Graph, Replication]:
    graph = import_model(canonical)
    made = Replication(graph, facts, options.beta, "layer", options.fc, plan.excluded, plan.included, binary)
    made.drop_in(plan.decisions)
    return graph, made


def _already(model: ModelProto) -> bool:
    return any(prop.key == "reptran.beta" for prop in model.metadata_props)


def _bake(graph: Graph) -> None:
    for node in list(graph.nodes):
        if node.op == "Sign" and isinstance(node.inputs[0], Constant):
            latent = node.inputs[0]
            signs = np.sign(latent.values)
            graph.redirect(node.outputs[0], Constant(graph.fresh(latent.name + "/sign"), signs))


def fold_batch_norms(graph: Graph, ranks: Mapping[str, int]) -> None:
    """Every inference BatchNormalization with stored statistics becomes one affine per channel."""
    for node in list(graph.nodes):
        if node.op != "BatchNormalization" or node.attrs.get("training_mode", 0) or len(node.outputs) > 1:
            continue
        if not all(isinstance(t, Constant) for t in node.inputs[1:]) or graph.opset < 7:
            continue
        gamma, shift, mean, var = (np.asarray(t.values, np.float64) for t in node.inputs[1:])
        scale = gamma / np.sqrt(var + node.attrs.get("epsilon", 1e-5))
        offset = shift - mean * scale
        rank = ranks.get(node.outputs[0].name)
        if rank is None:
            continue
        shape = [1, -1, *[1] * (rank - 2)]
        dtype = node.inputs[1].values.dtype
        old = node.outputs[0]
        a = graph.constant(f"{node.name}/scale", scale.reshape(shape).astype(dtype))
        b = graph.constant(f"{node.name}/offset", offset.reshape(shape).astype(dtype))
        mul = graph.node("Mul", [node.inputs[0], a], name=f"{node.name}/Mul")
        add = graph.node("Add", [mul.outputs[0], b], like=node)
        graph.nodes += [mul, add]
        graph.replace(old, add.outputs[0])
    graph.tidy()


__all__ = ["Decision", "LayerPlan", "Options", "Refusal", "Transformation", "canonicalise", "transform"]
