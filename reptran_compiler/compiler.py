"""The compiler as a function: read, transform, verify, count, write, and say what happened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onnx import ModelProto

from reptran_compiler import provenance
from reptran_compiler.accounting import cost_violations, count_costs, layer_rows
from reptran_compiler.errors import BadInput, CompileError, NothingToDo, VerificationFailed
from reptran_compiler.judging import Judgement, judge, spec_options
from reptran_compiler.model.io import (
    STREAM,
    Source,
    check_writable,
    external_file,
    from_proto,
    read_model,
    write_bytes,
    write_model,
)
from reptran_compiler.pipeline import Options, Refusal, Transformation, transform
from reptran_compiler.reporting import Step, Summary, VerificationSummary, silent, to_json
from reptran_compiler.runtime import CannotFeed, RuntimeFailure
from reptran_compiler.trial import Trial, try_source
from reptran_compiler.verification import CannotSpecify, specify
from reptran_compiler.version import __version__

__all__ = [
    "BadInput",
    "CompileError",
    "CompileResult",
    "NothingToDo",
    "Options",
    "Refusal",
    "VerificationFailed",
    "compile_model",
]

PathLike = str | os.PathLike[str]


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


def compile_model(
    model: ModelProto | PathLike,
    beta: int = 2,
    *,
    output: PathLike | None = None,
    scope: str = "network",
    fc: str = "widen",
    bn: str = "fold",
    weights: str = "latent",
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    strict: bool = False,
    passes: Sequence[str] | None = None,
    rules: Sequence[str] = (),
    verify: bool = True,
    dry_run: bool = False,
    external_data: bool = False,
    dump_dir: PathLike | None = None,
    map_file: PathLike | None = None,
    report_file: PathLike | None = None,
    dims: Mapping[str, int] | None = None,
    batches: Sequence[int] | None = None,
    threads: int = 1,
    progress: Step = silent,
) -> CompileResult:
    """Bring a binary network into its RepTran form.

    Args:
        model: a model, or the file that it is in ("-" for standard input). It is not changed.
        beta: the replication factor, at least 1; 1 gives the source back.
        output: the file to write the result to ("-" for standard output); None to write none.
        scope: "network", or "layer" for drop-in layers between maps of the source's width.
        fc: "widen" the classifier, or "fold" the copies in front of it.
        bn: "fold" BatchNormalization into scale and bias, or "keep" its nodes, wide.
        weights: "latent" keeps real-valued weights with their Sign in the graph, "binary" stores +-1.
        exclude: regular expressions; layers whose node names match stay as they are.
        include: regular expressions; layers whose node names match are rewritten though their input is
            narrow.
        strict: whether a boundary is an error.
        passes: the passes to run, in this order; None for the built-in order.
        rules: Python files with further rules.
        verify: whether to verify. Results that were not say so in their metadata.
        dry_run: whether to do everything but writing `output`.
        external_data: whether to write the weights to a file of their own, `OUTPUT.data`.
        dump_dir: a folder for the canonical source, the specification and the graph after each pass.
        map_file: a JSON file that says where each weight went.
        report_file: a JSON file for the summary. It is written where verification fails, too.
        dims: sizes for runs of dynamic axes other than the batch, by the axis' name, or as "INPUT:AXIS".
        batches: batch sizes to verify with; 2 and 3 when absent.
        threads: threads of onnxruntime.
        progress: told what is being done.

    Returns:
        The result. Where `output` is given it has been written.

    Raises:
        BadInput: the options or the files cannot be used, or the model does not run (exit code 2).
        Refusal: the model cannot be rewritten as asked (its `exit_code` says which).
        NothingToDo: the model is a result of this compiler already (exit code 1).
        VerificationFailed: the result is wrong; nothing was written (exit code 3).
    """
    if isinstance(beta, bool) or not isinstance(beta, int) or beta < 1:
        raise BadInput(f"beta is {beta!r}; it has to be an integer of at least 1")
    options = Options(
        beta=beta,
        scope=scope,
        fc=fc,
        bn=bn,
        weights=weights,
        exclude=tuple(exclude),
        include=tuple(include),
        strict=strict,
        passes=None if passes is None else tuple(passes),
        rules=tuple(rules),
    )
    target = None if output is None or dry_run else os.fspath(output)
    for path in (target, map_file, report_file):
        if path is not None:
            check_writable(path)
    progress("reading", 0, None)
    source = from_proto(model) if isinstance(model, ModelProto) else read_model(model)
    written = [path for path in (target, map_file, report_file) if path is not None]
    check_apart(source, written, external_data)
    return _Compilation(
        source=source,
        options=options,
        output=target,
        dry_run=dry_run,
        external_data=external_data,
        dump_dir=None if dump_dir is None else Path(dump_dir),
        map_file=map_file,
        report_file=report_file,
        dims=dims,
        batches=batches,
        threads=threads,
        verify=verify,
        step=progress,
    ).run()


def check_apart(source: Source, outputs: Sequence[PathLike], external_data: bool = False) -> None:
    """See that no file that is written is one that was read.

    Raises:
        BadInput: one is.
    """
    for path in outputs:
        if os.fspath(path) == STREAM:
            continue
        places = [Path(path)]
        # Weights too large to embed go beside the file, asked for or not.
        if external_data or len(source.files) > 1:
            places.append(external_file(Path(path).resolve()))
        for place in places:
            for read in source.files:
                if place.resolve() == read or (place.exists() and read.exists() and place.samefile(read)):
                    raise BadInput(f"{place} is read and cannot be written as well: choose another output")


@dataclass(frozen=True)
class _Compilation:
    """One compilation of a source that was read."""

    source: Source
    options: Options
    output: str | None
    dry_run: bool
    external_data: bool
    dump_dir: Path | None
    map_file: PathLike | None
    report_file: PathLike | None
    dims: Mapping[str, int] | None
    batches: Sequence[int] | None
    threads: int
    verify: bool
    step: Step

    def run(self) -> CompileResult:
        source, options = self.source.model, self.options
        recorded = provenance.recorded_beta(source)
        if options.beta > 1 and recorded is not None:
            raise NothingToDo(
                f"{_called(self.source.name)} is already a Rep network: it was compiled with beta {recorded}. "
                "Compile the model that it was made from."
            )
        self.step("running the source", 0, None)
        trial = try_source(source, dims=self.dims, batches=self.batches, threads=self.threads)
        if options.beta == 1:
            return self._unchanged(trial)
        self.step("rewriting", 0, None)
        transformation = self._transformed(source, trial)
        result = transformation.result
        provenance.record(result, transformation, options, self.source.digest, verified=self.verify)
        self._dump(transformation, trial)
        summary = self._summary(transformation, trial)
        judgement = None
        if self.verify:
            judgement = judge(
                source,
                transformation,
                options,
                batches=trial.batches,
                dims=trial.dims,
                threads=self.threads,
                step=self.step,
                retransform=lambda copy, _: self._transformed(copy, trial),
            )
            summary = self._verified(summary, judgement)
        self.step("writing", 0, None)
        self._write_map(transformation)
        if self.output is not None:
            write_model(result, self.output, external=self.external_data)
        self._write_report(summary)
        return CompileResult(result, summary, transformation, judgement)

    def _transformed(self, model: ModelProto, trial: Trial) -> Transformation:
        try:
            return transform(model, replace(self.options, dims=tuple(sorted((trial.dims or {}).items()))))
        except CannotFeed as error:
            raise BadInput(f"the model's inputs cannot be fed: {error}") from None
        except RuntimeFailure as error:
            if not trial.limited:
                raise
            raise BadInput(
                "the batch axis is dynamic, but the model does not run with every batch: export it again, with a "
                f"fixed batch or one that is dynamic throughout ({error})"
            ) from None

    def _unchanged(self, trial: Trial) -> CompileResult:
        if self.output is not None:
            if self.source.payload is not None and not self.external_data:
                write_bytes(self.source.payload, self.output)
            else:
                write_model(self.source.model, self.output, external=True)
        summary = Summary(
            model=self.source.name,
            output=self.output,
            beta=1,
            version=__version__,
            options=provenance.option_values(self.options),
            notes=(
                "beta is 1: there is nothing to replicate, the source is given back unchanged",
                *trial.notes,
            ),
            status="unchanged",
        )
        self._write_report(summary)
        return CompileResult(self.source.model, summary)

    def _summary(self, transformation: Transformation, trial: Trial) -> Summary:
        self.step("counting", 0, None)
        costs, note = count_costs(transformation, trial)
        notes = (*trial.notes, *transformation.notes, *((note,) if note else ()))
        moved = provenance.rearranged_layers(transformation)
        boundaries = dict(transformation.boundaries)
        layers = {plan.name for plan in transformation.layers}
        notes += tuple(f"{name}: {reason}" for name, reason in boundaries.items() if name not in layers)
        return Summary(
            model=self.source.name,
            output=self.output,
            beta=self.options.beta,
            version=__version__,
            options=provenance.option_values(self.options),
            layers=layer_rows(transformation, costs, moved),
            costs=costs,
            verification=VerificationSummary(performed=False),
            notes=notes,
            warnings=() if self.verify else cost_violations(costs, self.options, moved),
            status="dry-run" if self.dry_run else "compiled",
        )

    def _verified(self, summary: Summary, judgement: Judgement) -> Summary:
        """The summary with what the judge found. Raises `VerificationFailed` where that is a failure."""
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
            self._write_report(failed)
            raise VerificationFailed(f"verification failed: {failures[0]}", failed, failures)
        return summary

    def _dump(self, transformation: Transformation, trial: Trial) -> None:
        if self.dump_dir is None:
            return
        try:
            self.dump_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"cannot write to {self.dump_dir}: {error.strerror or error}") from None
        stages = [("G", transformation.canonical), ("R", transformation.result)]
        for number, (name, model) in enumerate(transformation.stages, 1):
            stages.append((f"{number:02}-{_file_name(name)}", model))
        try:
            spec = specify(transformation.canonical, spec_options(transformation, self.options), dims=trial.dims)
            stages.append(("S", spec.model))
        except CannotSpecify as error:
            write_bytes(f"{error}\n".encode(), self.dump_dir / "S.error.txt")
        for name, model in stages:
            write_model(model, self.dump_dir / f"{name}.onnx")

    def _write_map(self, transformation: Transformation) -> None:
        if self.map_file is not None:
            text = provenance.moves_json(transformation, self.options, self.source.digest)
            write_bytes(text.encode() + b"\n", self.map_file)

    def _write_report(self, summary: Summary) -> None:
        if self.report_file is not None:
            write_bytes(to_json(summary).encode() + b"\n", self.report_file)


def _called(name: str) -> str:
    return "standard input" if name == STREAM else name


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text)
