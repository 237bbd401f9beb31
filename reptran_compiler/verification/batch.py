"""One run of the law: one batch size, one set of inputs, S and R fed alike and compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.runtime import (
    Comparison,
    Level,
    Magnitude,
    RuntimeFailure,
    Session,
    TensorFact,
    allowance,
    compare,
    generator,
    is_float,
    probe,
    random_feeds,
    tensor_facts,
    tolerance,
)
from reptran_compiler.verification.bends import amplified, deadening, find_bends, layer_inputs
from reptran_compiler.verification.context import Context
from reptran_compiler.verification.copies import CannotSpecify, Copies, UnequalIntegers
from reptran_compiler.verification.cutpoints import OBSERVED, CutKind, CutPoint, find_cuts
from reptran_compiler.verification.cutting import cut_model, cut_names
from reptran_compiler.verification.drawing import draw
from reptran_compiler.verification.evidence import Agreement, Evidence, Side
from reptran_compiler.verification.exact import integral, sums_of_signs
from reptran_compiler.verification.inferring import inferred_shapes
from reptran_compiler.verification.isolation import disagreement, find_region
from reptran_compiler.verification.layers import Role
from reptran_compiler.verification.magnitudes import magnitudes
from reptran_compiler.verification.pairs import Pairs
from reptran_compiler.verification.portions import portions
from reptran_compiler.verification.protograph import ProtoGraph
from reptran_compiler.verification.report import Distance, Failure, Worst
from reptran_compiler.verification.specification import Specification, build_specification
from reptran_compiler.verification.walk import MEAN
from reptran_compiler.verification.weights import check_weights

Array = NDArray[Any]


@dataclass
class Findings:
    """What one judgement has found so far.

    Attributes:
        failures: the failures, each with its place in the source.
        worst: the largest difference among the pairs that agree.
        compared: the required pairs that were compared.
        others: the other pairs that were compared.
        isolated: how many different cut operators were tried.
        repconvs: how many RepConvs were found with equal weights and MACs.
        distances: how far each pair that agrees is apart.
        evidence: what shows the first pair that differs, with its place in the source.
    """

    failures: list[tuple[int, Failure]]
    worst: Worst
    compared: set[str]
    others: set[str]
    isolated: int = 0
    repconvs: int = 0
    distances: dict[str, Distance] = field(default_factory=dict)
    evidence: tuple[int, Evidence] | None = None

    def fail(self, place: int, failure: Failure) -> None:
        """Note a failure, once for each tensor and rule."""
        if all(known.tensor != failure.tensor or known.rule != failure.rule for _, known in self.failures):
            self.failures.append((place, failure))


class ResultDoesNotRun(Exception):
    """onnxruntime refuses the result."""


@dataclass(frozen=True)
class _Comparison:
    """A tensor of the source, its name in the cut result, and the tensors of S that it must consist of."""

    tensor: str
    actual: str
    expected: tuple[str, ...]

    def copies(self, spec: Specification) -> Copies:
        """How the tensors of S make the one of the result."""
        return Copies(self.expected) if len(self.expected) == 1 else spec.computed[self.tensor]

    def assembled(self, spec: Specification, values: Mapping[str, Array]) -> Array:
        """What the result's tensor has to be, from the values of those of S."""
        return self.copies(spec).assemble([values[name] for name in self.expected])

    def agreement(self, spec: Specification, values: Mapping[str, Array]) -> Agreement:
        """What both compute, where they agree."""
        copies = {name: values[name] for name in self.expected}
        return Agreement(copies, {self.actual: self.assembled(spec, values)})


