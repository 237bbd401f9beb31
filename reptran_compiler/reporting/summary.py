"""The result object that every report is written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reptran_compiler.costs import Comparison, LayerChange, LayerCost

Shape = tuple[int, ...]
#: What an option may hold; reports print it as it is.
Option = str | int | float | bool | None | Sequence[str]
#: How a compilation ended: written, nothing to rewrite, not meant to be written, or refused by a check.
Status = Literal["compiled", "unchanged", "dry-run", "failed"]


@dataclass(frozen=True)
class LayerRow:
    """A layer, and what became of it.

    ``role`` is one of `reptran_compiler.costs.Role`; ``reason`` says why the layer is a boundary, stayed
    narrow or was left alone, and is empty where there is nothing to explain. Shapes are those the layer reads
    and writes, at batch 1, the source's and the result's; None where that side was not counted.
    ``rearranged`` tells whether the result's weights were found to be, element for element, the source's in
    the order that replication asks for (None: not looked at).
    """

    name: str
    op: str
    role: str
    binary: bool
    rewritten: bool
    reason: str = ""
    source_weight_shape: Shape | None = None
    result_weight_shape: Shape | None = None
    source_input_shape: Shape | None = None
    result_input_shape: Shape | None = None
    source_output_shape: Shape | None = None
    result_output_shape: Shape | None = None
    source_weights: int | None = None
    result_weights: int | None = None
    source_macs: int | None = None
    result_macs: int | None = None
    rearranged: bool | None = None

    @classmethod
    def of(cls, change: LayerChange, *, rewritten: bool, reason: str = "", rearranged: bool | None = None) -> LayerRow:
        """The row of a layer that was counted on either side. Raises ValueError where it was on neither."""
        before, after = change.before, change.after
        known: LayerCost | None = before or after
        if known is None:
            raise ValueError(f"layer {change.name!r} was counted neither before nor after")
        return cls(
            name=change.name,
            op=known.op,
            role=known.role,
            binary=known.binary,
            rewritten=rewritten,
            reason=reason,
            source_weight_shape=before.weight_shape if before else None,
            result_weight_shape=after.weight_shape if after else None,
            source_input_shape=before.input_shape if before else None,
            result_input_shape=after.input_shape if after else None,
            source_output_shape=before.output_shape if before else None,
            result_output_shape=after.output_shape if after else None,
            source_weights=before.weights if before else None,
            result_weights=after.weights if after else None,
            source_macs=before.macs if before else None,
            result_macs=after.macs if after else None,
            rearranged=rearranged,
        )


@dataclass(frozen=True)
class ClassifierRounding:
    """What it changes to store classifiers in int8, on the random inputs of the verification.

    ``layers`` are the classifiers; ``output`` is the tensor that moves the most, relative to its largest value, by
    ``largest_change`` at most, which is ``relative_change`` of that value.
    """

    layers: tuple[str, ...]
    output: str
    largest_change: float
    relative_change: float


@dataclass(frozen=True)
class VerificationSummary:
    """What was verified, and how closely.

    ``performed`` is False where the user switched verification off. ``pairs_compared`` of ``pairs_required``
    tensors were compared; ``worst_error`` is the largest difference relative to its tensor's largest value,
    found at ``worst_tensor``; ``tolerance`` what was allowed there. ``batches`` lists the batch sizes.
    ``mode`` is "full", "quick" or "none", and ``left_out`` says what a quick verification did not do.
    ``randomised`` tells that a copy with randomised parameters was judged as well. ``failure`` is the first
    tensor's message, empty on success. ``classifier`` is None but where classifiers are stored in int8.
    """

    performed: bool
    passed: bool = False
    pairs_compared: int = 0
    pairs_required: int = 0
    worst_error: float | None = None
    worst_tensor: str = ""
    tolerance: float | None = None
    batches: tuple[int, ...] = ()
    randomised: bool = False
    failure: str = ""
    seconds: float | None = None
    classifier: ClassifierRounding | None = None
    mode: str = "none"
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """One compilation, as reports need it.

    ``model`` and ``output`` are how the user named the files ("-" for standard streams; ``output`` None where
    nothing was written). ``costs`` is None where they could not be counted; a note then says why.
    """

    model: str
    output: str | None
    beta: int
    version: str
    options: Mapping[str, Option] = field(default_factory=dict)
    layers: tuple[LayerRow, ...] = ()
    costs: Comparison | None = None
    verification: VerificationSummary = VerificationSummary(performed=False)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    status: Status = "compiled"
