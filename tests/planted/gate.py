"""Planting a mistake in a network, and asking the compiler's gate about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from onnx import ModelProto

from reptran_compiler import provenance
from reptran_compiler.accounting import cost_violations, count_costs
from reptran_compiler.annotations import carry_annotations
from reptran_compiler.compilation import transform_source
from reptran_compiler.judging import judge, spec_options
from reptran_compiler.model.io import from_proto
from reptran_compiler.pipeline import Options, Refusal, Transformation
from reptran_compiler.runtime import random_feeds, run
from reptran_compiler.trial import Trial, try_source
from reptran_compiler.verification import find_degenerate, specify
from reptran_compiler.verification.cutting import prune
from tests.planted.kinds import Kind, RuleKind
from tests.planted.meaning import computes_otherwise, says_otherwise
from tests.planted.result import Facts, Places, Result

Tamper = Callable[[Transformation], Transformation]


@dataclass(frozen=True)
class Subject:
    """A network and the options that it is compiled with.

    Attributes:
        network: the network's name.
        source: the network.
        options: the options.
        late: whether mistakes are planted at the last place that fits rather than at the first.
        quick: whether the judge is asked for a quick judgement.
    """

    network: str
    source: ModelProto
    options: Options
    late: bool = False
    quick: bool = False

    @cached_property
    def trial(self) -> Trial:
        """Inputs that the network runs with."""
        return try_source(self.source)

    @cached_property
    def made(self) -> Transformation:
        """The correct compilation, with all that the command adds to a result."""
        return self.transform(self.source)

    @cached_property
    def facts(self) -> Facts:
        """Shapes of the correct compilation."""
        return Facts.of(self.made)

    @cached_property
    def telling(self) -> tuple[Transformation, Facts]:
        """A compilation whose parameters tell mistakes apart: of a copy with other ones where the file's do not."""
        recipe = find_degenerate(self.source)
        if not recipe:
            return self.made, self.facts
        made = self.transform(recipe.apply(self.source))
        return made, Facts.of(made)

    @cached_property
    def equal_copies(self) -> dict[str, bool]:
        """The canonical tensors that have copies, and whether these are equal with the file's own parameters."""
        spec = specify(self.made.canonical, spec_options(self.made, self.options))
        wide = {name: copies.names for name, copies in spec.computed.items() if copies.wide}
        names = [each for copies in wide.values() for each in copies]
        found = run(prune(spec.model, names), random_feeds(self.source, batch=2), names) if names else {}
        return {
            name: all(np.array_equal(found[copies[0]], found[each]) for each in copies[1:])
            for name, copies in wide.items()
        }

    def transform(self, model: ModelProto, *, check: bool = False) -> Transformation:
        """Compile a model as the command does, without the effects of rules being executed."""
        made = transform_source(model, replace(self.options, check=check), self.trial)
        carry_annotations(model, made.result, self.trial)
        provenance.record(made.result, made, self.options, from_proto(model).digest, verified=True)
        return made

    def complaints(self, made: Transformation, tamper: Tamper) -> tuple[str, ...]:
        """What the gate says of a compilation: the judge, and what the command checks beside it."""
        judgement = judge(
            self.source,
            made,
            self.options,
            batches=self.trial.batches,
            dims=self.trial.dims,
            other_dims=self.trial.other_dims,
            quick=self.quick,
            retransform=lambda copy, _: tamper(self.transform(copy)),
        )
        costs, _ = count_costs(made, self.trial)
        moved = provenance.rearranged_layers(made)
        return (*judgement.failures, *cost_violations(costs, self.options, moved))

    def refusals(self, change: Callable[[Result], object]) -> tuple[str, ...]:
        """What the gate says of the compilation once a result was changed."""
        result = Result(self.made, self.options, self.facts)
        change(result)
        result.tidy()
        return self.complaints(replace(self.made, result=result.model), lambda made: made)

    def equal_at(self, places: Places) -> bool:
        """Whether what the first of some places reads has equal copies, or, where it reads nothing wide (it makes
        weights), what its readers read; all maps, where that is nothing wide.

        A place that the canonical source has not is named behind one that it has: `norm/Mul`.
        """
        for node in self.made.canonical.graph.node:
            here = node.name in places or places.intersection(node.output)
            if here or any(place.startswith(f"{node.name}/") for place in places):
                readers = [each for each in self.made.canonical.graph.node if set(each.input) & set(node.output)]
                for some in ([node], readers):
                    read = {name for each in some for name in each.input} & self.equal_copies.keys()
                    if read:
                        return all(self.equal_copies[name] for name in read)
                break
        return all(self.equal_copies.values())