class BatchRun:
    """One batch size of a judgement (see the module)."""

    def __init__(self, judge: Context, result: ProtoGraph, batch: int, findings: Findings) -> None:
        self.judge, self.result, self.batch, self.findings = judge, result, batch, findings
        source, model = judge.source, judge.source.model
        self.feeds = random_feeds(model, batch=batch, dims=judge.dims, seed=judge.seed + batch)
        self.facts = tensor_facts(model, self.feeds, threads=judge.threads)
        found = tuple(find_cuts(source, self.facts, judge.data))
        self.spec = build_specification(source, judge.options, self.facts, cuts=found)
        alive = self.spec.alive
        self.all_cuts = found
        self.cuts = [cut for cut in found if cut.output in alive or cut.output + MEAN in alive]
        self.pairs = Pairs(source, result, self.spec, self.cuts, judge.data, self.facts)
        self.exact = sums_of_signs(source, found, self.spec.layers)
        self.bends = list(find_bends(source, self.facts, judge.data, self.pairs.inside))
        self.misshapen: set[str] = set()
        try:
            self.result_facts = tensor_facts(result.model, self.feeds, threads=judge.threads)
        except RuntimeFailure as error:
            self._locate()
            raise ResultDoesNotRun(str(error)) from None

    def fail(self, name: str, detail: str, rule: str = "", node: str = "") -> None:
        """Note a failure at a tensor of the source."""
        where, blamed = self.pairs.blame(name)
        self.findings.fail(self.pairs.order(name), Failure(name, node or where, rule or blamed, detail))

    def fact(self, name: str) -> TensorFact:
        """Shape and type of one copy of a tensor, or of a `T/mean`."""
        return self.facts[name] if name in self.facts else self.facts[name.removesuffix(MEAN)]

    def _locate(self) -> None:
        """Note the first tensor that has a wrong shape, of a result that does not run."""
        shapes = inferred_shapes(self.result.model, self.feeds)
        for name in self.pairs.tensors:
            made = self.pairs.name_in_result(name)
            fact, copies = self.fact(name), self.pairs.expected(name)
            widened = copies.widened(fact.shape, self.judge.options.beta)
            found = shapes.get(made, widened)
            if found != widened and not (self.pairs.in_stem(name) and found == fact.shape):
                self.fail(name, f"shape {list(found)} instead of {list(widened)}")
                return

    # Once.

    def check_weights(self) -> None:
        """RepConv weights, element for element, and MACs."""
        options, facts = self.judge.options, (self.facts, self.result_facts)
        failures, good = check_weights(self.judge.source, self.result, self.spec.layers, options.beta, facts)
        for name, failure in failures.items():
            self.findings.fail(self.pairs.order(name), failure)
        self.findings.repconvs = good

    def check_presence(self) -> None:
        """Every tensor that the result must still have is there."""
        required = set(self.pairs.required)
        for name in self.pairs.tensors:
            present = self.pairs.name_in_result(name) or (name in self.result.maker and self.pairs.is_mean_output(name))
            if present or (name not in required and self.pairs.may_vanish(name)):
                continue
            self.fail(name, "the result has no tensor of this name, so it cannot be compared")
        names = {node.name for node in self.result.nodes}
        for layer in self.spec.layers:
            if layer.role is not Role.REPCONV and layer.node not in names and layer.output in self.spec.alive:
                self.fail(layer.output, "the result has no node of this layer's name", "names")

    def check_cut_operators(self) -> None:
        """Each operator that is cut or that bends on its own, on special points."""
        seen: set[object] = set()
        for cut in (*self.cuts, *self.bends):
            before = find_region(self.judge.source, cut.output, cut.inputs)
            for suffix in _suffixes(cut):
                output, inputs = cut.output + suffix, [name + suffix for name in cut.inputs]
                if output not in self.spec.alive:
                    continue
                # A boundary reads means.
                bounded = cut.nodes[-1].name in self.spec.boundaries
                means = [name + MEAN if bounded and name + MEAN in self.spec.computed else name for name in inputs]
                names = [self.pairs.name_in_result(name) for name in means]
                made = self.pairs.name_in_result(output)
                if not made or not all(names):
                    continue  # its absence is a failure already
                after = find_region(self.result, made, names)
                if after is None or before is None:
                    self.fail(
                        output,
                        "what lies between it and the tensor in front depends on something else",
                        "cut",
                    )
                    continue
                key = (before.signature, after.signature)
                if before.shapeless and after.shapeless and key in seen:
                    continue
                seen.add(key)
                copies = self.pairs.expected(output)
                detail = disagreement(
                    before,
                    self.facts,
                    after,
                    self.result_facts,
                    copies=len(copies.names),
                    assemble=copies.assemble,
                    level=self.judge.level,
                    shared=bounded,
                )
                self.findings.isolated += 1
                if detail:
                    self.fail(
                        output,
                        f"the {cut.kind.value} became another operator: {detail}",
                        "" if cut.kind is CutKind.BEND else "binarisation",
                    )

    # At every batch size.

    def compare(self) -> None:
        """Cut S and R, feed both the same values, compare."""
        self.check_shapes()
        feed = self._fed_tensors()
        if self.misshapen & feed:
            return
        spec = self._cut_specification(frozenset(feed))
        names = {name: self.pairs.name_in_result(name) for name in feed}
        computed = cut_names(self.result, names.values())
        spec_feeds, result_feeds = self._values(spec, names)
        fed = (spec_feeds, result_feeds)
        for pairs in portions(self._comparisons(spec, computed), self._size):
            self._compare_some(pairs, spec, computed, fed)

    def _cut_specification(self, feed: frozenset[str]) -> Specification:
        """S, cut, each copy fed on its own. Where that makes integers unequal whose mean is needed, equal integers are
        fed with one array, then what those integers depend on."""
        source, tied = self.judge.source, frozenset[str]()
        integers = frozenset(name for name in feed if not is_float(self.fact(name).dtype))
        while True:
            try:
                return build_specification(
                    source, self.judge.options, self.facts, cuts=self.all_cuts, feed=feed, tied=tied
                )
            except UnequalIntegers as error:
                more = tied | (integers if not tied >= integers else feed & source.above(error.tensor))
                if more == tied:
                    raise
                tied = more

    def _size(self, pair: _Comparison) -> int:
        """Bytes of a pair, of both graphs together."""
        fact = self.fact(pair.tensor)
        return 2 * len(pair.expected) * math.prod(fact.shape) * fact.dtype.itemsize

    def _compare_some(
        self,
        pairs: Sequence[_Comparison],
        spec: Specification,
        computed: Mapping[str, str],
        feeds: tuple[Mapping[str, Array], Mapping[str, Array]],
    ) -> None:
        """Compute and compare some pairs. `feeds`: what S is fed, and what R is."""
        source = self.judge.source
        spec_names = [name for pair in pairs for name in pair.expected]
        try:
            expected = self.judge.spec_session(spec, spec_names).run(feeds[0], spec_names)
        except RuntimeFailure as error:
            Session(source.model).run(self.feeds)  # raises what is wrong with the source, if that is the reason
            raise CannotSpecify("", f"the specification graph does not run: {error}") from None
        result_names = [pair.actual for pair in pairs]
        try:
            session = self.judge.result_session(self.result, computed, self.result_facts, result_names)
            actual = session.run(feeds[1], result_names)
        except RuntimeFailure as error:
            raise ResultDoesNotRun(str(error)) from None
        unequal, agreeing = [], list[_Comparison]()
        for pair in pairs:
            if pair.copies(spec).consists_of(actual[pair.actual], [expected[name] for name in pair.expected]):
                self._agree(pair.tensor, Comparison.equal())
                agreeing.append(pair)
            else:
                unequal.append(pair)
        # What is equal to the bit needs no measure of rounding.
        measured = [name for pair in unequal for name in pair.expected]
        part = self.judge.spec_model(spec, measured)
        sizes = magnitudes(part, feeds[0], measured, threads=self.judge.threads, weights=self.judge.weights(source))
        first: tuple[_Comparison, Array] | None = None
        for pair in unequal:
            whole = pair.assembled(spec, expected)
            magnitude = self._magnitude(spec, pair, sizes)
            if self._compare(pair.tensor, actual[pair.actual], whole, magnitude):
                agreeing.append(pair)
            elif first is None or self.pairs.order(pair.tensor) < self.pairs.order(first[0].tensor):
                exact = self._exact(pair.tensor, whole)
                first = pair, allowance(whole, exact=exact, magnitude=magnitude, stored=self.judge.stored)
        if first is not None:
            pair, allowed = first
            place = self.pairs.order(pair.tensor)
            if self.findings.evidence is None or place < self.findings.evidence[0]:
                right = Side.of(spec.model, feeds[0], pair.expected)
                wrong = Side.of(cut_model(self.result, computed, self.result_facts), feeds[1], [pair.actual])
                shown = Evidence(pair.tensor, right, wrong, pair.copies(spec), allowed)
                self.findings.evidence = place, shown.nearer([each.agreement(spec, expected) for each in agreeing])

    def check_shapes(self) -> None:
        """Shapes and types of what the result still has."""
        for name in self.pairs.tensors:
            made = self.pairs.name_in_result(name)
            if not made:
                continue
            copies, fact, found = self.pairs.expected(name), self.fact(name), self.result_facts[made]
            widened = copies.widened(fact.shape, self.judge.options.beta)
            if found.shape != widened and not (self.pairs.in_stem(name) and found.shape == fact.shape):
                self.misshapen.add(name)
                self.fail(name, f"shape {list(found.shape)} instead of {list(widened)}")
            elif found.dtype != fact.dtype:
                self.misshapen.add(name)
                self.fail(name, f"type {found.dtype} instead of {fact.dtype}")

    def _fed_tensors(self) -> set[str]:
        """Where the graphs are cut: behind every jump, at every tile of a stem, RepConv or boundary."""
        alive = self.spec.alive
        wanted: set[str] = set()
        for cut in self.cuts:
            wanted.update(name for name in _outputs(cut) if name in alive)
        tiled = self.judge.options.scope == "network"
        for layer in self.spec.layers if tiled else ():
            if layer.role in (Role.STEM, Role.REPCONV, Role.BOUNDARY):
                wanted.update(self._tiled_at(layer.chain))
            if layer.role in (Role.REPCONV, Role.BOUNDARY) and self.pairs.expected(layer.tail).wide:
                wanted.add(layer.tail)
        wanted.update(deadening(self.bends))
        wanted.update(layer_inputs(self.judge.source, self.facts, self.cuts))
        wanted.update(amplified(self.judge.source, self.facts))
        if tiled:
            wanted.update(self._bounded())
        return {name for name in wanted if name in alive and self.pairs.name_in_result(name)}

    def _bounded(self) -> list[str]:
        """The wide tensors of real numbers that operators make which are boundaries."""
        makers = {node.name: node for node in self.judge.source.nodes}
        outputs = [name for node in self.spec.boundaries for name in makers[node].outputs if name in self.spec.alive]
        return [name for name in outputs if self.pairs.expected(name).wide and is_float(self.fact(name).dtype)]

    def _tiled_at(self, chain: Sequence[str]) -> list[str]:
        """The tensor at which the result tiles a layer's output: the first wide one of its affine."""
        for name in chain:
            made = self.pairs.name_in_result(name)
            copies = self.pairs.expected(name)
            if (
                made
                and copies.wide
                and self.result_facts[made].shape == copies.widened(self.fact(name).shape, self.judge.options.beta)
            ):
                return [name]
        return []

    def _values(self, spec: Specification, names: Mapping[str, str]) -> tuple[dict[str, Array], dict[str, Array]]:
        """What S is fed, and what R is fed: the same, put together."""
        kinds = {cut.output: cut.kind for cut in (*self.cuts, *self.bends)}
        bounded = {*deadening(self.bends), *amplified(self.judge.source, self.facts), *self._bounded()}
        observed = self._observed(
            [name for name in (*kinds, *bounded) if kinds.get(name) in OBSERVED or name in bounded]
        )
        spec_feeds = dict(self.feeds)
        by_tensor: dict[str, dict[int, Array]] = {}
        for fed in spec.feeds:
            base = fed.tensor if fed.tensor in kinds else fed.tensor.removesuffix(MEAN)
            random = generator(self.judge.seed + self.batch, f"{fed.tensor} copy {fed.copy}")
            # The mean of numbers in a range is in it; that of whole numbers is none.
            seen = observed.get(base if base in bounded else fed.tensor)
            value = draw(self.fact(fed.tensor), kinds.get(base), random, seen)
            spec_feeds[fed.name] = value
            by_tensor.setdefault(fed.tensor, {})[fed.copy] = value
        result_feeds = dict(self.feeds)
        for tensor, values in by_tensor.items():
            copies = spec.computed[tensor]
            arrays = [values.get(copy, values.get(-1)) for copy in range(self.judge.options.beta)]
            result_feeds[names[tensor]] = copies.assemble([array for array in arrays if array is not None])
        return spec_feeds, result_feeds

    def _observed(self, names: Sequence[str]) -> dict[str, Array]:
        return probe(self.judge.source.model, self.feeds, values=names)[1] if names else {}

    def _comparisons(self, spec: Specification, computed: Mapping[str, str]) -> list[_Comparison]:
        """Everything that is compared: the required pairs and all others that the result still has."""
        skipped = {name for cut in self.cuts for name in _outputs(cut)} | self.pairs.inside
        found = []
        for name in self.pairs.tensors:
            if name in self.judge.source.outputs and name in self.result.maker:
                found.append(_Comparison(name, computed.get(name, name), (name,)))
            made = self.pairs.name_in_result(name)
            known = bool(found) and (found[-1].tensor, found[-1].actual) == (name, made)
            if not made or name in skipped or name in self.misshapen or known or not self._wanted(name):
                continue
            copies = spec.computed[name]
            narrow = self.pairs.in_stem(name) and self.result_facts[made].shape == self.fact(name).shape
            found.append(_Comparison(name, computed.get(made, made), copies.names[:1] if narrow else copies.names))
        return found

    def _wanted(self, name: str) -> bool:
        """Whether a tensor is asked of onnxruntime: what is asked for is not fused with what lies around it."""
        return self.judge.level is Level.DISABLE or name in self.pairs.required

    def _magnitude(self, spec: Specification, pair: _Comparison, sizes: Mapping[str, Magnitude]) -> Magnitude | None:
        """The magnitudes of what a pair is computed from, put together as its values are; None where unknown."""
        if any(name not in sizes for name in pair.expected):
            return None
        parts = [sizes[name] for name in pair.expected]
        values = [part.values for part in parts]
        copies = spec.computed[pair.tensor]
        # Magnitudes are the largest over the first axis: along that one, all copies have the largest of any.
        along_first = len(values) > 1 and copies.axis == 0
        whole = np.maximum.reduce(values) if along_first else values[0] if len(values) == 1 else copies.assemble(values)
        return Magnitude(whole, max(part.operators for part in parts))

    def _exact(self, name: str, expected: Array) -> bool:
        """Whether a tensor holds sums of signs, which no rounding touches."""
        return name in self.exact and integral(expected)

    def _compare(self, name: str, actual: Array, expected: Array, magnitude: Magnitude | None) -> bool:
        """Compare one tensor. Returns whether it is as it has to be."""
        exact = self._exact(name, expected)
        comparison = compare(actual, expected, exact=exact, magnitude=magnitude, stored=self.judge.stored)
        if comparison.ok:
            self._agree(name, comparison)
            return True
        (self.findings.compared if name in self.pairs.required else self.findings.others).add(name)
        how = "a binary sum is not exact: " if exact and comparison.relative < 0.01 else ""
        self.fail(name, f"{how}{comparison.detail}{comparison.size} (batch {self.batch})")
        return False

    def _agree(self, name: str, comparison: Comparison) -> None:
        """Note a tensor that is as it has to be."""
        (self.findings.compared if name in self.pairs.required else self.findings.others).add(name)
        limit = tolerance(self.fact(name).dtype, self.judge.stored)
        self.findings.worst = self.findings.worst.or_worse(comparison.relative, name, limit)
        known = self.findings.distances.get(name, Distance())
        self.findings.distances[name] = known.or_worse(comparison.relative, comparison.strain)


def _suffixes(cut: CutPoint) -> tuple[str, ...]:
    """What a cut is made for: a tensor, and of a binarisation the sign of the mean that a boundary reads."""
    return ("", MEAN) if cut.binarises else ("",)


def _outputs(cut: CutPoint) -> tuple[str, ...]:
    """The tensors behind a cut."""
    return tuple(cut.output + suffix for suffix in _suffixes(cut))
