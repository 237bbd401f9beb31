"""Before == after for lowering (THEORY section 6), which changes how a network is computed and never what.

Both graphs are cut behind every binarisation, and behind every layer that adds up signs. What is cut is fed the same
values, so that a sum of signs has to be equal to the bit, and all other tensors of one name up to rounding. It may
binarise in the layout that a Transpose behind the binarisation makes: the signs, of the same name, are turned then. It
may binarise one copy of what is repeated in front of a binarisation: the copies of the signs are the same then. And
it may copy sums as it makes them: then what is behind them is compared. Where both graphs choose, compare or round with
the same operators, what those read is compared: rounding may turn a choice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from reptran_compiler.runtime import (
    Level,
    Magnitude,
    RuntimeFailure,
    Session,
    compare,
    generator,
    is_float,
    probe,
    random_feeds,
    tensor_facts,
    tolerance,
)
from reptran_compiler.verification.bends import deadening, find_bends
from reptran_compiler.verification.cutpoints import OBSERVED, CutKind, CutPoint, data_tensors, find_cuts
from reptran_compiler.verification.cutting import cut_model, cut_names, prune
from reptran_compiler.verification.drawing import draw
from reptran_compiler.verification.exact import integral, signs_moved
from reptran_compiler.verification.interface import interface_failures
from reptran_compiler.verification.magnitudes import magnitudes
from reptran_compiler.verification.protograph import MalformedGraph, ProtoGraph
from reptran_compiler.verification.repetition import Repetition, repetitions
from reptran_compiler.verification.report import Coverage, Distance, EquivalenceReport, Failure, Worst
from reptran_compiler.verification.sizes import judged_batches

Array = NDArray[Any]

_LAYERS = ("Conv", "Gemm", "MatMul")
#: At how many numbers each channel is binarised, about, how many more are fed for that at most, and how far their
#: seeds are apart.
_DECISIONS, _MOST_FED, _APART = 1024, 1 << 21, 1000
#: Operators that make integers of integers, and of different ones different ones, or 0.
_INTEGRAL = ("Concat", "Identity", "Relu", "Tile", "Transpose")


def check_lowered(
    before: ModelProto,
    after: ModelProto,
    *,
    seed: int = 0,
    batches: Sequence[int] | None = None,
    dims: Mapping[str, int] | None = None,
    threads: int = 1,
    level: Level = Level.DISABLE,
) -> EquivalenceReport:
    """Compare a network and its lowered form on all tensors that they share by name.

    Args:
        before: the network; its binarisations are canonical, its binary weights are stored.
        after: its lowered form.
        seed: of everything random.
        batches: the batch sizes to run; those of `judged_batches` when absent.
        dims: sizes of dynamic axes other than the batch.
        threads: threads of onnxruntime.
        level: how far onnxruntime may rewrite what is compared.

    Returns:
        The report; required pairs are the graph outputs, every sum of signs, and one side of every binarisation.

    Raises:
        RuntimeFailure: `before` does not run.
        CannotFeed: one of its inputs cannot be fed.
        MalformedGraph: `before` is no graph.
    """
    start = time.perf_counter()
    sizes = judged_batches(before, batches, dims)
    found = _Findings(interface_failures(before, after))
    run = None
    try:
        new = ProtoGraph(after)
        for batch in sizes if not found.failures else ():
            run = _Run(ProtoGraph(before), new, random_feeds(before, batch=batch, dims=dims, seed=seed + batch), found)
            run.compare(seed + batch, threads, level, f"batch {batch}")
    except MalformedGraph as error:
        found.failures.append(Failure("", "", "well-formed", str(error)))
    except _AfterDoesNotRun as error:
        found.failures.append(Failure("", "", "runs", f"the lowered graph does not run: {error}"))
    required = frozenset(run.required) if run else frozenset[str]()
    missing = tuple(sorted(required - found.compared))
    known = {failure.tensor for failure in found.failures}
    found.failures += [Failure(n, "", "coverage", "was not compared") for n in missing if n not in known]
    others = len(found.compared - required)
    return EquivalenceReport(
        tuple(found.failures),
        found.worst,
        found.distances,
        Coverage(len(required) - len(missing), len(required), others, missing),
        len(run.cuts) if run else 0,
        0,
        sizes,
        time.perf_counter() - start,
    )


@dataclass
class _Findings:
    failures: list[Failure]
    compared: set[str] = field(default_factory=set)
    worst: Worst = Worst()
    distances: dict[str, Distance] = field(default_factory=dict)

    def fail(self, tensor: str, rule: str, detail: str) -> None:
        if all(known.tensor != tensor for known in self.failures):
            self.failures.append(Failure(tensor, "", rule, detail))


class _AfterDoesNotRun(Exception):
    """onnxruntime refuses the lowered graph."""


class _Run:
    """One batch size."""

    def __init__(self, old: ProtoGraph, new: ProtoGraph, feeds: Mapping[str, Array], found: _Findings) -> None:
        self.old, self.new, self.feeds, self.found = old, new, feeds, found
        self.facts = tensor_facts(old.model, feeds)
        try:
            self.new_facts = tensor_facts(new.model, feeds)
        except RuntimeFailure as error:
            raise _AfterDoesNotRun(str(error)) from None
        data = data_tensors(old)
        self.cuts = find_cuts(old, self.facts, data)
        inside = {name for cut in self.cuts for name in cut.inside if name != cut.output}
        self.turned = self._turned()
        self.once = self._once()
        self.shared = [n for node in old.nodes for n in node.outputs if n in data - inside and self._has(n)]
        self.sums = _seen(old, _sums(old, self.cuts), frozenset(self.shared))
        self.fed: dict[str, CutKind | None] = dict.fromkeys(name for name in self.shared if name in self.sums)
        self.fronts: dict[str, str] = {}
        for cut in self.cuts:
            if not self._has(cut.output):
                self.found.fail(cut.output, "cut", "the lowered graph makes no tensor of this name, shape and type")
                continue
            self.fed[cut.output] = cut.kind
            if cut.binarises:
                self.fronts[cut.output] = cut.inputs[0]
        dead = deadening(find_bends(old, self.facts, data, frozenset(inside)))
        self.dead: dict[str, CutKind | None] = {
            name: CutKind.BEND for name in dead if name in self.shared and name not in self.fed
        }
        kept = [cut for cut in self.cuts if not cut.binarises and self._keeps(cut)]
        self.kept = frozenset(cut.output for cut in kept)
        self.required = {
            *old.outputs,
            *self.sums,
            *self.fed,
            *(n for cut in kept for n in cut.inputs if n in old.maker),
        }

    def _has(self, name: str) -> bool:
        """Whether both graphs make a tensor of a name, a shape (turned, where it is) and a type."""
        if name not in self.old.maker or name not in self.new.maker or name not in self.new_facts:
            return False
        here, there = self.facts[name], self.new_facts[name]
        shape = self._to_new(name, np.broadcast_to(np.zeros((), here.dtype), here.shape)).shape
        return (shape, here.dtype) == (there.shape, there.dtype)

    def _keeps(self, cut: CutPoint) -> bool:
        """Whether the lowered graph has the operators of a cut as they were, behind tensors that are compared."""
        for node in cut.nodes:
            there = self.new.maker.get(node.outputs[0])
            if there is None or (there.op, there.inputs) != (node.op, node.inputs):
                return False
            if list(there.proto.attribute) != list(node.proto.attribute) or node.captured:
                return False
            stored = [name for name in node.reads if name in self.old.constants]
            if not all(name in self.new.constants for name in stored):
                return False
            if not all(np.array_equal(self.old.value(name), self.new.value(name)) for name in stored):
                return False
        return all(name in self.shared or name in self.old.inputs for name in cut.inputs)

    def _turned(self) -> dict[str, tuple[int, ...]]:
        """The signs that the lowered graph makes in another layout: the axes of theirs that its own consist of.

        It does so where in the old graph a Transpose is behind them, padding between, that it has no longer.
        """
        found = {}
        for cut in self.cuts:
            there, here = _layout(self.old, cut.output), _layout(self.new, cut.output)
            if cut.binarises and there is not None and here is None and there[0] == 0:
                found[cut.output] = there
        return found

    def _once(self) -> dict[str, Repetition]:
        """The signs of which the lowered graph makes one copy; in the old one, what they are made of is repeated."""
        found = {}
        for cut in self.cuts:
            if not cut.binarises or cut.output not in self.new_facts:
                continue
            there, here = self.new_facts[cut.output].shape, self.facts[cut.output].shape
            for repeated in repetitions(self.old, self.facts, cut.inputs[0]):
                if math.prod(there) * repeated.copies == math.prod(here):
                    found[cut.output] = repeated
        return found

    def _to_new(self, name: str, values: Array) -> Array:
        """What the lowered graph has, or is to be fed, in place of a tensor."""
        if name in self.once:
            values = self.once[name].first(values)
        return values.transpose(self.turned[name]) if name in self.turned else values

    def _from_new(self, name: str, values: Array) -> Array:
        """What the lowered graph makes, as the old graph has it."""
        if name in self.turned:
            values = values.transpose(np.argsort(self.turned[name]))
        return self.once[name].whole(values) if name in self.once else values

    def compare(self, seed: int, threads: int, level: Level, where: str) -> None:
        """Cut both, feed both the same, compare."""
        names = [name for name in self.shared if level is Level.DISABLE or name in self.required]
        values = self._values(seed, self.fed)
        old_names, new_names = cut_names(self.old, self.fed), cut_names(self.new, self.fed)
        fronts = {front for front in self.fronts.values() if front not in values}  # what is fed is read as it is fed
        wanted = [old_names.get(name, name) for name in names]
        asked = list(dict.fromkeys([*wanted, *sorted(fronts)]))
        model = prune(cut_model(self.old, old_names, self.facts), asked)
        session = Session(model, threads=threads, level=level)
        expected = session.run(values, asked)
        made = [new_names.get(name, name) for name in names]
        lowered = prune(cut_model(self.new, new_names, self.new_facts), made)
        try:
            fed = {name: self._to_new(name, array) for name, array in values.items()}
            other = Session(lowered, threads=threads, level=level)
            actual = other.run(fed, made)
        except RuntimeFailure as error:
            raise _AfterDoesNotRun(str(error)) from None
        sizes = magnitudes(lowered, fed, made, threads=threads)
        before: dict[str, Magnitude] | None = None
        again: dict[str, Array] = {}
        for name, old_name, new_name in zip(names, wanted, made, strict=True):
            if name in self.kept:
                self.found.compared.add(name)
                continue
            want, got = expected[old_name], self._from_new(name, actual[new_name])
            if name in self.fronts:
                front = self.fronts[name]
                read = values.get(front, expected.get(front))
                if read is not None and read.shape == got.shape == want.shape and (got != want)[read == 0].any():
                    again = again or {**(moved := _moved(values, seed)), **session.run(moved, asked)}
                    self._at_zero(name, got, want, (read == 0) & (again[front] == 0))
                got = self._decided(name, got, want, read)
            exact = name in self.sums and integral(want)
            size = None if name in self.turned or name in self.once else sizes.get(new_name)
            result = compare(got, want, exact=exact, magnitude=size)
            if not result.ok and size is not None:  # both graphs round, each by what it adds up
                before = magnitudes(model, values, wanted, threads=threads) if before is None else before
                more = before.get(old_name)
                result = result if more is None else compare(got, want, exact=exact, magnitude=more)
            self._judge(name, result, where)
        binarised = [name for name in self.fronts if name in self.shared]
        turns = self._draws(binarised)
        self.compare_signs(binarised, self.fed, range(1, turns + 1), seed, session, other, where)
        if self.dead:
            self._compare_behind_bends(binarised, range(turns + 1, 2 * turns + 2), seed, threads, level, where)

    def _compare_behind_bends(
        self, binarised: Sequence[str], turns: Iterable[int], seed: int, threads: int, level: Level, where: str
    ) -> None:
        """As `compare_signs`, with values behind what makes channels 0: no sign of such a channel would show."""
        fed = {**self.fed, **self.dead}
        old_names, new_names = cut_names(self.old, fed), cut_names(self.new, fed)
        graphs = cut_model(self.old, old_names, self.facts), cut_model(self.new, new_names, self.new_facts)
        alive = self._behind(binarised, fed, *map(ProtoGraph, graphs))
        if not alive:
            return
        fronts = (self.fronts[name] for name in alive)
        known = {*fed, *self.old.inputs}
        asked = [*(old_names[name] for name in alive), *(front for front in fronts if front not in known)]
        old = Session(prune(graphs[0], list(dict.fromkeys(asked))), threads=threads, level=level)
        new = Session(prune(graphs[1], [new_names[name] for name in alive]), threads=threads, level=level)
        self.compare_signs(alive, fed, turns, seed, old, new, where)

    def _behind(
        self, names: Sequence[str], fed: Mapping[str, CutKind | None], old: ProtoGraph, new: ProtoGraph
    ) -> list[str]:
        """The binarisations that depend on what is fed behind bends, and in both cut graphs on the same of what is fed:
        the lowered one may read what is in front of a bend."""
        old_names, new_names = cut_names(self.old, fed), cut_names(self.new, fed)
        found = []
        for name in names:
            here, there = old.above(old_names[name]) & fed.keys(), new.above(new_names[name]) & fed.keys()
            if here == there and not self.dead.keys().isdisjoint(here):
                found.append(name)
        return found

    def compare_signs(
        self,
        names: Sequence[str],
        fed: Mapping[str, CutKind | None],
        turns: Iterable[int],
        seed: int,
        old: Session,
        new: Session,
        where: str,
    ) -> None:
        """Feed both anew as often as it takes for each channel to be binarised at many numbers: a threshold that moved
        a little is seen by those in between alone.

        Args:
            names: the binarisations.
            fed: what is fed.
            turns: numbers of what is fed.
            seed: of what is fed.
            old, new: sessions that give what is in front of each binarisation and what it makes, and the latter.
            where: said of a failure.
        """
        old_names, new_names = cut_names(self.old, fed), cut_names(self.new, fed)
        known = {*fed, *self.old.inputs}
        fronts = {name: self.fronts[name] for name in names}
        asked = list(dict.fromkeys([*(old_names[n] for n in names), *(f for f in fronts.values() if f not in known)]))
        for turn in turns:
            values = self._values(seed + _APART * turn, fed)
            expected = old.run(values, asked)
            given = {name: self._to_new(name, array) for name, array in values.items()}
            actual = new.run(given, [new_names[name] for name in names])
            for name in names:
                want, got = expected[old_names[name]], self._from_new(name, actual[new_names[name]])
                got = self._decided(name, got, want, values.get(fronts[name], expected.get(fronts[name])))
                self._judge(name, compare(got, want), where)

    def _draws(self, names: Sequence[str]) -> int:
        """How often more is fed: less where channels have many elements, and where a run takes long."""
        facts = [self.facts[name] for name in names]
        counts = [math.prod(fact.shape) // max(1, fact.shape[1] if fact.rank > 1 else 1) for fact in facts]
        wanted = -(-_DECISIONS // max(1, min(counts, default=_DECISIONS))) - 1
        return min(wanted, _MOST_FED // sum(math.prod(self.facts[name].shape) for name in self.fed)) if wanted else 0

    def _values(self, seed: int, fed: Mapping[str, CutKind | None]) -> dict[str, Array]:
        """What is fed: signs behind binarisations, and whole numbers behind sums of them."""
        ranged = (*OBSERVED, CutKind.BEND)
        observed = [name for name, kind in fed.items() if kind in ranged or name in self.sums]
        seen = probe(self.old.model, self.feeds, values=observed)[1] if observed else {}
        values = dict(self.feeds)
        for name, kind in fed.items():
            random = generator(seed, name)
            kind = CutKind.ROUND if name in self.sums else kind
            values[name] = draw(self.facts[name], kind, random, seen.get(name))
            if name in self.once:
                values[name] = self.once[name].whole(self.once[name].first(values[name]))
        return values

    def _decided(self, name: str, got: Array, want: Array, front: Array | None) -> Array:
        """Signs, those of numbers that rounding may turn taken for what they should be: but no other values."""
        if front is None or not front.shape == got.shape == want.shape:
            return got
        if not np.isin(got, (-1.0, 0.0, 1.0)).all():
            self.found.fail(name, "binarisation", "what should be signs holds other numbers")
        sizes = np.abs(front.astype(np.float64))
        close = sizes <= tolerance(front.dtype) * sizes.max(initial=0.0)
        decided: Array = np.where(close, want, got)
        return decided

    def _at_zero(self, name: str, got: Array, want: Array, zero: Array) -> None:
        """Fail where signs differ at zeros that no rounding comes in at."""
        if (got != want)[zero].any():
            at = tuple(int(i) for i in np.argwhere(zero & (got != want))[0])
            self.found.fail(name, "binarisation", f"0 becomes {got[at]:g} instead of {want[at]:g}, first at {list(at)}")

    def _judge(self, name: str, result: Any, where: str) -> None:
        self.found.compared.add(name)
        if not result.ok:
            what = "a binary sum is not exact: " if name in self.sums else ""
            self.found.fail(name, "value", f"{what}{result.detail}{result.size} ({where})")
            return
        self.found.worst = self.found.worst.or_worse(result.relative, name, tolerance(self.facts[name].dtype))
        known = self.found.distances.get(name, Distance())
        self.found.distances[name] = known.or_worse(result.relative, result.strain)


def _moved(values: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """Other values, 0 where the given ones are: what is 0 of both is so for no chance of rounding."""
    return {
        name: (each * generator(seed, f"{name} moved").uniform(0.5, 1, each.shape)).astype(each.dtype)
        if is_float(each.dtype)
        else each
        for name, each in values.items()
    }


def _layout(graph: ProtoGraph, name: str) -> tuple[int, ...] | None:
    """The axes of a tensor in the order that a Transpose gives them, which alone reads it, or its padding. One in front
    of a quantisation is none of a layout: the layer turns its own codes."""
    readers = graph.readers.get(name, ())
    while len(readers) == 1 and readers[0].op == "Pad":
        readers = graph.readers.get(readers[0].outputs[0], ())
    if len(readers) != 1 or readers[0].op != "Transpose":
        return None
    behind = graph.readers.get(readers[0].outputs[0], ())
    if behind and all(reader.op == "QuantizeLinear" for reader in behind):
        return None
    axes = readers[0].attribute("perm")
    return None if axes is None else tuple(int(axis) for axis in axes)


def _seen(graph: ProtoGraph, sums: frozenset[str], shared: frozenset[str]) -> frozenset[str]:
    """Sums of signs, and in place of those that the lowered graph does not make, what all of their readers make of
    them, as long as that is integers, too. Those stay for which there is no such thing: they were not compared."""
    found, missing = sums & shared, sorted(sums - shared)
    while missing:
        name = missing.pop()
        readers = graph.readers.get(name, ())
        if not readers or name in graph.outputs or any(node.op not in _INTEGRAL for node in readers):
            found |= {name}
            continue
        made = {output for node in readers for output in node.outputs}
        found |= made & shared
        missing += sorted(made - shared)
    return found


def _sums(graph: ProtoGraph, cuts: Sequence[CutPoint]) -> frozenset[str]:
    """The outputs of the layers that add up binarised maps times stored integers."""
    signs = signs_moved(graph, cuts)
    found = set()
    for node in graph.nodes:
        if node.op in _LAYERS and node.inputs[0] in signs and node.inputs[1] in graph.constants:
            if len([name for name in node.inputs if name]) == 2 and integral(graph.value(node.inputs[1])):
                found.add(node.outputs[0])
    return frozenset(found)
