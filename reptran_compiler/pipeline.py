"""The pipeline: a source model in, its canonical form and its RepTran form out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from onnx import ModelProto

from reptran_compiler.canonicalisation import Canonical, canonicalise
from reptran_compiler.lowering import lower
from reptran_compiler.model import Graph, digest_of, export_model, import_model
from reptran_compiler.model.referred import Scratch
from reptran_compiler.model.symbolic import Symbols
from reptran_compiler.replicated import find_repetition, may_repeat
from reptran_compiler.replication import CARRIERS, Copies, Decision, Layers, Plan, WideFacts
from reptran_compiler.replication.effects import Replicates
from reptran_compiler.rewriting import (
    CannotContinue,
    Engine,
    Facts,
    NoSuchRule,
    Overflows,
    Refused,
    Rule,
    TimeLimit,
    is_built_in,
    known_rules,
    select,
)
from reptran_compiler.transformation import AlreadyReplicated, LayerPlan, Options, Refusal, Transformation

#: How many layers a refusal names.
_SHOWN = 3
#: Passes that an option asks for; without it they are not run.
_KEPT_BN = ("fold-bn", "merge-scales", "scale-before-offset", "merge-offsets")
_BAKED = ("bake-weights",)
_REPEATS = {"concat": "repeat-by-concat", "expand": "repeat-by-expand"}


def transform(model: ModelProto, options: Options, scratch: Scratch | None = None) -> Transformation:
    """Canonicalise and replicate a model.

    Args:
        model: the model.
        options: what becomes of it.
        scratch: where large tensors are stored that rules make; None to hold them in memory.

    Raises:
        AlreadyReplicated: the output of a layer that reads a binarised map is repeated along its channels, and beta is
            above 1.
        Refusal: nothing can be rewritten, a regular expression names no layer, a rule broke its declaration, or
            copies of integers differ.
    """
    rules = available_rules(options)
    strange = [rule for rule in rules if not rule.ours]
    given = digest_of(model) if strange else b""
    try:
        found = canonicalise(model, options, [rule for rule in rules if rule.phase == "canonicalise"], scratch)
        if strange and digest_of(model) != given:
            names = " or ".join(f"rule {rule.name!r}" for rule in strange)
            raise Refusal(f"{names} edits the source model itself: .source is for reading alone", rule=strange[0].name)
        if options.beta > 1:
            _see_not_replicated(found)
        excluded = _named(options.exclude, found.layers, "--exclude")
        included = _named(options.include, found.layers, "--include")
        plan = Plan(options.beta, options.scope, options.fc, excluded - included, included, found.binary)
        made = _lowered(_replicate(found, options, plan, rules, scratch), options, rules, scratch)
        return replace(made, scratch=scratch)
    except CannotContinue as error:
        raise Refusal(str(error)) from None
    except Refused as error:
        raise _blamed(error) from error


def available_rules(options: Options) -> tuple[Rule, ...]:
    """The rules of a compilation in their order: built in, from entry points, from `--rules` files.

    Raises:
        Refusal: a source of rules cannot be used, or `--passes` names a rule that there is not.
    """
    try:
        rules = known_rules(options.rules, seconds=options.rule_seconds)
        if options.passes is not None:
            return select(rules, options.passes)
    except NoSuchRule as error:
        raise Refusal(str(error), 2) from None
    dropped = (_KEPT_BN if options.bn == "keep" else ()) + (_BAKED if options.weights == "latent" else ())
    dropped += tuple(name for way, name in _REPEATS.items() if way != options.repeat)
    return tuple(rule for rule in rules if rule.name not in dropped)


def _replicate(
    found: Canonical, options: Options, plan: Plan, rules: Sequence[Rule], scratch: Scratch | None
) -> Transformation:
    walking = [rule for rule in rules if rule.phase == "replicate"]
    network = Plan(plan.beta, "network", plan.fc, plan.excluded, plan.included, plan.binary)
    graph, copies, engine = _walked(found, options, network, walking, {}, scratch)
    decisions = _with_reasons(copies.decisions, engine, rules, graph)
    if plan.scope == "layer":
        # What would stand behind such a subgraph is narrow for no reason of its own.
        inner = {each.node for each in decisions.values() if each.node in found.layers and each.role != "classifier"}
        copies.see_bodies_narrow(graph, before=inner)
        layered = {name: each for name, each in decisions.items() if name in found.layers}
        graph, copies, engine = _walked(found, options, plan, walking, layered, scratch)
    copies.narrow_outputs(graph)
    _see_something_done(decisions, found)
    # One copy is its own mean: nothing is a boundary to it.
    blocked = [each for each in decisions.values() if each.role == "boundary" and plan.beta > 1]
    if options.strict and blocked:
        raise Refusal(f"boundary at {blocked[0].node!r}: {blocked[0].reason} (--strict)")
    stages = [("canonical", found.model), ("replicated", export_model(graph))] if options.stages else []
    known = {node.name for node in found.model.graph.node}
    added = frozenset(node.name for node in graph.nodes) - known
    layers = Layers(graph, copies.facts, Symbols({}, {}, {}), added, open_axes=bool(options.dims))
    finishing = _engine(graph, copies.facts, layers, options)
    for rule in (each for each in rules if each.phase == "finish"):
        if finishing.fixpoint(rule) and options.stages:
            stages.append((rule.name, export_model(graph)))
    _see_repeated(graph, added, finishing, options)
    if options.bn == "fold" and any(rule.name == "fold-bn" for rule in rules):
        _see_norms_folded(graph)
    plans = tuple(
        LayerPlan(
            name=each.node,
            op=each.op,
            role=each.role,
            binary=each.node in found.binary,
            reason=each.reason,
            source_weight=found.origins.get(each.node, ""),
            factored_scale=each.node in found.scaled,
            relation=found.relations.get(each.node, "equal"),
        )
        for each in decisions.values()
        if each.node in found.layers
    )
    reports = (*found.reports, *engine.reports.values(), *finishing.reports.values())
    applied = {report.rule for report in reports if report.applied}
    return Transformation(
        canonical=found.model,
        result=export_model(graph),
        layers=plans,
        boundaries=tuple((each.node, each.reason) for each in blocked if each.node not in found.layers),
        excluded=plan.excluded,
        included=plan.included,
        notes=(),
        stages=(*found.stages, *stages),
        moves=tuple(copies.moves.values()),
        reports=reports,
        per_copy=_declared_per_copy(walking, engine),
        from_elsewhere=tuple(rule.name for rule in rules if rule.name in applied and not rule.ours),
    )


def _lowered(
    transformation: Transformation, options: Options, rules: Sequence[Rule], scratch: Scratch | None
) -> Transformation:
    """With the result lowered, where that is asked for."""
    if not options.lowers:
        return transformation
    made = lower(transformation.result, options, rules, scratch)
    words = f"the weights of {', '.join(made.rounded)} are rounded to 8 bits, which changes what is computed"
    return replace(
        transformation,
        lowered=made.model,
        notes=(*transformation.notes, *((f"--classifier int8: {words}",) if made.rounded else ())),
        integer=made.integer,
        stages=(*transformation.stages, *made.stages),
        reports=(*transformation.reports, *made.reports),
    )


def _walked(
    found: Canonical,
    options: Options,
    plan: Plan,
    rules: Sequence[Rule],
    decisions: Mapping[str, Decision],
    scratch: Scratch | None,
) -> tuple[Graph, Copies, Engine]:
    """A canonical graph with the rules of RepTran applied."""
    graph = import_model(found.model, scratch)
    facts = WideFacts(graph, found.cases, found.integers, plan.beta, options.threads)
    copies = Copies(graph, facts, plan, dict(decisions), known_roles=found.roles)
    engine = _engine(graph, copies.facts, copies, options)
    left = engine.walk(rules, copies)
    for node in left:
        if any(copies.wide(tensor) or copies.distinct(tensor) for tensor in (*node.inputs, *node.outputs)):
            raise Refusal(f"no selected pass carries {node.op_type} at node {node.name!r}: add one to --passes", 2)
    return graph, copies, engine


def _engine(graph: Graph, facts: Facts, context: Any, options: Options) -> Engine:
    limit = TimeLimit(options.rule_seconds)
    return Engine(graph, facts, context, options.check, paranoid=options.paranoid, limit=limit, trust=options.trust)


def _declared_per_copy(rules: Sequence[Rule], engine: Engine) -> frozenset[str]:
    """The operator types that rules from elsewhere carried copy by copy; the judge knows the others itself."""
    used = {name for name, report in engine.reports.items() if report.applied}
    return frozenset(
        op_type
        for rule in rules
        if isinstance(rule.effect, Replicates) and rule.name in used and not rule.pattern.deep and not is_built_in(rule)
        for op_type in rule.pattern.ends
    )


def _with_reasons(
    decisions: Mapping[str, Decision], engine: Engine, rules: Sequence[Rule], graph: Graph
) -> dict[str, Decision]:
    """The decisions, operators that became boundaries among them, with why no rule carries them."""
    made = dict(decisions)
    types = {node.name: node.op_type for node in graph.nodes}
    report = engine.reports.get("boundary")
    carriers = [rule.name for rule in rules if rule.phase == "replicate" and rule.order == CARRIERS]
    for name in report.applied if report else ():
        said = [engine.reports[rule].missed.get(name) for rule in carriers if rule in engine.reports]
        reasons = [each.reason for each in said if each is not None and each.part == "check"]
        op_type = types.get(name, "")
        reason = f"{op_type} {reasons[-1]}" if reasons else f"{op_type} has no rule that carries replication"
        if name not in made:
            made[name] = Decision(name, op_type, "boundary", reason)
    return made


def _see_not_replicated(found: Canonical) -> None:
    """Raise `AlreadyReplicated` for a network in RepTran form."""
    if not may_repeat(found.model):
        return
    repetition = find_repetition(found.model, found.binarised, found.cases[0])
    if repetition is not None:
        raise AlreadyReplicated(
            f"{repetition.node!r} repeats the output of the binary layer {repetition.layer!r} {repetition.factor} times"
        )


def _see_something_done(decisions: Mapping[str, Decision], found: Canonical) -> None:
    """Raise `Refusal` where a model has nothing to rewrite."""
    if not found.binarised:
        raise Refusal("the model has no binary layer: no layer reads a binarised map")
    if not any(each.role == "repconv" for each in decisions.values()):
        said = [f"; {each.node}: {each.reason}" for each in decisions.values() if each.reason]
        more = f"; and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
        raise Refusal(f"the model has no layer that can be rewritten{''.join(said[:_SHOWN])}{more}")


def _see_repeated(graph: Graph, added: frozenset[str], engine: Engine, options: Options) -> None:
    """Raise `Refusal` where replication is not written as the options ask for."""
    for node in graph.nodes if options.repeat in _REPEATS else ():
        if node.op_type == "Tile" and node.name in added:
            report = engine.reports.get(_REPEATS[options.repeat])
            missed = report.missed.get(node.name) if report else None
            reason = f": it {missed.reason}" if missed else ""
            raise Refusal(f"Tile {node.name!r} cannot be written with --repeat {options.repeat}{reason}")


def _see_norms_folded(graph: Graph) -> None:
    """Raise `Refusal` where a BatchNormalization in training mode is left."""
    for node in graph.nodes:
        if node.op_type == "BatchNormalization" and (node.attrs.get("training_mode", 0) or len(node.outputs) > 1):
            raise Refusal(
                f"BatchNormalization {node.name!r} runs in training mode and cannot be folded: export the network in "
                "inference mode (model.eval()), or keep it with --bn keep"
            )


def _named(patterns: tuple[str, ...], layers: frozenset[str], flag: str) -> frozenset[str]:
    found: set[str] = set()
    for pattern in patterns:
        try:
            some = {name for name in layers if re.search(pattern, name)}
        except re.error as error:
            raise Refusal(f"{flag} {pattern!r} is no regular expression: {error}", 2) from None
        if not some:
            raise Refusal(f"{flag} {pattern!r} names no layer; layers are called like {sorted(layers)[:3]}", 2)
        found |= some
    return frozenset(found)


def _blamed(error: Refused) -> Refusal:
    """A rule that broke its declaration: exit code 1, or 4 where it is one of ours. With the region that it changed.

    Where that region overflows it is the model's fault: exit code 2.
    """
    regions = {}
    if error.application is not None:
        made = error.application
        regions = {"refused-before": made.before_region.model, "refused-after": made.after_region.model}
    code = 2 if isinstance(error, Overflows) else 4 if is_built_in(error.rule) else 1
    return Refusal(str(error), code, regions, error.rule.name)


__all__ = ["AlreadyReplicated", "LayerPlan", "Options", "Refusal", "Transformation", "available_rules", "transform"]
