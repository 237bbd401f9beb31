"""The pipeline: a source model in, its canonical form and its RepTran form out."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from reptran_compiler.model import Constant, Graph, Node, Tensor, export_model, import_model
from reptran_compiler.model.symbolic import Symbols, symbolic
from reptran_compiler.replication import CARRIERS, Copies, Decision, Layers, Plan, WeightMove, WideFacts, binarised
from reptran_compiler.rewriting import (
    RANDOM,
    CannotContinue,
    Engine,
    Facts,
    NoSuchRule,
    Refused,
    Rule,
    RuleReport,
    is_built_in,
    known_rules,
    select,
)
from reptran_compiler.runtime import TensorFact, integer_values, random_feeds, tensor_facts

#: Batch sizes with which the effects of rules are executed.
_CASES = (2, 1)
#: How often the canonicalising rules go round, at most: rules may lay bare what earlier ones look for.
_ROUNDS = 4
#: Passes that an option asks for; without it they are not run.
_KEPT_BN = ("fold-bn", "merge-scales", "scale-before-offset", "merge-offsets")
_BAKED = ("bake-weights",)


@dataclass(frozen=True)
class Options:
    """The options of a compilation.

    Attributes:
        beta: the replication factor.
        scope, fc, bn, weights, strict: as the command line's.
        exclude, include: regular expressions over node names.
        passes: the passes to run; None for all that the other options ask for.
        rules: Python files with further rules.
        dims: sizes for runs of dynamic axes other than the batch.
        check: whether the declared effects of rules are executed.
        stages: whether to keep the graph as it is after each pass.
    """

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
    check: bool = True
    stages: bool = False


class Refusal(Exception):
    """The compiler refuses a model or an option.

    Attributes:
        exit_code: 1 (nothing to do, or a check failed), 2 (bad input) or 4 (a built-in rule is wrong).
        reproducer: models of the region that a rule changed, by file name; empty where no rule is at fault.
    """

    def __init__(self, message: str, exit_code: int = 1, reproducer: Mapping[str, ModelProto] | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.reproducer = dict(reproducer or {})


@dataclass(frozen=True)
class LayerPlan:
    """What became of a layer.

    Attributes:
        name: of its node.
        op: its operator type.
        role: "stem", "repconv", "classifier", "depthwise", "boundary" or "narrow".
        binary: whether it convolves binarised maps with signs.
        reason: why it is a boundary, or was left alone.
        source_weight: the file's initializer that its weights are, or are computed from.
        relation: how what its canonical form stores (of a binarised weight, the latent tensor) comes from that:
            "equal", "sign" or "computed".
        factored_scale: whether a magnitude per filter was factored out of its weights.
    """

    name: str
    op: str
    role: str
    binary: bool
    reason: str
    source_weight: str
    factored_scale: bool
    relation: str = "equal"


@dataclass(frozen=True)
class Transformation:
    """A canonical source G and its result R, with everything that is known of how R came about.

    Attributes:
        canonical, result: G and R.
        layers: what became of each layer, in the source's order.
        boundaries: other operators that carry no replication, with the reason.
        excluded, included: the layers that the options name.
        stages: the graph after each pass that changed it, by the pass' name, where the options ask for it.
        per_copy: operator types that further rules carry, and which therefore act on each copy alone.
        moves: how weights were rearranged.
        reports: what each rule did, in their order.
    """

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
    per_copy: frozenset[str] = frozenset()


@dataclass
class _Canonical:
    """A source in canonical form, and what was found of its layers on the way there."""

    model: ModelProto
    cases: tuple[Mapping[str, TensorFact], ...]
    integers: tuple[Mapping[str, NDArray[Any]], ...]
    binary: frozenset[str]
    origins: Mapping[str, str]
    relations: Mapping[str, str]
    scaled: frozenset[str]
    layers: frozenset[str]
    binarised: bool
    reports: list[RuleReport] = field(default_factory=list)
    stages: list[tuple[str, ModelProto]] = field(default_factory=list)


def transform(model: ModelProto, options: Options) -> Transformation:
    """Canonicalise and replicate a model.

    Raises:
        Refusal: nothing can be rewritten, a regular expression names no layer, a rule broke its declaration, or
            copies of integers differ.
    """
    rules = available_rules(options)
    try:
        found = _canonicalise(model, options, [rule for rule in rules if rule.phase == "canonicalise"])
        excluded = _named(options.exclude, found.layers, "--exclude")
        included = _named(options.include, found.layers, "--include")
        plan = Plan(options.beta, options.scope, options.fc, excluded - included, included, found.binary)
        return _replicate(found, options, plan, rules)
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
        rules = known_rules(options.rules)
        if options.passes is not None:
            return select(rules, options.passes)
    except NoSuchRule as error:
        raise Refusal(str(error), 2) from None
    dropped = (_KEPT_BN if options.bn == "keep" else ()) + (() if options.weights == "binary" else _BAKED)
    return tuple(rule for rule in rules if rule.name not in dropped)


def canonicalise(model: ModelProto, options: Options) -> ModelProto:
    """The canonical form of a model (THEORY section 4).

    Raises:
        Refusal: a rule broke its declaration.
    """
    rules = [rule for rule in available_rules(options) if rule.phase == "canonicalise"]
    try:
        return _canonicalise(model, options, rules).model
    except Refused as error:
        raise _blamed(error) from error


def _canonicalise(model: ModelProto, options: Options, rules: Sequence[Rule]) -> _Canonical:
    feeds = [random_feeds(model, batch=batch, dims=dict(options.dims)) for batch in _CASES]
    graph = import_model(model)
    graph.tidy()
    symbols = symbolic(model)
    facts = Facts(
        graph,
        [tensor_facts(model, each, symbols=symbols) for each in feeds],
        [integer_values(model, each, symbols) for each in feeds],
    )
    layers = Layers(graph, facts, symbols)
    _see_repeatable(graph, facts)
    origins = {node.name: _origin(node.inputs[at]) for node in graph.nodes if (at := _weight(layers, node)) is not None}
    engine = Engine(graph, facts, layers, options.check)
    stages = []
    for turn in range(_ROUNDS):
        if turn:
            layers.relearn(symbolic(export_model(graph)))
        applied = 0
        for rule in rules:
            count = engine.fixpoint(rule)
            applied += count
            if count and options.stages:
                stages.append((rule.name, export_model(graph)))
        if not applied:
            break
    graph.tidy()
    layers.refresh()
    made = export_model(graph)
    symbols = symbolic(made)
    inner = {node.name: node for node in graph.nodes if node.name in layers.roles.layers}
    applied_to = set(engine.reports["factor-weights"].applied) if "factor-weights" in engine.reports else set()
    return _Canonical(
        model=made,
        cases=tuple(tensor_facts(made, each, symbols=symbols) for each in feeds),
        integers=tuple(integer_values(made, each, symbols) for each in feeds),
        binary=frozenset(name for name, node in inner.items() if layers.is_binary(node)),
        origins={name: tensor.name for name, tensor in origins.items()},
        relations={name: _relation(origins[name], node) for name, node in inner.items() if name in origins},
        scaled=frozenset(name for name, node in inner.items() if name in applied_to and _scaled(node)),
        layers=frozenset(inner),
        binarised=any(layers.reads_binary(node) for node in inner.values()),
        reports=list(engine.reports.values()),
        stages=stages,
    )


def _replicate(found: _Canonical, options: Options, plan: Plan, rules: Sequence[Rule]) -> Transformation:
    walking = [rule for rule in rules if rule.phase == "replicate"]
    network = Plan(plan.beta, "network", plan.fc, plan.excluded, plan.included, plan.binary)
    graph, copies, engine = _walked(found, options, network, walking, {})
    decisions = _with_reasons(copies.decisions, engine, rules, graph)
    if plan.scope == "layer":
        layered = {name: each for name, each in decisions.items() if name in found.layers}
        graph, copies, engine = _walked(found, options, plan, walking, layered)
    copies.narrow_outputs(graph)
    _see_something_done(decisions, found)
    blocked = [each for each in decisions.values() if each.role == "boundary"]
    if options.strict and blocked:
        raise Refusal(f"boundary at {blocked[0].node!r}: {blocked[0].reason} (--strict)")
    stages = [("canonical", found.model), ("replicated", export_model(graph))] if options.stages else []
    finishing = Engine(graph, copies.facts, Layers(graph, copies.facts, Symbols({}, {}, {})), options.check)
    for rule in (each for each in rules if each.phase == "finish"):
        if finishing.fixpoint(rule) and options.stages:
            stages.append((rule.name, export_model(graph)))
    graph.tidy()
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
        reports=(*found.reports, *engine.reports.values(), *finishing.reports.values()),
        per_copy=_declared_per_copy(walking, engine),
    )


def _walked(
    found: _Canonical, options: Options, plan: Plan, rules: Sequence[Rule], decisions: Mapping[str, Decision]
) -> tuple[Graph, Copies, Engine]:
    """A canonical graph with the rules of RepTran applied."""
    graph = import_model(found.model)
    copies = Copies(graph, WideFacts(graph, found.cases, found.integers, plan.beta), plan, dict(decisions))
    engine = Engine(graph, copies.facts, copies, options.check)
    left = engine.walk(rules, copies)
    for node in left:
        if any(copies.wide(tensor) or copies.distinct(tensor) for tensor in (*node.inputs, *node.outputs)):
            raise Refusal(f"no selected pass carries {node.op_type} at node {node.name!r}: add one to --passes", 2)
    return graph, copies, engine


def _declared_per_copy(rules: Sequence[Rule], engine: Engine) -> frozenset[str]:
    """The operator types that rules from elsewhere carried copy by copy; the judge knows the others itself."""
    used = {name for name, report in engine.reports.items() if report.applied}
    return frozenset(
        op_type
        for rule in rules
        if rule.effect.kind == "replicates" and rule.name in used and not rule.pattern.deep and not is_built_in(rule)
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


def _see_something_done(decisions: Mapping[str, Decision], found: _Canonical) -> None:
    """Raise `Refusal` where a model has nothing to rewrite."""
    if not found.binarised:
        raise Refusal("the model has no binary layer: no layer reads a binarised map")
    if not any(each.role == "repconv" for each in decisions.values()):
        said = "".join(f"; {each.node}: {each.role} {each.reason}" for each in list(decisions.values())[:5])
        raise Refusal(f"the model has no layer that can be rewritten{said}")


def _see_norms_folded(graph: Graph) -> None:
    """Raise `Refusal` where a BatchNormalization in training mode is left."""
    for node in graph.nodes:
        if node.op_type == "BatchNormalization" and (node.attrs.get("training_mode", 0) or len(node.outputs) > 1):
            raise Refusal(
                f"BatchNormalization {node.name!r} runs in training mode and cannot be folded: export the network in "
                "inference mode (model.eval()), or keep it with --bn keep"
            )


def _see_repeatable(graph: Graph, facts: Facts) -> None:
    """Raise `Refusal` where a node computes something else in every run."""
    for node in graph.nodes:
        training = node.input(2) if node.op_type == "Dropout" else None
        value = None if training is None else facts.value(training)
        random = node.op_type in RANDOM and node.op_type != "Dropout"
        if random or (training is not None and (value is None or bool(value.any()))):
            raise Refusal(
                f"{node.op_type} {node.name!r} gives other values in every run, so that no result could be verified: "
                "export the network in inference mode (model.eval())"
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


def _weight(layers: Layers, node: Node) -> int | None:
    return layers.roles.layers.get(node.name)


def _origin(tensor: Tensor) -> Tensor:
    """The stored tensor that weights come from: the largest one above them."""
    best, stack, seen = tensor, [tensor], set[int]()
    while stack:
        here = stack.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        larger = not isinstance(best, Constant) or _size(here) > _size(best)
        if isinstance(here, Constant) and larger:
            best = here
        stack += [each for node in here.inputs for each in node.inputs]
    return best


def _size(tensor: Tensor) -> int:
    return math.prod(tensor.shape) if isinstance(tensor, Constant) else 0


def _relation(origin: Tensor, layer: Node) -> str:
    """How what a canonical layer stores comes from the file's initializer."""
    stored = [t for t in layer.inputs[:2] if isinstance(t, Constant) or binarised(t) is not None]
    tensor = stored[-1] if stored else None
    kept = tensor if tensor is None or isinstance(tensor, Constant) else binarised(tensor)
    if not isinstance(kept, Constant) or not isinstance(origin, Constant):
        return "computed"
    if kept is origin or (kept.shape == origin.shape and np.array_equal(kept.values, origin.values)):
        return "equal"
    if kept.shape == origin.shape and np.array_equal(kept.values, np.sign(origin.values)):
        return "sign"
    return "computed"


def _scaled(node: Node) -> bool:
    """Whether a Mul that no file holds stands right behind a layer."""
    return any(reader.op == "Mul" and reader.source is None for reader in node.outputs[0].outputs)


def _blamed(error: Refused) -> Refusal:
    """A rule that broke its declaration: exit code 1, or 4 where it is one of ours. With the region that it changed."""
    regions = {}
    if error.application is not None:
        made = error.application
        regions = {"refused-before": made.before_region.model, "refused-after": made.after_region.model}
    return Refusal(str(error), 4 if is_built_in(error.rule) else 1, regions)


__all__ = ["LayerPlan", "Options", "Refusal", "Transformation", "available_rules", "canonicalise", "transform"]
