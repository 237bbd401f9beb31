"""The law of THEORY section 2, checked: R[t] == [S[t](0) | ... | S[t](beta-1)] for every tensor."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from onnx import ModelProto, TensorProto

from reptran_compiler.model.referred import embedded, is_vast
from reptran_compiler.model.retyping import holds, retyped
from reptran_compiler.runtime import Level, RuntimeFailure, random_feeds, tensor_facts
from reptran_compiler.verification.batch import BatchRun, Findings, ResultDoesNotRun
from reptran_compiler.verification.context import Context
from reptran_compiler.verification.copies import CannotSpecify
from reptran_compiler.verification.cutpoints import CutPoint, data_tensors, find_cuts
from reptran_compiler.verification.interface import interface_failures
from reptran_compiler.verification.layers import Role
from reptran_compiler.verification.pairs import Pairs
from reptran_compiler.verification.protograph import MalformedGraph, ProtoGraph
from reptran_compiler.verification.report import Coverage, Failure, LawReport, Worst
from reptran_compiler.verification.sizes import judged_batches
from reptran_compiler.verification.specification import Specification, SpecOptions, build_specification


def check_law(
    canonical: ModelProto,
    result: ModelProto,
    options: SpecOptions,
    *,
    seed: int = 0,
    batches: Sequence[int] | None = None,
    dims: Mapping[str, int] | None = None,
    threads: int = 1,
    level: Level = Level.DISABLE,
    shapes: Sequence[int] = (),
) -> LawReport:
    """Judge a result: build S from the canonical source, cut S and R, feed both alike, compare every tensor.

    Args:
        canonical: the source in canonical form (THEORY section 4).
        result: what the compiler made of it.
        options: what it was asked for.
        seed: of everything random.
        batches: the batch sizes to run; those of `judged_batches` when absent.
        dims: sizes of dynamic axes other than the batch.
        threads: threads of onnxruntime.
        level: how far onnxruntime may rewrite what is compared; beyond `DISABLE` the required pairs alone are compared.
        shapes: further batch sizes, at which shapes and types alone are compared.

    Returns:
        The report. Nothing is raised for a bad result: whatever is wrong with it is a failure in the report.

    Raises:
        RuntimeFailure: the canonical source itself does not run.
        CannotFeed: an input of the source cannot be fed (a dynamic axis without a size in `dims`).
    """
    start = time.perf_counter()
    context = Context(canonical, options, seed, dims, threads, level)
    sizes = judged_batches(canonical, batches, dims)
    report = _judge(context, result, sizes, shapes)
    if report.ok and holds(canonical, TensorProto.FLOAT16) and not any(map(is_vast, (canonical, result))):
        report = _closer(report, canonical, result, options, sizes, seed, dims, threads)
    return replace(report, seconds=time.perf_counter() - start)


def specify(
    canonical: ModelProto,
    options: SpecOptions,
    *,
    dims: Mapping[str, int] | None = None,
    batch: int = 2,
) -> Specification:
    """The specification graph S of a canonical source, not cut: to look at, to dump, to run.

    Raises:
        CannotSpecify: the law does not say what a node becomes.
        RuntimeFailure: the source does not run.
        CannotFeed: an input cannot be fed.
    """
    graph = ProtoGraph(canonical)
    facts = tensor_facts(canonical, random_feeds(canonical, batch=batch, dims=dims))
    cuts = tuple(find_cuts(graph, facts, data_tensors(graph)))
    return build_specification(graph, options, facts, cuts=cuts)


def _judge(context: Context, result: ModelProto, batches: Sequence[int], shapes: Sequence[int] = ()) -> LawReport:
    findings = Findings([], Worst(), set(), set())
    for failure in interface_failures(context.source.model, result):
        findings.fail(-1, failure)
    if findings.failures:
        return _report(findings, None, None, (), batches)
    try:
        graph = ProtoGraph(result)
    except MalformedGraph as error:
        findings.fail(-1, Failure("", "", "well-formed", str(error)))
        return _report(findings, None, None, (), batches)
    pairs, spec = None, None
    cuts: Sequence[CutPoint] = ()
    for number, batch in enumerate((*batches, *shapes)):
        try:
            run = BatchRun(context, graph, batch, findings)
            if number >= len(batches):
                run.check_shapes()
                continue
            pairs, spec, cuts = run.pairs, run.spec, run.cuts
            if number == 0:
                run.check_weights()
                run.check_presence()
                run.check_cut_operators()
            run.compare()
        except CannotSpecify as error:
            findings.fail(-1, Failure("", error.node, "specification", error.reason))
        except ResultDoesNotRun as error:
            detail = f"the result does not run at batch {batch}: {error}"
            # Where a tensor of a wrong shape was found, that is the place, not the node that cannot read it.
            node = "" if findings.failures else _node_of(str(error))
            findings.fail(-1, Failure("", node, "runs", detail))
    return _report(findings, pairs, spec, cuts, batches)


def _closer(
    report: LawReport,
    canonical: ModelProto,
    result: ModelProto,
    options: SpecOptions,
    batches: Sequence[int],
    seed: int,
    dims: Mapping[str, int] | None,
    threads: int,
) -> LawReport:
    """The report on a network of float16, with what fails where its numbers are those of float32.

    What float16 rounds at each operator hides mistakes that are a hundred times larger than float32's.
    """
    models = (embedded(model) for model in (canonical, result))
    wide, wide_result = (retyped(model, TensorProto.FLOAT16, TensorProto.FLOAT) for model in models)
    context = Context(wide, options, seed, dims, threads, Level.DISABLE, stored="float16")
    try:
        closer = _judge(context, wide_result, batches)
    except RuntimeFailure:  # such as an operator of a user that knows float16 alone
        return report
    failures = tuple(replace(f, detail=f"{f.detail}, computed in float32") for f in closer.failures)
    return replace(report, failures=failures, evidence=closer.evidence)


def _report(
    findings: Findings,
    pairs: Pairs | None,
    spec: Specification | None,
    cuts: Sequence[CutPoint],
    batches: Sequence[int],
) -> LawReport:
    required = pairs.required if pairs is not None else ()
    missing = tuple(name for name in required if name not in findings.compared)
    place = {name: pairs.order(name) for name in missing} if pairs is not None else {}
    runs = all(known.rule != "runs" for _, known in findings.failures)
    for name in missing if runs else ():
        if pairs is not None and all(known.tensor != name for _, known in findings.failures):
            node, rule = pairs.blame(name)
            findings.fail(place[name], Failure(name, node, rule, "a required tensor was not compared"))
    boundaries = dict(spec.boundaries) if spec is not None else {}
    layers = spec.layers if spec is not None else ()
    boundaries.update({layer.node: layer.reason for layer in layers if layer.role is Role.BOUNDARY})
    return LawReport(
        failures=tuple(failure for _, failure in sorted(findings.failures, key=lambda entry: entry[0])),
        worst=findings.worst,
        distances=findings.distances,
        coverage=Coverage(len(required) - len(missing), len(required), len(findings.others), missing),
        layers=dict(Counter(layer.role.value for layer in layers)),
        boundaries=boundaries,
        cuts=len(cuts),
        isolated=findings.isolated,
        repconvs=findings.repconvs,
        batches=tuple(batches),
        evidence=None if findings.evidence is None else findings.evidence[1],
    )


def _node_of(message: str) -> str:
    """The node that onnxruntime blames; "" where it blames none."""
    found = re.search(r"""Name:'([^']+)'|Node \(([^)]+)\) Op|In Node, \("([^"]+)\"""", message)
    return next(name for name in found.groups() if name) if found else ""
