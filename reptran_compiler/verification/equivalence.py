"""Before == after: two graphs that must compute the same, such as a source and its canonical form.

The graphs are cut as THEORY section 5 says: what lies in front of each binarisation is compared, the
operators between are tried on special points in both, and what lies behind is fed the same values. Between,
every tensor of one name is compared.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from reptran_compiler.runtime import (
    Comparison,
    Level,
    RuntimeFailure,
    Session,
    TensorFact,
    compare,
    differ,
    generator,
    is_float,
    probe,
    random_feeds,
    tensor_facts,
    tolerance,
)
from reptran_compiler.verification.bends import amplified, deadening, find_bends, layer_inputs
from reptran_compiler.verification.cutpoints import OBSERVED, CutKind, CutPoint, data_tensors, find_cuts
from reptran_compiler.verification.cutting import cut_names, cut_part, prune
from reptran_compiler.verification.drawing import draw
from reptran_compiler.verification.interface import interface_failures
from reptran_compiler.verification.isolation import disagreement, find_region
from reptran_compiler.verification.magnitudes import magnitudes
from reptran_compiler.verification.portions import portions
from reptran_compiler.verification.protograph import MalformedGraph, ProtoGraph
from reptran_compiler.verification.report import Coverage, Distance, EquivalenceReport, Failure, Worst
from reptran_compiler.verification.sizes import judged_batches

Array = NDArray[Any]

#: How many roundings of the largest number involved a straight-through residue may be off by.
RESIDUE_ROUNDINGS = 8


def check_equivalent(
    before: ModelProto | ProtoGraph,
    after: ModelProto,
    *,
    seed: int = 0,
    batches: Sequence[int] | None = None,
    cuts: Sequence[str] | None = None,
    dims: Mapping[str, int] | None = None,
    threads: int = 1,
    level: Level = Level.DISABLE,
    shapes: Sequence[int] = (),
) -> EquivalenceReport:
    """Compare two graphs on all tensors that they share by name.

    Args:
        before: the graph as it was; as a `ProtoGraph`, constants that were evaluated before are not again.
        after: the graph as it is, whose binarisations are canonical. The tensors in front of and behind each
            have the names that they have in `before`, where the latter may be the end of a straight-through
            residue.
        seed: of everything random.
        batches: the batch sizes to run; those of `judged_batches` when absent.
        cuts: tensors behind which to cut, by name; every binarisation, Round, comparison and Cast of `after`
            when absent.
        dims: sizes of dynamic axes other than the batch.
        threads: threads of onnxruntime.
        level: how far onnxruntime may rewrite what is compared; beyond `DISABLE` the required pairs alone are compared.
        shapes: further batch sizes, at which shapes and types alone are compared.

    Returns:
        The report; required pairs are the graph outputs and what lies in front of each binarisation.

    Raises:
        RuntimeFailure: `before` does not run.
        CannotFeed: one of its inputs cannot be fed.
        MalformedGraph: `before` is no graph.
    """
    start = time.perf_counter()
    old = before if isinstance(before, ProtoGraph) else ProtoGraph(before)
    sizes = judged_batches(old.model, batches, dims)
    failures = interface_failures(old.model, after)
    findings = _Findings(failures, Worst(), set(), set())
    required: tuple[str, ...] = ()
    count = 0
    try:
        new = ProtoGraph(after)
    except MalformedGraph as error:
        failures.append(Failure("", "", "well-formed", str(error)))
        return EquivalenceReport(tuple(failures), batches=sizes, seconds=time.perf_counter() - start)
    if not failures:
        for number, batch in enumerate((*sizes, *shapes)):
            try:
                run = _Run(old, new, batch, seed, dims, threads, level, cuts, findings)
                if number >= len(sizes):
                    run.check_shapes()
                    continue
                required, count = run.required, len(run.cuts)
                if number == 0:
                    run.check_operators()
                run.compare()
            except _AfterDoesNotRun as error:
                failures.append(Failure("", "", "runs", f"the new graph does not run at batch {batch}: {error}"))
    missing = tuple(name for name in required if name not in findings.compared)
    known = {failure.tensor for failure in failures}
    failures.extend(Failure(n, "", "coverage", "a required tensor was not compared") for n in missing if n not in known)
    order = {name: place for place, node in enumerate(new.nodes) for name in node.outputs}
    failures.sort(key=lambda failure: order.get(failure.tensor, -1))
    return EquivalenceReport(
        tuple(failures),
        findings.worst,
        findings.distances,
        Coverage(len(required) - len(missing), len(required), len(findings.others), missing),
        count,
        findings.isolated,
        sizes,
        time.perf_counter() - start,
    )


@dataclass
class _Findings:
    failures: list[Failure]
    worst: Worst
    compared: set[str]
    others: set[str]
    isolated: int = 0
    distances: dict[str, Distance] = field(default_factory=dict)

    def fail(self, tensor: str, node: str, rule: str, detail: str) -> None:
        if all((known.tensor, known.rule) != (tensor, rule) for known in self.failures):
            self.failures.append(Failure(tensor, node, rule, detail))


class _AfterDoesNotRun(Exception):
    """onnxruntime refuses the new graph."""


class _Run:
    """One batch size."""

    def __init__(
        self,
        old: ProtoGraph,
        new: ProtoGraph,
        batch: int,
        seed: int,
        dims: Mapping[str, int] | None,
        threads: int,
        level: Level,
        cuts: Sequence[str] | None,
        findings: _Findings,
    ) -> None:
        self.old, self.new, self.batch, self.threads, self.findings = old, new, batch, threads, findings
        self.seed, self.level = seed + batch, level
        self.feeds = random_feeds(old.model, batch=batch, dims=dims, seed=self.seed)
        self.old_facts = tensor_facts(old.model, self.feeds, threads=threads)
        try:
            self.new_facts = tensor_facts(new.model, self.feeds, threads=threads)
        except RuntimeFailure as error:
            raise _AfterDoesNotRun(str(error)) from None
        data = data_tensors(new)
        found = find_cuts(new, self.new_facts, data)
        chosen = [cut for cut in found if cuts is None or cut.output in cuts]
        self.cuts = [cut for cut in chosen if cut.binarises or cut.output in old.maker]
        inside = frozenset(name for cut in self.cuts for name in cut.inside)
        bends = find_bends(new, self.new_facts, data, inside)
        self.bends = [bend for bend in bends if bend.output in old.maker and bend.inputs[0] in old.tensors]
        # What one cut makes and another reads is fed; the cut that makes it is tried on its own.
        behind = {cut.output for cut in self.cuts if cut.output in old.maker}
        inputs = [name for cut in self.cuts for name in cut.inputs if name not in behind]
        wanted = {*new.outputs, *inputs} & data
        self.required = tuple(n for node in new.nodes for n in node.outputs if n in wanted)
        shared = data & data_tensors(old)
        self.shared = [n for node in new.nodes for n in node.outputs if n in shared and n in old.maker]

    def check_operators(self) -> None:
        """What lies between the two sides of each cut, in both graphs, on special points."""
        seen: set[object] = set()
        for cut in (*self.cuts, *self.bends):
            after = find_region(self.new, cut.output, cut.inputs)
            known = cut.output in self.old.maker and all(name in self.old.tensors for name in cut.inputs)
            before = find_region(self.old, cut.output, cut.inputs) if known else None
            if before is None or after is None:
                detail = (
                    "the old graph does not compute it from what is in front of it alone"
                    if known
                    else ("the old graph has no tensors of these names, so it cannot be compared")
                )
                self.findings.fail(cut.output, cut.nodes[-1].name, "cut", detail)
                continue
            key = (before.signature, after.signature)
            if before.shapeless and after.shapeless and key in seen:
                continue
            seen.add(key)
            self.findings.isolated += 1
            detail = disagreement(
                before,
                self.old_facts,
                after,
                self.new_facts,
                forgive=self._forgiven(cut),
                ignore_nan=True,
                level=self.level,
            )
            if detail:
                text = f"the {cut.kind.value} is not what it was: {detail}"
                rule = "value" if cut.kind is CutKind.BEND else "binarisation"
                self.findings.fail(cut.output, cut.nodes[-1].name, rule, text)

    def check_shapes(self) -> None:
        """Shapes and types of what both graphs have."""
        for name in self.shared:
            here, there = self.old_facts.get(name), self.new_facts.get(name)
            if here is not None and there is not None and here != there:
                detail = f"{there.dtype}{list(there.shape)} instead of {here.dtype}{list(here.shape)}"
                self.findings.fail(name, self.new.maker[name].name, "value", f"{detail} (batch {self.batch})")

    def _forgiven(self, cut: CutPoint) -> float:
        dtype = self.new_facts[cut.output].dtype
        if not is_float(dtype):
            return 0.0
        eps = {"float64": 2.0**-52, "float16": 2.0**-10, "bfloat16": 2.0**-7}.get(dtype.name, 2.0**-23)
        return RESIDUE_ROUNDINGS * eps

    def compare(self) -> None:
        """Cut both, feed both the same, compare."""
        kinds: dict[str, CutKind | None] = {cut.output: cut.kind for cut in self.cuts if cut.output in self.old.maker}
        amplifying = [name for name in amplified(self.new, self.new_facts) if name in self.old.maker]
        read = [*layer_inputs(self.new, self.new_facts, self.cuts), *amplifying]
        kinds.update({name: CutKind.BEND for name in deadening(self.bends)})
        kinds.update({name: None for name in read if name in self.old.maker and name not in kinds})
        seen = [name for name, kind in kinds.items() if kind in (*OBSERVED, CutKind.BEND) or name in amplifying]
        observed = probe(self.old.model, self.feeds, values=seen)[1] if seen else {}
        feeds = dict(self.feeds)
        for name, kind in kinds.items():
            random = generator(self.seed, name)
            feeds[name] = draw(self.old_facts[name], kind, random, observed.get(name))
        old_names, new_names = cut_names(self.old, kinds), cut_names(self.new, kinds)
        inside = {name for cut in self.cuts for name in cut.inside}
        # What is asked of onnxruntime is not fused with what lies around it.
        shared = self.shared if self.level is Level.DISABLE else [n for n in self.shared if n in self.required]
        names = [n for n in shared if n not in inside or (n in self.new.outputs and n not in kinds)]
        names += [n for n in self.new.outputs if n in kinds and n in self.required]
        fronts = {cut.output: cut.inputs[0] for cut in self.cuts if cut.binarises}
        compared = {old_names.get(name, name) for name in names}
        fronts = {name: front for name, front in fronts.items() if front in compared}
        for some in portions(names, self._size):
            self._compare_some(some, fronts, feeds, old_names, new_names)

    def _size(self, name: str) -> int:
        """Bytes of a tensor, of both graphs together."""
        fact = self.old_facts.get(name, self.new_facts.get(name))
        return 0 if fact is None else 2 * math.prod(fact.shape) * fact.dtype.itemsize

    def _compare_some(
        self,
        names: Sequence[str],
        fronts: Mapping[str, str],
        feeds: Mapping[str, Array],
        old_names: Mapping[str, str],
        new_names: Mapping[str, str],
    ) -> None:
        """Compute and compare some tensors; `fronts` tells what is in front of those that a binarisation makes."""
        old_wanted = [old_names.get(name, name) for name in names]
        new_wanted = [new_names.get(name, name) for name in names]
        beside = [*old_wanted, *(fronts[name] for name in names if name in fronts)]
        # What sessions share is no constant to onnxruntime, which may rewrite what is computed with such.
        shared = self.level is Level.DISABLE
        old_weights, new_weights = (graph.weights if shared else {} for graph in (self.old, self.new))
        old_cut = cut_part(self.old, old_names, self.old_facts, beside, old_weights)
        session = Session(old_cut, threads=self.threads, level=self.level, weights=old_weights)
        expected = session.run(feeds, beside)
        new_cut = cut_part(self.new, new_names, self.new_facts, new_wanted, new_weights)
        try:
            session = Session(new_cut, threads=self.threads, level=self.level, weights=new_weights)
            actual = session.run(feeds, new_wanted)
        except RuntimeFailure as error:
            raise _AfterDoesNotRun(str(error)) from None
        for name, old_name, new_name in zip(names, old_wanted, new_wanted, strict=True):
            wanted, front = expected[old_name], expected.get(fronts.get(name, ""))
            if front is not None and front.shape == wanted.shape == actual[new_name].shape:
                actual[new_name] = np.where(_undecided(front), wanted, actual[new_name])
        both = list(zip(old_wanted, new_wanted, strict=True))
        # What is equal to the bit needs no measure of rounding.
        unequal = {new_name: None for old_name, new_name in both if differ(actual[new_name], expected[old_name])}
        prune(new_cut, list(unequal))
        sizes = magnitudes(new_cut, feeds, list(unequal), threads=self.threads, weights=new_weights)
        for name, old_name, new_name in zip(names, old_wanted, new_wanted, strict=True):
            got, wanted = actual[new_name], expected[old_name]
            equal = Comparison.equal() if new_name not in unequal else None
            self._note(name, got, wanted, equal or compare(got, wanted, magnitude=sizes.get(new_name)))

    def _note(self, name: str, actual: Array, expected: Array, result: Comparison) -> None:
        maker = self.new.maker[name]
        (self.findings.compared if name in self.required else self.findings.others).add(name)
        if actual.dtype != expected.dtype:
            self.findings.fail(name, maker.name, "value", f"type {actual.dtype} instead of {expected.dtype}")
            return
        if result.ok:
            self.findings.worst = self.findings.worst.or_worse(result.relative, name, tolerance(expected.dtype))
            known = self.findings.distances.get(name, Distance())
            self.findings.distances[name] = known.or_worse(result.relative, result.strain)
            return
        self.findings.fail(name, maker.name, "value", f"{result.detail}{result.size} (batch {self.batch})")


def _undecided(front: Array) -> Array:
    """Where a number is so close to zero that rounding alone may turn its sign: its value is compared, its sign not."""
    sizes = np.abs(front.astype(np.float64))
    mask: Array = sizes <= tolerance(front.dtype) * sizes.max(initial=0.0)
    return mask


__all__ = ["TensorFact", "check_equivalent"]
