"""One compilation: read, transform, verify, count, write, and say what happened."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto

from reptran_compiler import provenance
from reptran_compiler.accounting import cost_violations, count_costs, layer_rows
from reptran_compiler.annotations import carry_annotations
from reptran_compiler.canonicalisation import CASES
from reptran_compiler.choices import CHOICES, OUTPUT_CHOICES
from reptran_compiler.errors import BadInput, NothingToDo, VerificationFailed
from reptran_compiler.judging import Judgement, judge, spec_options
from reptran_compiler.model.convert import INITIALIZERS_ARE_NO_INPUTS
from reptran_compiler.model.io import STREAM, Source, from_proto, read_model
from reptran_compiler.model.referred import LARGE_MODEL, MOST_HELD, Scratch, embedded, is_vast
from reptran_compiler.outputs import Outputs, PathLike, numbered
from reptran_compiler.packed import unpackable
from reptran_compiler.pipeline import AlreadyReplicated, Options, Refusal, Transformation, transform
from reptran_compiler.qonnx import IntegerType, count_quantisers, integer_weights, qonnx_operators, read_back, readable
from reptran_compiler.reporting import Step, Summary, VerificationSummary, silent, to_json
from reptran_compiler.runtime import CannotFeed, RuntimeFailure
from reptran_compiler.sign_zero import plus_at_zero
from reptran_compiler.trial import Trial, refuses_a_batch, try_source
from reptran_compiler.verification import CannotSpecify, specify
from reptran_compiler.version import __version__

#: How many objects more there are when the cyclic collector looks again.
_COLLECT_AFTER = 50_000
#: How often a scratch file may have to hold a model's large tensors, in one arrangement or another.
_ROOM = 4


@dataclass(frozen=True)
class CompileResult:
    """What a compilation gave.

    Attributes:
        model: the result, its provenance in its metadata; with beta 1 the source itself.
        summary: what happened, for `reporting.print_summary` and `reporting.to_json`.
        transformation: the canonical form, the layers and the moves of weights; None with beta 1.
        judgement: what the judge found; None with beta 1 and where verification was switched off.
    """

    model: ModelProto
    summary: Summary
    transformation: Transformation | None = None
    judgement: Judgement | None = None

    @property
    def verified(self) -> bool:
        """Whether the result was verified."""
        return self.judgement is not None and self.judgement.ok


@dataclass(frozen=True)
class Compilation:
    """One compilation, all that it depends on.

    Attributes:
        model: a model, or the file that it is in ("-" for standard input). It is not changed.
        options: what becomes of it. `dims` of theirs is left to the trial run.
        outputs: what is written.
        dims: sizes for runs of dynamic axes other than the batch, by the axis' name, or as "INPUT:AXIS".
        batches: batch sizes to verify with; 2 and 3 when absent.
        threads: threads of onnxruntime.
        seed: of the numbers that it is verified with.
        verify: whether to verify.
        quick: whether to verify at one batch size alone, the effects of the compiler's own rules not executed.
        target: "packed" to be told what kernels of one bit cannot represent; "any".
        step: told what is being done.
        large: models with more bytes of tensors are held by reference: large tensors stay in their files, or in a
            scratch file, while the compiler works.
        embed: whether the result's data is embedded in `CompileResult.model` in any case; without, a large one may
            refer to files (`model.referred`).
    """

    model: ModelProto | PathLike
    options: Options
    outputs: Outputs = Outputs()
    dims: Mapping[str, int] | None = None
    batches: Sequence[int] | None = None
    threads: int = 1
    seed: int = 0
    verify: bool = True
    quick: bool = False
    target: str = "any"
    step: Step = silent
    large: int = LARGE_MODEL
    embed: bool = True

    @np.errstate(all="ignore")  # what a network overflows to is a value like others: the judge compares it
    def run(self) -> CompileResult:
        """Compile.

        Raises:
            BadInput: the options or the files cannot be used, or the model does not run (exit code 2).
            Refusal: the model cannot be rewritten as asked (its `exit_code` says which).
            NothingToDo: the model is a Rep network already (exit code 1).
            VerificationFailed: the result is wrong; nothing was written (exit code 3).
        """
        with _few_collections():
            return self._run()

    def _run(self) -> CompileResult:
        beta = self.options.beta
        if isinstance(beta, bool) or not isinstance(beta, int) or beta < 1:
            raise BadInput(f"beta is {beta!r}; it has to be an integer of at least 1")
        _see_choices(self.options, self.target)
        unchanged = beta == 1 and not self.options.lowers
        # What stays as it is, is written as it was read: byte for byte.
        large = max(self.large, MOST_HELD) if unchanged else self.large
        self.outputs.check_writable()
        self.step("reading", 0, None)
        if isinstance(self.model, ModelProto):
            source = from_proto(self.model)
        else:
            source = read_model(self.model, refer_above=large)
        self.outputs.check_source(source)
        scratch = None
        if source.size > large:
            scratch = self._scratch(source.size)
        if scratch is not None:
            source = replace(source, model=scratch.hold(source.model), payload=source.payload if unchanged else None)
        recorded = provenance.recorded_beta(source.model)
        if beta > 1 and recorded is not None:
            raise _replicated_already(source, f"it was compiled with beta {recorded}")
        self.step("running the source", 0, None)
        runnable = readable(source)
        trial = try_source(
            runnable.model,
            dims=self.dims,
            batches=self.batches,
            threads=self.threads,
            verify=self.verify,
            quick=self.quick,
        )
        if unchanged:
            return self._unchanged(source, trial)
        quantisers = count_quantisers(source.model)
        said = (f"{quantisers} QONNX quantisers were read as ONNX operators",) if quantisers else ()
        if self.options.sign_zero == "plus":
            model, more = plus_at_zero(runnable.model, trial, threads=self.threads)
            runnable, said = replace(runnable, model=model), (*said, *more)
            trial = replace(trial, symbols=None)  # they are of the other model
        integers = integer_weights(source.model)
        return self._compiled(runnable, replace(trial, notes=(*trial.notes, *said)), scratch, integers)

    def _scratch(self, size: int) -> Scratch | None:
        """Where large tensors are kept of a model with so many bytes of them; None where there is no room for them but
        in memory, which has enough."""
        try:
            made = self.outputs.scratch(derives=not self.verify)
        except BadInput:
            if size > MOST_HELD:
                raise
            return None
        return made if size > MOST_HELD or made.room > _ROOM * size else None

    def _compiled(
        self, source: Source, trial: Trial, scratch: Scratch | None, integers: Mapping[str, IntegerType]
    ) -> CompileResult:
        keep = self.outputs.dump_dir is not None
        options = replace(self.options, check=self.verify, trust=self.quick, stages=keep, threads=self.threads)
        self.step("rewriting", 0, None)
        try:
            transformation = transform_source(source.model, options, trial, scratch)
        except AlreadyReplicated as error:
            raise _replicated_already(source, str(error)) from None
        except Refusal as error:
            self.outputs.write_stages(error.reproducer.items(), source)
            raise
        for made in (transformation.result, transformation.lowered):
            if made is not None:
                carry_annotations(source.model, made, trial, threads=self.threads)
                provenance.record(made, transformation, options, source.digest, verified=self.verify, quick=self.quick)
        written = self._emitted(transformation.final, integers)
        transformation = self._read_back(transformation, written)
        self.outputs.write_stages(self._stages(transformation, trial), source)
        summary = self._summary(source, transformation, trial)
        judgement = None
        if self.verify:
            judgement = judge(
                source.model,
                transformation,
                options,
                batches=trial.batches,
                dims=trial.dims,
                other_dims=trial.other_dims,
                threads=self.threads,
                seed=self.seed,
                quick=self.quick,
                step=self.step,
                graph=trial.graph,
                retransform=lambda copy, _: self._again(transform_source(copy, options, trial, scratch), integers),
            )
            summary = self._verified(summary, judgement, transformation.from_elsewhere)
        self.step("writing", 0, None)
        moves = "" if self.outputs.map is None else provenance.moves_json(transformation, options, source.digest)
        report = "" if self.outputs.report is None else to_json(summary)
        self.outputs.write(written, source, moves, report)
        if self.verify and self.embed and not is_vast(written):
            final, transformation = transformation.final, transformation.embedded()
            written = transformation.final if written is final else written
        given = self._given(written)
        source.require_unchanged()  # what is given back was read again
        return CompileResult(given, summary, transformation, judgement)

    def _emitted(self, result: ModelProto, integers: Mapping[str, IntegerType]) -> ModelProto:
        """A result as it is written."""
        return qonnx_operators(result, integers, self.options.beta) if self.options.emit == "qonnx" else result

    def _read_back(self, transformation: Transformation, written: ModelProto) -> Transformation:
        """A transformation whose result is what a reader makes of what is written."""
        if written is transformation.final:
            return transformation
        return replace(transformation, result=read_back(written, transformation.result))

    def _again(self, transformation: Transformation, integers: Mapping[str, IntegerType]) -> Transformation:
        return self._read_back(transformation, self._emitted(transformation.final, integers))

    def _unchanged(self, source: Source, trial: Trial) -> CompileResult:
        summary = replace(
            self._begun(source),
            notes=("beta is 1: there is nothing to replicate, the source is given back unchanged", *trial.notes),
            status="unchanged",
        )
        moves = provenance.no_moves_json(self.options, source.digest)
        self.outputs.write_unchanged(source, moves, to_json(summary))
        given = self._given(source.model)
        source.require_unchanged()
        return CompileResult(given, summary)

    def _given(self, model: ModelProto) -> ModelProto:
        return embedded(model) if self.embed else model

    def _begun(self, source: Source) -> Summary:
        return Summary(
            model=source.name,
            output=self.outputs.target,
            beta=self.options.beta,
            version=__version__,
            options=provenance.option_values(self.options),
        )

    def _summary(self, source: Source, transformation: Transformation, trial: Trial) -> Summary:
        self.step("counting", 0, None)
        costs, note = count_costs(transformation, trial)
        notes = (*trial.notes, *transformation.notes, *((note,) if note else ()))
        moved = provenance.rearranged_layers(transformation)
        boundaries = dict(transformation.boundaries)
        layers = {plan.name for plan in transformation.layers}
        notes += tuple(f"{name}: {reason}" for name, reason in boundaries.items() if name not in layers)
        violations = () if self.verify else cost_violations(costs, self.options, moved)
        return replace(
            self._begun(source),
            layers=layer_rows(transformation, costs, moved),
            costs=costs,
            verification=VerificationSummary(performed=False),
            notes=notes,
            warnings=(
                *default_warnings(source.model, transformation.result),
                *violations,
                *self._unpackable(transformation),
            ),
            status="dry-run" if self.outputs.dry_run else "compiled",
        )

    def _unpackable(self, transformation: Transformation) -> tuple[str, ...]:
        if self.target != "packed" and self.options.emit != "qonnx":
            return ()
        return unpackable(transformation.result, [plan.name for plan in transformation.layers if plan.binary])

    def _verified(self, summary: Summary, judgement: Judgement, strangers: Sequence[str]) -> Summary:
        """The summary with what the judge found. Raises `VerificationFailed` where that is a failure; `strangers` are
        the rules from elsewhere that took part."""
        moved = {row.name: row.rearranged for row in summary.layers if row.rearranged is not None}
        more = cost_violations(summary.costs, self.options, moved)
        verification = judgement.summary(more)
        notes = summary.notes
        if verification.randomised:
            notes += (f"verified on a randomised copy too: {'; '.join(judgement.reasons)}",)
        summary = replace(summary, verification=verification, notes=notes)
        failures = (*judgement.failures, *more)
        if failures:
            failed = replace(summary, output=None, status="failed")
            self.outputs.write_report(to_json(failed))
            part = f" (rules from elsewhere took part: {', '.join(map(repr, strangers))})" if strangers else ""
            raise VerificationFailed(f"verification failed: {failures[0]}{part}", failed, failures)
        return summary

    def _stages(self, transformation: Transformation, trial: Trial) -> Iterator[tuple[str, ModelProto | str]]:
        yield "G", transformation.canonical
        yield "R", transformation.result
        yield from numbered(transformation.stages)
        try:
            yield (
                "S",
                specify(transformation.canonical, spec_options(transformation, self.options), dims=trial.dims).model,
            )
        except CannotSpecify as error:
            yield "S.error", str(error)


def transform_source(
    model: ModelProto, options: Options, trial: Trial, scratch: Scratch | None = None
) -> Transformation:
    """Transform a model that a trial run showed to run, with the sizes that it ran with.

    Args:
        model: the model.
        options: what becomes of it.
        trial: the trial run.
        scratch: where large tensors are stored; None to hold them in memory.

    Raises:
        BadInput: its inputs cannot be fed, or it does not run at every batch size though it says so.
        Refusal: it cannot be rewritten as asked.
    """
    try:
        known = replace(options, dims=tuple(sorted(trial.dims.items())), symbols=trial.symbols)
        return transform(model, known, scratch)
    except CannotFeed as error:
        raise BadInput(f"the model's inputs cannot be fed: {error}") from None
    except RuntimeFailure as error:
        if not trial.limited and not refuses_a_batch(model, CASES, trial.dims):
            raise
        raise BadInput(
            "the batch axis is dynamic, but the model does not run with every batch: export it again, with a "
            f"fixed batch or one that is dynamic throughout ({error})"
        ) from None


def _see_choices(options: Options, target: str) -> None:
    """Raise `BadInput` where an option is none of its words."""
    given = {**{name: getattr(options, name) for name in CHOICES}, "target": target}
    given |= {name: getattr(options, name) for name in ("optimize", "cpu", "classifier", "emit")}
    for name, words in {**CHOICES, **OUTPUT_CHOICES}.items():
        if given[name] not in words:
            raise BadInput(f"{name} is {given[name]!r}; it has to be {' or '.join(map(repr, words))}")
    if options.lowers and options.emit == "qonnx":
        raise BadInput(
            f"{options.lowering_option} is for onnxruntime, which QONNX is not written for: leave it or emit out"
        )


def default_warnings(source: ModelProto, result: ModelProto) -> tuple[str, ...]:
    """What became of graph inputs with a default: they count as constants, and the user has to know."""
    if source.ir_version < INITIALIZERS_ARE_NO_INPUTS:
        return ()
    stored = {tensor.name for tensor in source.graph.initializer}
    kept = {value.name for value in result.graph.input}
    names = [value.name for value in source.graph.input if value.name in stored]
    return tuple(
        f"{_inputs(some)} a default value, which was taken for a constant: {fate}"
        for some, fate in (
            ([name for name in names if name in kept], "what is fed there has the same effect as before"),
            ([name for name in names if name not in kept], "the result has no such input"),
        )
        if some
    )


def _inputs(names: Sequence[str]) -> str:
    """Some graph inputs, as the beginning of a sentence."""
    if len(names) == 1:
        return f"graph input {names[0]!r} has"
    return f"{len(names)} graph inputs ({names[0]!r}, ...) have"


@contextmanager
def _few_collections() -> Iterator[None]:
    """Let the cyclic collector look seldom, and leave old objects alone: it would visit a graph again and again."""
    old = gc.get_threshold()
    gc.set_threshold(old[0] and max(old[0], _COLLECT_AFTER), 100, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*old)


def _replicated_already(source: Source, how: str) -> NothingToDo:
    """What is said of a Rep network that would be replicated again."""
    called = f"{_called(source.name)} is already a Rep network: {how}."
    return NothingToDo(f"{called} Compile the network that it was made from; --beta 1 lowers this one as it is.")


def _called(name: str) -> str:
    return "standard input" if name == STREAM else name
