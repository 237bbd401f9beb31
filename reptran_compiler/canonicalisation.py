"""Canonicalisation: the rules of its phase applied to a source, and what was found of its layers on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from reptran_compiler.model import Constant, Graph, Node, Tensor, Variable, bodies, captured, export_model, import_model
from reptran_compiler.model.referred import Scratch, are_signs_of
from reptran_compiler.model.symbolic import symbolic
from reptran_compiler.replication import Layers, Roles, binarised
from reptran_compiler.rewriting import RANDOM, Engine, Facts, Rule, RuleReport, TimeLimit
from reptran_compiler.runtime import TensorFact, facts_at, integer_values, random_feeds
from reptran_compiler.transformation import Options, Refusal

#: Batch sizes with which the effects of rules are executed.
CASES = (2, 1)
#: How often the canonicalising rules go round, at most: rules may lay bare what earlier ones look for.
_ROUNDS = 4


@dataclass(frozen=True)
class Canonical:
    """A source in canonical form, and what was found of its layers on the way there.

    Attributes:
        model: the canonical form.
        cases: shape and type of its tensors, once for each run that effects are executed with.
        integers: the values of integer tensors that the shapes of such a run determine; none where effects are not
            executed.
        binary: names of the layers that convolve binarised maps with signs.
        origins: by layer, the file's initializer that its weights come from.
        relations: by layer, how what it stores comes from that.
        scaled: names of the layers that a magnitude per filter was factored out of.
        layers: names of all layers.
        binarised: names of the layers that read binarised maps.
        roles: what the graph's connections say of its layers; None where that was not looked at since it changed.
        reports: what each rule did.
        stages: the graph after each pass that changed it, where the options ask for it.
    """

    model: ModelProto
    cases: tuple[Mapping[str, TensorFact], ...]
    integers: tuple[Mapping[str, NDArray[Any]], ...]
    binary: frozenset[str]
    origins: Mapping[str, str]
    relations: Mapping[str, str]
    scaled: frozenset[str]
    layers: frozenset[str]
    binarised: frozenset[str]
    roles: Roles | None = None
    reports: list[RuleReport] = field(default_factory=list)
    stages: list[tuple[str, ModelProto]] = field(default_factory=list)


def canonicalise(
    model: ModelProto, options: Options, rules: Sequence[Rule], scratch: Scratch | None = None
) -> Canonical:
    """The canonical form of a model.

    Args:
        model: the model.
        options: what becomes of it.
        rules: the canonicalising ones.
        scratch: where large tensors are stored that rules make; None to hold them in memory.

    Raises:
        Refused: a rule broke its declaration.
        Refusal: the model computes something else in every run, or weights of it in a subgraph.
    """
    dims = dict(options.dims)
    # Only effects that are executed are fed with integers.
    fed = [random_feeds(model, batch=batch, dims=dims) for batch in CASES if options.check]
    graph = import_model(model, scratch)
    graph.tidy()
    symbols = options.symbols or symbolic(model)
    cases = [facts_at(model, batch=batch, dims=dims, symbols=symbols) for batch in CASES]
    ranks = {name: fact.rank for name, fact in cases[0].items()}
    if not ranks.keys() <= symbols.shapes.keys():
        symbols = symbolic(model, ranks)
    facts = Facts(graph, cases, [integer_values(model, each, symbols) for each in fed], options.threads)
    layers = Layers(graph, facts, symbols)
    _see_repeatable(graph, facts)
    _see_weights_stored(graph, facts)
    origins = {node.name: _origin(node.inputs[at]) for node in graph.nodes if (at := _weight(layers, node)) is not None}
    limit = TimeLimit(options.rule_seconds)
    engine = Engine(graph, facts, layers, options.check, paranoid=options.paranoid, limit=limit, trust=options.trust)
    stages = []
    made, applied = None, 0
    for _ in range(_ROUNDS):
        applied = 0
        for rule in rules:
            count = engine.fixpoint(rule)
            applied += count
            if count and options.stages:
                stages.append((rule.name, export_model(graph)))
        if not applied:
            break
        made = export_model(graph)
        layers.relearn(symbolic(made, ranks))
    made = export_model(graph) if made is None else made
    inner = {node.name: node for node in graph.nodes if node.name in layers.roles.layers}
    applied_to = set(engine.reports["factor-weights"].applied) if "factor-weights" in engine.reports else set()
    return Canonical(
        model=made,
        cases=tuple(facts_at(made, batch=batch, dims=dims, symbols=layers.symbols) for batch in CASES),
        integers=tuple(integer_values(made, each, layers.symbols) for each in fed),
        binary=frozenset(name for name, node in inner.items() if layers.is_binary(node)),
        origins={name: tensor.name for name, tensor in origins.items()},
        relations={name: _relation(origins[name], node) for name, node in inner.items() if name in origins},
        scaled=frozenset(name for name, node in inner.items() if name in applied_to and _scaled(node)),
        layers=frozenset(inner),
        binarised=frozenset(name for name, node in inner.items() if layers.reads_binary(node)),
        roles=None if applied else layers.roles,
        reports=list(engine.reports.values()),
        stages=stages,
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


def _see_weights_stored(graph: Graph, facts: Facts) -> None:
    """Raise `Refusal` where an If or a Loop makes the weights of a layer from stored tensors: bodies are kept, so that
    the weights could not be rearranged."""
    if not any(_has_body(node) for node in graph.nodes):
        return
    known = {tensor.name: tensor for tensor in graph.inputs}
    known |= {tensor.name: tensor for node in graph.nodes for tensor in node.outputs}
    for node in graph.nodes:
        for tensor in node.inputs[:2] if node.op_type in ("Conv", "Gemm", "MatMul") else ():
            maker = None if facts.constant(tensor) else _body_above(tensor, known, graph.inputs)
            if maker is not None:
                what = f"the weights of {node.op_type} {node.name!r} come from {maker.op_type} {maker.name!r}"
                hint = "export the network with the weights themselves"
                raise Refusal(f"{what}, which reads stored tensors alone: {hint}")


def _body_above(tensor: Tensor, known: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> Node | None:
    """An operator with a body that a tensor is computed by; None where there is none, or where the tensor depends on
    what is fed."""
    fed = {id(each) for each in inputs}
    found, stack, seen = None, [tensor], set[int]()
    while stack:
        here = stack.pop()
        if id(here) in fed:
            return None
        maker: Node | None = here.inputs[0] if isinstance(here, Variable) and here.inputs else None
        if maker is None or id(maker) in seen:
            continue
        seen.add(id(maker))
        stack += maker.inputs
        if maker.source is not None and _has_body(maker):
            found = maker
            stack += [known[name] for name in captured(maker.source) if name in known]
    return found


def _has_body(node: Node) -> bool:
    return node.source is not None and bool(bodies(node.source))


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
    if kept.reference is not None and origin.reference is not None:
        if kept.reference == origin.reference:
            return "equal"
        if are_signs_of(kept.reference, origin.reference):
            return "sign"
    if kept is origin or (kept.shape == origin.shape and np.array_equal(kept.values, origin.values)):
        return "equal"
    if kept.shape == origin.shape and np.array_equal(kept.values, np.sign(origin.values)):
        return "sign"
    return "computed"


def _scaled(node: Node) -> bool:
    """Whether a Mul that no file holds stands right behind a layer."""
    return any(reader.op == "Mul" and reader.source is None for reader in node.outputs[0].outputs)
