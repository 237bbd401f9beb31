"""The rules of the phase `lower`, applied to a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from reptran_compiler.canonicalisation import CASES
from reptran_compiler.lowering.choice import integer_layers
from reptran_compiler.lowering.classifier import round_classifiers
from reptran_compiler.lowering.latency import MACHINES
from reptran_compiler.model import Tensor, export_model, import_model
from reptran_compiler.model.referred import Scratch
from reptran_compiler.model.symbolic import symbolic
from reptran_compiler.replication import Layers, binarised
from reptran_compiler.rewriting import Engine, Facts, Rule, RuleReport, TimeLimit
from reptran_compiler.runtime import facts_at, integer_values, random_feeds
from reptran_compiler.transformation import Options

_PACKING = "pack-weights"
#: Rules that make weights of more than two values, which cannot be packed.
_SUMMING = "convolve-once"
#: Rules of a lower order bring layers into the form in which it is decided what they compute in.
_DECIDED = 30


class _Facts(Facts):
    """Facts of a graph's tensors, whose signs are run together with what reads them."""

    def derived(self, tensor: Tensor) -> bool:
        """Whether a tensor is made by a canonical binarisation, or inside of one."""
        return binarised(tensor) is not None or self.of(tensor).dtype == np.bool_ or _inside(tensor)


def _inside(tensor: Tensor) -> bool:
    """Whether a tensor is between the comparison and the end of the binarisation `2 * cast(mask) - 1`."""
    for reader in tensor.outputs:
        front = binarised(reader.outputs[0])
        if front is not None and front is not tensor:
            return True
        if front is None and reader.op_type == "Mul" and _inside(reader.outputs[0]):
            return True
    return False


@dataclass(frozen=True)
class Lowered:
    """A lowered network, what each rule did, the layers that compute in integers, and classifiers that were rounded."""

    model: ModelProto
    reports: tuple[RuleReport, ...]
    integer: frozenset[str]
    stages: tuple[tuple[str, ModelProto], ...] = ()
    rounded: tuple[str, ...] = ()


def lower(model: ModelProto, options: Options, rules: Sequence[Rule], scratch: Scratch | None = None) -> Lowered:
    """A network as `options.optimize` asks for it.

    Args:
        model: the network, its binary weights stored as signs.
        options: the compilation's.
        rules: all rules; those of the phase `lower` are applied.
        scratch: where large tensors are stored that rules make; None to hold them in memory.

    Raises:
        Refused: a rule broke its declaration.
        CannotContinue: the classifier cannot be stored in int8.
    """
    dims = dict(options.dims)
    fed = [random_feeds(model, batch=batch, dims=dims) for batch in CASES if options.check]
    graph = import_model(model, scratch)
    graph.tidy()
    symbols = symbolic(model)
    cases = [facts_at(model, batch=batch, dims=dims, symbols=symbols) for batch in CASES]
    facts = _Facts(graph, cases, [integer_values(model, each, symbols) for each in fed], options.threads)
    layers = Layers(graph, facts, symbols, open_axes=bool(options.dims))
    rounded = round_classifiers(graph, layers) if options.classifier == "int8" else ()
    limit = TimeLimit(options.rule_seconds)
    engine = Engine(graph, facts, layers, options.check, paranoid=options.paranoid, limit=limit, trust=options.trust)
    stages = []
    decided = False
    for rule in chosen(rules, options):
        if rule.order >= _DECIDED and not decided:
            layers.integer, decided = integer_layers(layers, options.optimize, MACHINES[options.cpu]), True
        if engine.fixpoint(rule):
            made = export_model(graph)
            layers.relearn(symbolic(made))
            if options.stages:
                stages.append((rule.name, made))
    graph.tidy()
    return Lowered(
        export_model(graph), tuple(engine.reports.values()), frozenset(layers.integer), tuple(stages), rounded
    )


def chosen(rules: Sequence[Rule], options: Options) -> list[Rule]:
    """The rules of the phase `lower` that a compilation asks for; those of users are among them in any case."""
    dropped = {_SUMMING if options.weights == "packed" else _PACKING}
    if options.optimize == "none":
        dropped |= {rule.name for rule in rules if rule.ours and rule.name != _PACKING}
    return [rule for rule in rules if rule.phase == "lower" and rule.name not in dropped]
