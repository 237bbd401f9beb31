"""What has to hold of every compilation: the law, idempotence, one result whatever the options that must not matter,
and the same function when it is lowered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto

from benchmarks.generated.cases import Case
from reptran_compiler.compiler import CompileResult, NothingToDo, Options, Refusal, VerificationFailed, compile_model
from reptran_compiler.judging import spec_options
from reptran_compiler.pipeline import Transformation, transform
from reptran_compiler.runtime import probe, random_feeds
from reptran_compiler.verification import check_equivalent, check_law, check_lowered, specify

#: What may be refused, by what the message says of it.
EXPECTED = (
    "no layer that can be rewritten",
    "names no layer",
    "runs in training mode and cannot be folded",
    "a subgraph of If",
    "makes a sequence of a wide map",
)


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        failures: what is wrong, in words; empty where everything holds.
        refusal: why the compiler refuses the case; "" where it compiles.
        digest: of the result; "" where there is none.
        differing: how many maps have copies that differ, in a run of the specification with nothing cut.
    """

    failures: tuple[str, ...] = ()
    refusal: str = ""
    digest: str = ""
    differing: int = 0


def compiled(case: Case, *, verify: bool = True) -> CompileResult:
    """The compilation of a case, as `reptran-compile` does it."""
    asked = case.options
    return compile_model(
        case.model,
        asked.beta,
        scope=asked.scope,
        fc=asked.fc,
        bn=asked.bn,
        weights=asked.weights,
        exclude=asked.exclude,
        include=asked.include,
        dims=case.dims,
        verify=verify,
    )


def result_digest(case: Case) -> Outcome:
    """The result alone, or why it is refused, without verifying anything: for comparison with another process."""
    try:
        return Outcome(digest=digest(compiled(case, verify=False).model))
    except Refusal as refusal:
        return Outcome(refusal=str(refusal))


def examine(case: Case) -> Outcome:
    """Compile a case and hold everything against it that has to hold."""
    try:
        made = compiled(case)
    except VerificationFailed as error:
        return Outcome(tuple(f"law: {failure}" for failure in error.failures))
    except Refusal as refusal:
        return Outcome(() if _expected(refusal, case) else (f"refused: {refusal}",), str(refusal))
    assert made.transformation is not None
    failures = (*_repeated(made.model), *_other_options(case, made.transformation), *_lowered(case))
    return Outcome(failures, "", digest(made.model), differing_maps(case, made.transformation))


def _expected(refusal: Refusal, case: Case) -> bool:
    """Whether a case may be refused for this reason."""
    # Signs of what is never negative are 0 and 1, and where no others are drawn no layer is binary.
    zero_one = "0/1 activations" in case.constructs and "no layer reads a binarised map" in str(refusal)
    return zero_one or any(reason in str(refusal) for reason in EXPECTED)


def digest(model: ModelProto) -> str:
    """sha256 of a model without what it says of itself."""
    bare = ModelProto()
    bare.CopyFrom(model)
    del bare.metadata_props[:]
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def differing_maps(case: Case, made: Transformation) -> int:
    """How many maps have copies that differ when the specification runs on random images."""
    spec = specify(made.canonical, spec_options(made, case.options), dims=case.dims)
    several = {name: copies.names for name, copies in spec.computed.items() if len(set(copies.names)) > 1}
    feeds = random_feeds(made.canonical, batch=2, dims=case.dims)
    values = probe(spec.model, feeds, values=[name for names in several.values() for name in names])[1]
    return sum(any(not np.array_equal(values[name], values[names[0]]) for name in names) for names in several.values())


def _repeated(model: ModelProto) -> Iterator[str]:
    """A result is refused as a Rep network, by its metadata or without it."""
    bare = ModelProto()
    bare.CopyFrom(model)
    del bare.metadata_props[:]
    for source, what in ((model, "the result"), (bare, "the result without metadata")):
        try:
            compile_model(source, 2, verify=False)
        except NothingToDo:
            continue
        except Refusal as refusal:
            yield f"idempotence: {what} is not called a Rep network: {refusal}"
        else:
            yield f"idempotence: {what} is compiled again"


def _other_options(case: Case, made: Transformation) -> Iterator[str]:
    """Folded or kept norms and latent or stored weights give results of one canonical form, one law, one function."""
    options = replace(case.options, dims=tuple(sorted(case.dims.items())), check=False)
    swaps: tuple[tuple[str, Options], ...] = (
        ("--bn", replace(options, bn="keep" if options.bn == "fold" else "fold")),
        ("--weights", replace(options, weights="binary" if options.weights == "latent" else "latent")),
    )
    for what, swapped in swaps:
        named = f"{what} {getattr(swapped, what[2:])}"
        try:
            other = transform(case.model, swapped)
        except Refusal as refusal:
            if not _expected(refusal, case):
                yield f"{named}: refused: {refusal}"
            continue
        if digest(other.canonical) != digest(made.canonical):
            yield f"{named}: another canonical form"
        law = check_law(other.canonical, other.result, spec_options(other, swapped), dims=case.dims)
        yield from (f"{named}: law: {failure}" for failure in law.failures)
        # The second one's terms say what rounding may do: those of a BatchNormalization that is kept, since folding
        # rounds relative to them, and they may cancel in what is stored.
        pair = (other, made) if swapped.bn == "fold" else (made, other)
        same = check_equivalent(pair[0].result, pair[1].result, dims=case.dims)
        yield from (f"{named}: another result: {failure}" for failure in same.failures)


def _lowered(case: Case) -> Iterator[str]:
    """One way of `--optimize`, by the number of nodes: each rule keeps its word, and the judge accepts the whole."""
    way, weights = (("float", "binary"), ("int8", "packed"))[len(case.model.graph.node) % 2]
    options = replace(case.options, dims=tuple(sorted(case.dims.items())), optimize=way, weights=weights)
    try:
        made = transform(case.model, options)
    except Refusal as refusal:
        if not _expected(refusal, case):
            yield f"--optimize {way}: refused: {refusal}"
        return
    report = check_lowered(made.result, made.final, dims=case.dims)
    yield from (f"--optimize {way}: {failure}" for failure in report.failures)
