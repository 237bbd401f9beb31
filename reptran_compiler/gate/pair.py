"""Two files, the checks that are made of them, and what comes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from onnx import ModelProto

from reptran_compiler import provenance
from reptran_compiler.accounting import cost_violations, count_costs
from reptran_compiler.compilation import transform_source
from reptran_compiler.costs import Comparison
from reptran_compiler.errors import BadInput
from reptran_compiler.gate.alignment import Alignment, Diverges, align
from reptran_compiler.gate.asked import Asked
from reptran_compiler.gate.budgets import Budget, amounts
from reptran_compiler.gate.layers import layer_checks
from reptran_compiler.gate.trained import parameter_failures
from reptran_compiler.gate.transplant import renamed, transplanted
from reptran_compiler.judging import Judgement, judge
from reptran_compiler.model.convert import INITIALIZERS_ARE_NO_INPUTS
from reptran_compiler.model.io import Source
from reptran_compiler.pipeline import AlreadyReplicated, Options, Refusal, Transformation
from reptran_compiler.reporting import Check, Step, Verification
from reptran_compiler.sign_zero import plus_at_zero
from reptran_compiler.trial import Trial, try_source
from reptran_compiler.verification import Evidence, MalformedGraph, check_kept, check_well_formed
from reptran_compiler.verification.protograph import ProtoGraph
from reptran_compiler.version import __version__

Mode = Literal["values", "retrained", "layers"]
#: What is tried, besides the options asked for, where a retrained network has another form.
_FORMS = [(bn, weights) for bn in ("fold", "keep") for weights in ("latent", "binary")]
_HINT = "the graph is that of the compilation, only values differ: if the Rep network was retrained, say --retrained"


class Pair:
    """Two files that were read, and what they are verified for."""

    def __init__(
        self,
        original: Source,
        rep: Source,
        asked: Asked,
        mode: Mode,
        dims: Mapping[str, int] | None,
        threads: int,
        seed: int,
        step: Step,
    ) -> None:
        self.original, self.rep, self.mode, self.step = original, rep, mode, step
        self.threads, self.seed = threads, seed
        recorded = provenance.recorded_beta(original.model)
        if recorded is not None:
            raise BadInput(
                f"{original.name} is a Rep network itself, compiled with beta {recorded}: give the original first, "
                "then the Rep network"
            )
        self.options, notes = asked.settle(rep.model, rep.name)
        self.notes = [*notes, *_provenance_notes(original, rep)]
        step("running the original", 0, None)
        self.trial: Trial = try_source(original.model, dims=dims, threads=threads)
        self.notes += self.trial.notes
        if self.options.sign_zero == "plus":
            model, said = plus_at_zero(original.model, self.trial, threads=threads)
            self.original = replace(original, model=model)
            self.notes += said
        step("compiling the original", 0, None)
        self.transformation = self._compiled(self.options)
        self.rows: list[Check] = []
        self.evidence: Evidence | None = None

    def verify(self, budgets: Sequence[Budget]) -> Verification:
        """Make all checks; where one of the file itself fails, the others are skipped."""
        costs = None
        self.step("checking the file", 0, None)
        if self._file():
            aligned = self._aligned()
            judged = self.rep.model if isinstance(aligned, Diverges) else renamed(aligned)
            self.step("counting", 0, None)
            costs, why = count_costs(replace(self.transformation, result=judged), self.trial)
            if costs is None:
                self.rows.append(Check("costs", "costs", (f"{why} (give sizes of dynamic axes with --dim)",)))
            else:
                self._layers(judged, costs)
            if self.mode == "values":
                self._values(judged, aligned)
            else:
                self._structure(aligned)
            if costs is not None:
                self._costs(costs)
            files = (_bytes(self.original), _bytes(self.rep))
            known = amounts(costs, files, (self.original.model, self.rep.model))
            self.rows += [budget.check(known) for budget in budgets]
        else:
            why = "the file itself has failed"
            rest: Sequence[tuple[Literal["law", "costs"], str]] = (("law", _title(self.mode)), ("costs", "costs"))
            self.rows += [Check(kind, name, detail=why, skipped=True) for kind, name in rest]
            self.rows += [Check("budget", budget.text, detail=why, skipped=True) for budget in budgets]
        return Verification(
            original=self.original.name,
            rep=self.rep.name,
            beta=self.options.beta,
            version=__version__,
            mode=self.mode,
            options={key: value for key, value in provenance.option_values(self.options).items() if key != "strict"},
            checks=tuple(self.rows),
            costs=costs,
            notes=tuple(dict.fromkeys(self.notes)),
        )

    def _file(self) -> bool:
        """Check the Rep network as a file: it is valid, it runs, and looks to users as the original does."""
        report = check_well_formed(
            self.rep.model, self.original.model, batches=self.trial.batches, dims=self.trial.dims
        )
        failures = [str(failure) for failure in report.failures]
        known = {value.name for value in self.original.model.graph.input}
        stored = {tensor.name for tensor in self.rep.model.graph.initializer} - known
        failures += [
            f"graph input {value.name!r} has a default value, and the original has no such input"
            for value in self.rep.model.graph.input
            if value.name in stored and self.rep.model.ir_version >= INITIALIZERS_ARE_NO_INPUTS
        ]
        try:
            ProtoGraph(self.rep.model)
        except MalformedGraph as error:
            failures.append(str(error))
        if not failures and self.mode == "values":
            # Tools that a file passed through write their own; what it computes is another check's.
            kept = check_kept(self.rep.model, self.original.model, batches=self.trial.batches, dims=self.trial.dims)
            self.notes += [str(failure) for failure in kept]
        detail = "" if failures else f"inputs and outputs are the original's; {', '.join(report.checks)}"
        self.rows.append(Check("file", "file", tuple(failures), detail))
        return not failures

    def _layers(self, judged: ModelProto, costs: Comparison) -> None:
        wanted, why = count_costs(self.transformation, self.trial)
        if wanted is None:
            raise BadInput(f"{self.original.name}: {why}")
        self.rows += layer_checks(
            self.transformation.layers, self.transformation.result, judged, (wanted.after, costs.after)
        )

    def _values(self, judged: ModelProto, aligned: Alignment | Diverges) -> None:
        """Check the law on the Rep network with the values that it has."""
        judgement = self._judged(judged)
        failures = list(judgement.failures)
        reasons = "; ".join(judgement.reasons)
        if isinstance(aligned, Alignment):
            failures += aligned.different_values()
            if failures:
                failures.append(_HINT)
        elif reasons:
            what = f"the original's parameters prove nothing ({reasons}), so the graph has to be the compilation's"
            failures.append(f"{what}: {aligned}")
        if reasons:
            self.notes.append(f"what the compiler makes of a randomised copy was judged too: {reasons}")
        self._law(judgement, failures)

    def _structure(self, aligned: Alignment | Diverges) -> None:
        """Check a retrained Rep network's graph, and the law with the parameters of the compilation in it."""
        failures = [*parameter_failures(self.rep.model)]
        if self.mode == "layers":
            self.notes.append("the layers were compared one by one; how they are connected was NOT checked")
            self.rows.append(Check("law", _title(self.mode), tuple(failures), "no NaN and no infinity is stored"))
            return
        if isinstance(aligned, Diverges):
            failures.append(f"{aligned} (--layers-only compares the layers alone)")
            self.rows.append(Check("law", "structure", tuple(failures)))
            return
        detail = f"{len(aligned.nodes)} nodes are the compilation's, operator by operator"
        self.rows.append(Check("law", "structure", tuple(failures), "" if failures else detail))
        judgement = self._judged(transplanted(aligned))
        self._law(judgement, judgement.failures)

    def _law(self, judgement: Judgement, failures: Sequence[str]) -> None:
        self.evidence = judgement.evidence
        found = judgement.summary()
        detail = (
            f"{found.pairs_compared:,} of {found.pairs_required:,} required pairs compared, worst error "
            f"{found.worst_error:.2g} of the largest value, batch sizes {', '.join(map(str, found.batches))}"
        )
        self.rows.append(Check("law", _title(self.mode), tuple(failures), "" if failures else detail))

    def _costs(self, costs: Comparison) -> None:
        violations = cost_violations(costs, self.options, {})
        count = sum(layer.role == "repconv" for layer in costs.before.layers)
        detail = "" if violations else f"weights and MACs of all {count} RepConvs are kept, one by one"
        self.rows.append(Check("costs", "costs", violations, detail))

    def _judged(self, result: ModelProto) -> Judgement:
        return judge(
            self.original.model,
            replace(self.transformation, result=result),
            self.options,
            batches=self.trial.batches,
            dims=self.trial.dims,
            other_dims=self.trial.other_dims,
            threads=self.threads,
            seed=self.seed,
            words=False,
            step=self.step,
            retransform=lambda copy, _: transform_source(copy, self.options, self.trial),
        )

    def _aligned(self) -> Alignment | Diverges:
        """The Rep network's graph paired with the compilation's; of a retrained one, in whatever form it has."""
        self.step("comparing the graphs", 0, None)
        rep = ProtoGraph(self.rep.model)
        first = _aligned_with(rep, self.transformation)
        if self.mode == "values" or isinstance(first, Alignment):
            return first
        for bn, weights in _FORMS:
            options = replace(self.options, bn=bn, weights=weights)
            if options == self.options:
                continue
            # The effects of built-in rules are not executed: the law is checked on the result.
            other = self._compiled(replace(options, check=bool(options.rules)))
            found = _aligned_with(rep, other)
            if isinstance(found, Alignment):
                self.notes.append(f"its form is that of --bn {options.bn} --weights {options.weights}")
                self.options, self.transformation = options, other
                return found
        return first

    def _compiled(self, options: Options) -> Transformation:
        name = self.original.name
        try:
            return transform_source(self.original.model, options, self.trial)
        except AlreadyReplicated as error:
            raise BadInput(
                f"{name} is already a Rep network: {error} (the original comes first, then the Rep network)"
            ) from None
        except Refusal as error:
            if error.exit_code == 4:
                raise
            raise BadInput(f"{name} cannot be compiled as asked, to compare with: {error}") from None


def _aligned_with(rep: ProtoGraph, transformation: Transformation) -> Alignment | Diverges:
    try:
        return align(rep, ProtoGraph(transformation.result))
    except Diverges as error:
        return error


def _title(mode: Mode) -> str:
    if mode == "layers":
        return "parameters"
    return "law" if mode == "values" else "law, with the parameters of the compilation"


def _provenance_notes(original: Source, rep: Source) -> list[str]:
    entries = {entry.key.removeprefix(provenance.PREFIX): entry.value for entry in rep.model.metadata_props}
    notes = []
    if entries.get("source_sha256", original.digest) != original.digest:
        notes.append(f"{rep.name} records that it was compiled from another file than {original.name}")
    verified = entries.get("verified", "true")
    if verified != "true":
        how = "verified only quickly" if verified == "quick" else "not verified"
        notes.append(f"{rep.name} records that it was {how} when it was compiled")
    return notes


def _bytes(source: Source) -> int:
    """How many bytes a model's files take."""
    if source.files:
        return sum(path.stat().st_size for path in source.files)
    return len(source.payload) if source.payload is not None else int(source.model.ByteSize())
