"""What a transformation is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from onnx import ModelProto

from reptran_compiler.model.referred import Scratch, embedded
from reptran_compiler.model.symbolic import Symbols
from reptran_compiler.replication import WeightMove
from reptran_compiler.rewriting import Rule, RuleReport


@dataclass(frozen=True)
class Options:
    """The options of a compilation.

    Attributes:
        beta: the replication factor.
        scope, fc, bn, weights, repeat, sign_zero, optimize, cpu, classifier, emit, strict: as the command line's.
        exclude, include: regular expressions over node names.
        passes: the passes to run; None for all that the other options ask for.
        rules: further rules, or Python files with such.
        dims: sizes for runs of dynamic axes other than the batch.
        check: whether the declared effects of rules are executed.
        trust: whether those of the compiler's own are not, whatever `check` says.
        stages: whether to keep the graph as it is after each pass.
        paranoid: whether rules are called in the test mode, which finds those that do something else than they report.
        rule_seconds: how long each function of a rule may take.
        threads: threads of onnxruntime, where an effect is executed that takes long.
        symbols: what the model's shapes are in terms of its dynamic axes, where that is known already.
    """

    beta: int = 2
    scope: str = "network"
    fc: str = "widen"
    bn: str = "fold"
    weights: str = "latent"
    repeat: str = "tile"
    sign_zero: str = "keep"
    optimize: str = "none"
    cpu: str = "vnni"
    classifier: str = "float"
    emit: str = "onnx"
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    strict: bool = False
    passes: tuple[str, ...] | None = None
    rules: tuple[str | Rule, ...] = ()
    dims: tuple[tuple[str, int], ...] = ()
    check: bool = True
    trust: bool = False
    stages: bool = False
    paranoid: bool = False
    rule_seconds: float = 60.0
    threads: int = 1
    symbols: Symbols | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """What is lowered stores its binary weights as signs, and repeats maps by Concat."""
        if self.optimize != "none":
            object.__setattr__(self, "weights", "binary" if self.weights == "latent" else self.weights)
            object.__setattr__(self, "repeat", "concat" if self.repeat == "tile" else self.repeat)

    @property
    def lowers(self) -> bool:
        """Whether the result is lowered before it is written."""
        return bool(self.lowering_option)

    @property
    def lowering_option(self) -> str:
        """The first option that asks for that, as it is called; "" where none does."""
        asked = {
            "optimize": self.optimize != "none",
            "weights packed": self.weights == "packed",
            "classifier int8": self.classifier == "int8",
        }
        return next((name for name, given in asked.items() if given), "")


class Refusal(Exception):
    """The compiler refuses a model or an option.

    Attributes:
        exit_code: 1 (nothing to do, or a check failed), 2 (bad input) or 4 (a built-in rule is wrong).
        reproducer: models of the region that a rule changed, by file name; empty where no rule is at fault.
        rule: the name of the rule that is at fault; "" where none is.
    """

    def __init__(
        self,
        message: str,
        exit_code: int = 1,
        reproducer: Mapping[str, ModelProto] | None = None,
        rule: str = "",
    ) -> None:
        super().__init__(message)
        self.rule = rule
        self.exit_code = exit_code
        self.reproducer = dict(reproducer or {})


class AlreadyReplicated(Refusal):
    """The model has its RepTran form already (exit code 1)."""


@dataclass(frozen=True)
class LayerPlan:
    """What became of a layer.

    Attributes:
        name: of its node.
        op: its operator type.
        role: "stem", "repconv", "classifier", "depthwise", "boundary" or "narrow".
        binary: whether it convolves binarised maps with signs.
        reason: why it is a boundary, or was left alone.
        source_weight: the file's initializer that its weights are, or are computed from.
        relation: how what its canonical form stores (of a binarised weight, the latent tensor) comes from that:
            "equal", "sign" or "computed".
        factored_scale: whether a magnitude per filter was factored out of its weights.
    """

    name: str
    op: str
    role: str
    binary: bool
    reason: str
    source_weight: str
    factored_scale: bool
    relation: str = "equal"


@dataclass(frozen=True)
class Transformation:
    """A canonical source G and its result R, with everything that is known of how R came about.

    Attributes:
        canonical, result: G and R.
        layers: what became of each layer, in the source's order.
        boundaries: other operators that carry no replication, with the reason.
        excluded, included: the layers that the options name.
        stages: the graph after each pass that changed it, by the pass' name, where the options ask for it.
        per_copy: operator types that further rules carry, and which therefore act on each copy alone.
        moves: how weights were rearranged.
        reports: what each rule did, in their order.
        from_elsewhere: names of the rules that were applied and are not the compiler's own.
        lowered: R as it is deployed; None where it was not lowered.
        integer: names of the layers that compute in integers there.
        scratch: where the large tensors of all these models are, for as long as it is held; None where they are
            embedded.
    """

    canonical: ModelProto
    result: ModelProto
    layers: tuple[LayerPlan, ...]
    boundaries: tuple[tuple[str, str], ...]
    excluded: frozenset[str]
    included: frozenset[str]
    notes: tuple[str, ...]
    stages: tuple[tuple[str, ModelProto], ...]
    moves: tuple[WeightMove, ...]
    reports: tuple[RuleReport, ...] = ()
    per_copy: frozenset[str] = frozenset()
    from_elsewhere: tuple[str, ...] = ()
    lowered: ModelProto | None = None
    integer: frozenset[str] = frozenset()
    scratch: Scratch | None = field(default=None, repr=False, compare=False)

    @property
    def final(self) -> ModelProto:
        """What is written: R, or its lowered form."""
        return self.result if self.lowered is None else self.lowered

    def embedded(self) -> Transformation:
        """The same, its models with all of their data in them."""
        lowered = None if self.lowered is None else embedded(self.lowered)
        return replace(
            self,
            canonical=embedded(self.canonical),
            result=embedded(self.result),
            stages=tuple((name, embedded(model)) for name, model in self.stages),
            lowered=lowered,
        )