@dataclass(frozen=True)
class Outcome:
    """What became of a mistake in a network.

    Attributes:
        equal: whether the copies that the place reads are equal.
        first: the first thing that the gate said; "" where it said nothing.
        right: whether that names the place.
        engine: whether the engine refuses the rule; None of mistakes that are in no rule.
        quick: whether a quick judgement says anything; None where it was not asked.
    """

    equal: bool
    first: str
    right: bool
    engine: bool | None = None
    quick: bool | None = None


def try_kind(kind: Kind | RuleKind, subject: Subject, *, engine: bool = True) -> Outcome | None:
    """Plant a mistake and ask the gate; None where the network has nothing of the kind, or it would be none there.

    Args:
        kind: the mistake.
        subject: the network and its options.
        engine: whether to find out if the engine refuses a broken rule.
    """
    if not kind.needs(subject.options):
        return None
    return _in_rule(kind, subject, engine) if isinstance(kind, RuleKind) else _in_result(kind, subject)


def _in_result(kind: Kind, subject: Subject) -> Outcome | None:
    def tampered(made: Transformation, facts: Facts) -> tuple[Transformation, Places]:
        result = Result(made, subject.options, facts, subject.late)
        places = kind.plant(result)
        if not kind.promise:
            result.tidy()
        return replace(made, result=result.model), places

    try:
        clean, facts = subject.telling
        if not _counts(kind, clean.result, tampered(clean, facts)[0].result):
            return None
        bad, places = tampered(subject.made, subject.facts)
    except LookupError:
        return None
    said = subject.complaints(bad, lambda made: tampered(made, Facts.of(made))[0])
    return _outcome(subject, said, places)


def _in_rule(kind: RuleKind, subject: Subject, engine: bool) -> Outcome | None:
    clean, _ = subject.telling
    recipe = find_degenerate(subject.source)
    with kind.broken():
        try:
            bad = subject.transform(subject.source)
            telling = subject.transform(recipe.apply(subject.source)) if recipe else bad
        except (Refusal, LookupError):
            return None
        if not _counts(kind, clean.result, telling.result) and not _counts(kind, clean.canonical, telling.canonical):
            return None
        said = subject.complaints(bad, lambda made: made)
        refused = _refused(subject) if engine else None
    applied = {name for report in bad.reports if report.rule in kind.rules for name in report.applied}
    places = set(applied)
    for model, behind in (
        (subject.source, subject.source),
        (bad.canonical, subject.source),
        (bad.result, clean.canonical),
    ):
        places |= _behind(model, applied, {name for node in behind.graph.node for name in node.output})
    if kind.reading:
        places |= _read(bad.canonical, applied)
    return replace(_outcome(subject, said, frozenset(places)), engine=refused)


def _behind(model: ModelProto, names: set[str], known: set[str]) -> set[str]:
    """What some nodes make, and the first tensors behind that are known."""
    pending = [name for node in model.graph.node if node.name in names for name in node.output]
    found = set(pending)
    while pending:
        name = pending.pop()
        if name not in known:
            new = {out for node in model.graph.node if name in node.input for out in node.output} - found
            pending += sorted(new)
            found |= new
    return found


def _read(model: ModelProto, names: set[str]) -> set[str]:
    """What some nodes read and what else reads that; what the operators that make it read; the means of all."""
    nodes = model.graph.node
    found = {name for node in nodes if node.name in names for name in node.input}
    others = {node.name for node in nodes if found.intersection(node.input)}
    for _ in range(2):
        found |= {node.input[0] for node in nodes if node.op_type in ("Sign", "Transpose") and node.output[0] in found}
    made = {name for node in nodes if node.name in names for name in node.output}
    others |= {node.name for node in nodes if made.intersection(node.input)}
    return found | others | {f"{name}/mean" for name in found}


def _refused(subject: Subject) -> bool:
    """Whether the engine, executing effects, refuses what the compiler does."""
    try:
        subject.transform(subject.source, check=True)
    except Refusal:
        return True
    return False


def _counts(kind: Kind | RuleKind, clean: ModelProto, bad: ModelProto) -> bool:
    """Whether something that is promised or computed is another than it was."""
    return says_otherwise(clean, bad) if kind.promise else computes_otherwise(clean, bad)


def _outcome(subject: Subject, said: tuple[str, ...], places: Places) -> Outcome:
    first = said[0] if said else ""
    return Outcome(subject.equal_at(places), first, any(_names(first, name) for name in places))


def _names(message: str, name: str) -> bool:
    """Whether a message names something, not merely something whose name begins or ends so."""
    return re.search(rf"(?<![\w./:-]){re.escape(name)}(?![\w/:-]|\.\w)", message) is not None
