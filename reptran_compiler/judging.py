"""Asking the judge: which checks a compilation needs, on which models, and what they found in all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import numpy as np
from onnx import ModelProto

from reptran_compiler.pipeline import Options, Transformation
from reptran_compiler.reporting import ClassifierRounding, Step, VerificationSummary, silent
from reptran_compiler.runtime import Level, tolerance
from reptran_compiler.verification import (
    ClassifierReport,
    EquivalenceReport,
    Evidence,
    Failure,
    LawReport,
    ProtoGraph,
    SpecOptions,
    WellFormedReport,
    check_classifier,
    check_equivalent,
    check_kept,
    check_law,
    check_lowered,
    check_well_formed,
    find_degenerate,
    judged_batches,
    quick_batch,
    round_classifiers,
)

_NOT_COMPARED = Failure("", "", "runs", "nothing was compared, since the canonical form does not run")


@dataclass(frozen=True)
class Judgement:
    """What the judge found.

    Attributes:
        law: the result against the specification graph.
        equivalence: the source against its canonical form.
        well_formed: the result as a file.
        randomised_law: as `law`, for the copy with redrawn parameters; None where the file's own tell enough.
        randomised_equivalence: as `equivalence`, for that copy.
        elsewhere: as `equivalence` and `law`, at other sizes of dynamic axes; None where there are none.
        lowering: what is written against the result, at each choice of sizes, where it was lowered.
        classifier: the classifiers of what is written, where they were asked for in int8.
        reasons: what is degenerate about the file's parameters.
        left_out: what a quick judgement did not do, in words; empty where it was no quick one.
        seconds: how long it took.
    """

    law: LawReport
    equivalence: EquivalenceReport
    well_formed: WellFormedReport
    randomised_law: LawReport | None = None
    randomised_equivalence: EquivalenceReport | None = None
    elsewhere: tuple[EquivalenceReport, LawReport] | None = None
    lowering: tuple[EquivalenceReport, ...] = ()
    classifier: ClassifierReport | None = None
    reasons: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def reports(self) -> tuple[LawReport | EquivalenceReport, ...]:
        """The reports that compared tensors."""
        found = (
            self.equivalence,
            self.law,
            self.randomised_equivalence,
            self.randomised_law,
            *(self.elsewhere or ()),
            *self.lowering,
        )
        return tuple(report for report in found if report is not None)

    @property
    def evidence(self) -> Evidence | None:
        """What shows the first tensor of the result that breaks the law; None where none does by its numbers."""
        laws = (self.law, self.elsewhere[1] if self.elsewhere is not None else None, self.randomised_law)
        return next((law.evidence for law in laws if law is not None and law.evidence is not None), None)

    @property
    def failures(self) -> tuple[str, ...]:
        """Every failure in words; the first is the one to look at."""
        parts: list[tuple[str, Sequence[Failure]]] = [("canonical form", self.equivalence.failures)]
        found = sorted((*self.well_formed.failures, *self.law.failures), key=_remoteness)
        parts.append(("result", found))
        if self.classifier is not None:
            parts.append(("lowered form", self.classifier.failures))
        parts += [("lowered form", report.failures) for report in self.lowering]
        if self.elsewhere is not None:
            parts.append(("canonical form at other sizes", self.elsewhere[0].failures))
            parts.append(("result at other sizes", self.elsewhere[1].failures))
        if self.randomised_equivalence is not None:
            parts.append(("canonical form of the randomised copy", self.randomised_equivalence.failures))
        if self.randomised_law is not None:
            parts.append(("result of the randomised copy", self.randomised_law.failures))
        return tuple(f"{what}: {failure}" for what, failures in parts for failure in failures)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def summary(self, more: Sequence[str] = ()) -> VerificationSummary:
        """The judgement as reports show it.

        Args:
            more: failures that were found elsewhere.
        """
        failures = (*self.failures, *more)
        worst = max((report.worst for report in self.reports), key=lambda found: found.relative)
        return VerificationSummary(
            performed=True,
            passed=not failures,
            pairs_compared=sum(report.coverage.compared for report in self.reports),
            pairs_required=sum(report.coverage.required for report in self.reports),
            worst_error=worst.relative,
            worst_tensor=worst.tensor,
            tolerance=worst.tolerance or tolerance(np.float32),
            batches=self.law.batches,
            randomised=self.randomised_law is not None,
            classifier=_rounding(self.classifier),
            failure=failures[0] if failures else "",
            seconds=self.seconds,
            mode="quick" if self.left_out else "full",
            left_out=self.left_out,
        )


def _rounding(report: ClassifierReport | None) -> ClassifierRounding | None:
    """What was measured of classifiers in int8; None where nothing was."""
    if report is None or not report.changes:
        return None
    worst = max(report.changes, key=lambda change: change.relative)
    return ClassifierRounding(report.layers, worst.tensor, worst.largest, worst.relative)


def _remoteness(failure: Failure) -> int:
    """How far a failure is from its cause: what names a place comes before what is lost or unread since, and before
    what follows from it, as that the file does not run."""
    if not failure.tensor and not failure.node:
        return 2
    return int(failure.rule == "kept")


def judge(
    source: ModelProto,
    transformation: Transformation,
    options: Options,
    *,
    batches: Sequence[int] | None = None,
    dims: Mapping[str, int] | None = None,
    other_dims: Mapping[str, int] | None = None,
    threads: int = 1,
    seed: int = 0,
    level: Level = Level.DISABLE,
    words: bool = True,
    quick: bool = False,
    step: Step = silent,
    graph: ProtoGraph | None = None,
    retransform: Callable[[ModelProto, Options], Transformation],
) -> Judgement:
    """Verify a compilation as THEORY section 5 asks.

    Args:
        source: the source.
        transformation: its canonical form and its result.
        options: the compilation's options.
        batches: the batch sizes to run; 2 and 3 when absent.
        dims: sizes of dynamic axes other than the batch.
        other_dims: further sizes of them that the source runs with.
        threads: threads of onnxruntime.
        seed: of all numbers that are drawn.
        level: how far onnxruntime may rewrite what is compared.
        words: whether the result has to say what the source says beside its values (`check_kept`).
        quick: whether to compare every pair once only: at one batch size, and at one size of other dynamic axes.
        step: told what is being done.
        graph: the source with constants that are evaluated already; one of another model is of no use, and ignored.
        retransform: compiles the copy with redrawn parameters.

    Raises:
        RuntimeFailure: the source or its canonical form does not run.
        MalformedGraph: the source is no proper graph.
    """
    start = time.perf_counter()
    every, shapes, left_out = batches, tuple[int, ...](), tuple[str, ...]()
    if quick:
        every = judged_batches(source, batches, dims)
        batches = (quick_batch(every),)
        shapes = tuple(size for size in every if size not in batches)
        left_out = _left_out(shapes, other_dims)
        other_dims = None
    recipe = find_degenerate(source)
    total = 5 if recipe else 3
    step("verifying: source == canonical form", 0, total)
    equivalent = partial(check_equivalent, seed=seed, threads=threads, level=level, shapes=shapes)
    lowering = partial(check_lowered, seed=seed, threads=threads, level=level)
    law_of = partial(_law, options=options, seed=seed, threads=threads, level=level, shapes=shapes)
    known = graph if graph is not None and graph.model is source else source
    equivalence = equivalent(known, transformation.canonical, batches=batches, dims=dims)
    step("verifying: the file", 1, total)
    well_formed = check_well_formed(transformation.final, source, batches=batches, dims=dims)
    if words:
        kept = check_kept(transformation.final, source, batches=batches, dims=dims)
        well_formed = WellFormedReport((*well_formed.failures, *kept), (*well_formed.checks, "kept"))
    step("verifying: every tensor against the specification", 2, total)
    runs = all(failure.rule != "runs" for failure in equivalence.failures)
    law = law_of(transformation, batches=batches, dims=dims) if runs else LawReport((_NOT_COMPARED,))
    lowered, before, classifier = [], transformation.result, None
    if transformation.lowered is not None and law.ok:
        step("verifying: the lowered form", 2, total)
        if options.classifier == "int8":
            made = round_classifiers(before)
            asked = partial(check_classifier, seed=seed, batches=batches, dims=dims, threads=threads)
            classifier, before = asked(before, made, transformation.lowered), made.model
        lowered.append(lowering(before, transformation.lowered, batches=every, dims=dims))
    elsewhere: tuple[EquivalenceReport, LawReport] | None = None
    if other_dims and runs:
        some = law.batches[:1]
        same = equivalent(known, transformation.canonical, batches=some, dims=other_dims)
        elsewhere = (same, law_of(transformation, batches=some, dims=other_dims))
        if lowered:
            lowered.append(lowering(before, transformation.final, batches=some, dims=other_dims))
    again: tuple[EquivalenceReport, LawReport] | None = None
    if recipe and equivalence.ok and well_formed.ok and law.ok:
        step("verifying: a randomised copy, canonical form", 3, total)
        copy = recipe.apply(source, seed=seed)
        redone = retransform(copy, options)
        same = equivalent(copy, redone.canonical, batches=batches, dims=dims)
        step("verifying: a randomised copy against its specification", 4, total)
        again = (same, law_of(redone, batches=batches, dims=dims))
    return Judgement(
        law=law,
        equivalence=equivalence,
        well_formed=well_formed,
        randomised_law=again[1] if again else None,
        randomised_equivalence=again[0] if again else None,
        elsewhere=elsewhere,
        lowering=tuple(lowered),
        classifier=classifier,
        reasons=recipe.reasons,
        left_out=left_out,
        seconds=time.perf_counter() - start,
    )


def _left_out(shapes: Sequence[int], other_dims: Mapping[str, int] | None) -> tuple[str, ...]:
    """What a quick judgement does not do: values at some batch sizes, and all at other sizes of dynamic axes."""
    left_out = ["the effects of the compiler's own rules, one by one"]
    if shapes:
        left_out.append(f"values at batch {' and '.join(map(str, shapes))} (shapes were compared)")
    if other_dims:
        left_out.append(f"sizes {', '.join(f'{name} = {size}' for name, size in other_dims.items())}")
    return tuple(left_out)


def spec_options(transformation: Transformation, options: Options) -> SpecOptions:
    """What the law depends on."""
    return SpecOptions(
        beta=options.beta,
        scope=cast(Literal["network", "layer"], options.scope),
        fc=cast(Literal["widen", "fold"], options.fc),
        exclude=transformation.excluded,
        include=transformation.included,
        per_copy=transformation.per_copy,
    )


def _law(
    transformation: Transformation,
    *,
    options: Options,
    seed: int,
    batches: Sequence[int] | None,
    dims: Mapping[str, int] | None,
    threads: int,
    level: Level,
    shapes: Sequence[int],
) -> LawReport:
    return check_law(
        transformation.canonical,
        transformation.result,
        spec_options(transformation, options),
        seed=seed,
        batches=batches,
        dims=dims,
        threads=threads,
        level=level,
        shapes=shapes,
    )
