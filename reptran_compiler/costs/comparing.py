"""`Comparison`: what a compilation kept, and what grew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .kinds import in_order, title
from .report import CostReport, LayerCost


@dataclass(frozen=True)
class Change:
    """One row of a comparison: ``kind`` is stable, ``title`` for people, ``total`` marks sums of others."""

    section: str
    kind: str
    title: str
    before: int | float
    after: int | float
    total: bool = False

    @property
    def ratio(self) -> float | None:
        """The result over the source; None where there was nothing before."""
        return self.after / self.before if self.before else None

    @property
    def grew(self) -> bool:
        """Whether the result has more than the source."""
        return self.after > self.before


@dataclass(frozen=True)
class LayerChange:
    """A layer before and after; None where the model does not have it."""

    name: str
    before: LayerCost | None
    after: LayerCost | None


@dataclass(frozen=True)
class Comparison:
    """The costs of a source (in canonical form) and of its result, side by side."""

    before: CostReport
    after: CostReport

    @property
    def layers(self) -> tuple[LayerChange, ...]:
        """Layers paired by node name, in the source's order; layers that only the result has come last."""
        before = {layer.name: layer for layer in self.before.layers}
        after = {layer.name: layer for layer in self.after.layers}
        names = dict.fromkeys((*before, *after))
        return tuple(LayerChange(name, before.get(name), after.get(name)) for name in names)

    @property
    def violations(self) -> tuple[str, ...]:
        """What any RepConv of the source did not keep: its weights, its MACs, its being binary."""
        return tuple(text for pair in self.layers for text in _violations(pair))

    @property
    def invariant(self) -> bool:
        """Whether every RepConv has exactly the weights and multiply-accumulates it had."""
        return not self.violations

    @property
    def totals_equal(self) -> bool:
        """Whether all parameters and MACs are equal, kind by kind: what scope ``layer`` promises."""
        return dict(self.before.parameters) == dict(self.after.parameters) and (
            dict(self.before.macs) == dict(self.after.macs) and self.before.bops == self.after.bops
        )

    @property
    def changes(self) -> tuple[Change, ...]:
        """Every kind that either side has, with the totals behind the kinds they sum."""
        return tuple(self._changes())

    @property
    def grew(self) -> tuple[Change, ...]:
        """What grew, kind by kind, totals left out."""
        return tuple(change for change in self.changes if change.grew and not change.total)

    def _changes(self) -> Iterator[Change]:
        before, after = self.before, self.after
        yield from _section("parameters", before.parameters, after.parameters)
        yield Change("parameters", "trainable", "trainable, in all", before.trainable, after.trainable, True)
        yield from _section("macs", before.macs, after.macs)
        yield Change("macs", "total_macs", "MACs, in all", before.total_macs, after.total_macs, True)
        yield Change("macs", "bops", "BOPs (binary MACs)", before.bops, after.bops, True)
        yield Change("macs", "ops", "OPs = real MACs + BOPs / 64", before.ops, after.ops, True)
        yield from _section("elementwise", before.elementwise, after.elementwise)
        yield Change(
            "elementwise",
            "per_element_work",
            "per-element work (BN, PRelu, bias, Sign, average pooling)",
            before.per_element_work,
            after.per_element_work,
            True,
        )
        for kind, words in (
            ("initializer_bytes", "bytes of constants"),
            ("activation_bytes", "bytes of activations, in all"),
            ("peak_activation_bytes", "bytes of activations, at most at once"),
        ):
            yield Change("bytes", kind, words, getattr(before, kind), getattr(after, kind))


def _section(section: str, before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[Change]:
    for kind in in_order(section, (*before, *after)):
        yield Change(section, kind, title(section, kind), before.get(kind, 0), after.get(kind, 0))


def _violations(pair: LayerChange) -> Iterator[str]:
    before, after = pair.before, pair.after
    if before is None or before.role != "repconv":
        return
    if after is None:
        yield f"{pair.name}: the result has no such layer"
        return
    if before.weights != after.weights:
        yield f"{pair.name}: {before.weights:,} weights became {after.weights:,}"
    if before.macs != after.macs:
        yield f"{pair.name}: {before.macs:,} MACs became {after.macs:,}"
    if before.binary != after.binary:
        yield f"{pair.name}: {_word(before)} layer became a {_word(after)} one"


def _word(layer: LayerCost) -> str:
    return "binary" if layer.binary else "real"
