"""One application of a rule: what it read and what it wrote, ready to be run against each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.rewriting.facts import Facts
from reptran_compiler.rewriting.patterns import Match
from reptran_compiler.rewriting.region import Region, extract, special_points
from reptran_compiler.rewriting.rules import Rule
from reptran_compiler.runtime import generator, is_float, smallest_step

Array = NDArray[Any]

#: Units in the last place, of the largest value, that two orders of a few operations may differ by.
ROUNDING_STEPS = 16.0
#: How many terms of a sum are not 0, on average, in the case that is held to so few steps.
_SPARSE_TERMS = 8
_POOL = 1_000_003
#: Terms that sum up to no more than this many times themselves: a number that is closer to overflowing is huge.
_LONG_SUM = 1024.0
#: From which size on scalars of a region are large ones.
_LARGE = 16.0


class Refused(Exception):
    """A rule broke its declaration: what it wrote does not compute what it promised.

    Attributes:
        rule: the rule.
        application: with the regions before and after, for a reproducer; None where there is none.
    """

    def __init__(self, message: str, rule: Rule, application: Application | None = None) -> None:
        super().__init__(message)
        self.rule, self.application = rule, application


class Overflows(Refused):
    """What a rule read overflows for ordinary numbers: nobody can tell whether what it wrote is the same."""


@dataclass
class Case:
    """Arrays for the tensors that a region reads.

    Attributes:
        number: which case it is.
        values: the arrays by the tensor's `id`.
        steps: by how many steps of the type at the largest value two orders of the same arithmetic may differ.
        size: the largest value that they compute with; 0 where it is not above those that they compute.
    """

    number: int
    values: dict[int, Array]
    steps: float = ROUNDING_STEPS
    size: float = 0.0


@dataclass
class Application:
    """A match, and what a rule wrote for it, not yet part of the graph.

    Attributes:
        rule: the rule.
        match: the match.
        graph: the graph.
        facts: shapes, types and tags of its tensors.
        old: the root's outputs.
        new: what shall take their places.
        tags: what the rule says of the new tensors; None where it says nothing.
        made: the nodes that the rule built, and those that its witness builds.
    """

    rule: Rule
    match: Match
    graph: Graph
    facts: Facts
    old: Sequence[Tensor]
    new: Sequence[Tensor]
    tags: Sequence[Any]
    made: set[int] = field(default_factory=set)

    @property
    def place(self) -> str:
        """The rule and the node, for messages."""
        return f"rule {self.rule.name!r} at node {self.match.root.name!r}"

    @cached_property
    def after_region(self) -> Region:
        """What the rule wrote, down to the graph's tensors that it reads."""
        inside = {id(node) for node in self.match.nodes}
        kept = {id(t) for t in self.new if any(t is old for old in self.old)}

        def stop(tensor: Tensor) -> bool:
            if id(tensor) in kept:
                return False
            maker = id(tensor.inputs[0])
            return maker not in self.made and maker not in inside and not self.facts.derived(tensor)

        return extract(self.graph, self.new, stop)

    @cached_property
    def before_region(self) -> Region:
        """What the rule read, down to the same tensors."""
        ends = {id(tensor) for tensor in self.after_region.inputs.values()}
        return extract(self.graph, self.old, lambda tensor: id(tensor) in ends)

    @cached_property
    def witness_region(self) -> Region:
        """What the rule's witness builds."""
        build = self.rule.part("witness")
        assert build is not None, "`rule` asks for it"
        before = self.graph.mark()
        found = build(self.match, self.graph)
        tensors = list(found) if isinstance(found, (list, tuple)) else [found]
        self.made |= {id(node) for node in self.graph.since(before)}
        ends = {id(tensor) for tensor in self.after_region.inputs.values()}
        return extract(self.graph, tensors, lambda tensor: id(tensor) in ends)

    @property
    def what_it_writes(self) -> tuple[Any, ...]:
        """What two applications to one match have in common if they are the same."""
        return self.after_region.key, [id(tensor) for tensor in self.after_region.inputs.values()], repr(self.tags)

    @property
    def repeats(self) -> bool:
        """Whether what the rule wrote is what it read."""
        before, after = self.before_region, self.after_region
        same = [id(tensor) for tensor in before.inputs.values()] == [id(tensor) for tensor in after.inputs.values()]
        return same and before.key == after.key

    def is_new(self, tensor: Tensor) -> bool:
        """Whether the rule built an operator that makes a tensor."""
        return not isinstance(tensor, Constant) and bool(tensor.inputs) and id(tensor.inputs[0]) in self.made

    def cases(self) -> Iterator[Case]:
        """Inputs to run the regions with: random ones, then ones that hold 0, -0, +-1 and the smallest numbers, and
        numbers at and on both sides of the scalars that the regions hold: a bound, a threshold.

        Shapes are those of one run of the source each, at different batch sizes. Long sums round more than a
        forgotten epsilon weighs: in the second case only a few of their terms are not 0.
        """
        points = [point for region in self._regions for point in special_points(region.model)]
        for number in range(len(self.facts.cases)):
            drawn = {key: self._draw(t, number, index, points) for index, (key, t) in enumerate(self._read.items())}
            yield Case(number, drawn, ROUNDING_STEPS + (0.0 if number % 2 else 0.5 * self._terms**0.5))

    def large_case(self) -> Case | None:
        """Inputs that hold numbers between 10 and 10,000, and those around the regions' large scalars; None where no
        input is of a floating type.

        What a region computes with may be larger than what it computes: `size` says how large its inputs are.
        """
        points = [point for region in self._regions for point in special_points(region.model, least=_LARGE)]
        drawn, size = {}, 0.0
        for index, (key, tensor) in enumerate(self._read.items()):
            values = drawn[key] = self._draw(tensor, 0, index, [])
            if is_float(values.dtype) and values.size and self.facts.integers(tensor, 0) is None:
                random = generator(index, "large")
                values *= _from_pool(_factors(), values.shape, index).astype(values.dtype, copy=False)
                places = random.choice(values.size, min(values.size // 2, len(points)), replace=False)
                values.reshape(-1)[places] = np.asarray(points[: places.size]).astype(values.dtype)
                size = max(size, float(max(values.max(), -values.min())))
        return Case(0, drawn, ROUNDING_STEPS + 0.5 * self._terms**0.5, size) if size else None

    @cached_property
    def _regions(self) -> list[Region]:
        regions = [self.after_region, self.before_region]
        return [*regions, self.witness_region] if "witness" in self.rule.effect.needs else regions

    @cached_property
    def _read(self) -> dict[int, Tensor]:
        """The tensors that the regions read, by their `id`."""
        return {id(tensor): tensor for region in self._regions for tensor in region.inputs.values()}

    def before(self, case: Case) -> list[Array]:
        """The root's outputs as they were."""
        return self.before_region.run(case.values, self.facts.threads)

    def after(self, case: Case) -> list[Array]:
        """What shall take their places."""
        return self.after_region.run(case.values, self.facts.threads)

    def witness(self, case: Case) -> list[Array]:
        """What the rule's witness computes."""
        return self.witness_region.run(case.values, self.facts.threads)

    @cached_property
    def _terms(self) -> int:
        """The length of the longest sum of products in what the rule read or wrote."""
        longest = 1
        for node in (*self.match.nodes, *(n for n in self.graph.beside if id(n) in self.made)):
            if node.op_type in ("Conv", "Gemm", "MatMul") and node.inputs:
                shape = self.facts.source(node.inputs[1]).shape
                longest = max(longest, math.prod(shape[1:]) if node.op_type == "Conv" else max(shape, default=1))
        return longest

    def compare(
        self, expected: Sequence[Array], found: Sequence[Array], steps: float = ROUNDING_STEPS, size: float = 0.0
    ) -> None:
        """See that arrays are equal, floats up to some steps of their type at the largest value.

        Args:
            expected, found: the arrays.
            steps: how many steps.
            size: the largest value that was computed with, where it may be above those in `expected`; numbers that
                overflow are not compared then.

        Raises:
            Refused: they are not.
            Overflows: they are not, where the expected ones overflow.
        """
        if len(expected) != len(found):
            raise Refused(f"{self.place}: {len(expected)} tensors became {len(found)}", self.rule, self)
        for want, got in zip(expected, found, strict=True):
            self._compare(want, got, steps, size)

    def _compare(self, want: Array, got: Array, steps: float, size: float) -> None:
        if want.shape != got.shape or want.dtype != got.dtype:
            change = f"{want.dtype}{list(want.shape)} became {got.dtype}{list(got.shape)}"
            raise Refused(f"{self.place} breaks its declaration ({self.rule.effect.kind}): {change}", self.rule, self)
        if _close(want, got, steps):
            return
        if is_float(want.dtype):
            a, b = want.astype(np.float64), got.astype(np.float64)
            finite = np.isfinite(a)
            overflown = ~finite if size else np.zeros_like(finite)
            size = max(size, float(np.abs(a[finite]).max(initial=0.0)))
            same = (a == b) | (np.isnan(a) & np.isnan(b)) | overflown
            near = np.abs(np.where(finite, a, 0) - np.where(finite, b, 0)) <= steps * _step(want, size)
            wrong = ~(same | (finite & near))
        else:
            a, b = want, got
            wrong = want != got
        if wrong.any():
            spot = tuple(int(i) for i in np.argwhere(wrong)[0])
            if is_float(want.dtype) and _overflow(want, got, wrong):
                root = self.match.root
                words = f"{root.op_type} {root.name!r} gives {a[spot]:.7g} for ordinary numbers"
                raise Overflows(f"{words}: what overflows cannot be verified", self.rule, self)
            raise Refused(
                f"{self.place} breaks its declaration ({self.rule.effect.kind}): at {list(spot)} it should give "
                f"{a[spot]:.7g} and gives {b[spot]:.7g}; {int(wrong.sum())} of {wrong.size} values differ",
                self.rule,
                self,
            )

    def _draw(self, tensor: Tensor, number: int, index: int, further: Sequence[float]) -> Array:
        known = self.facts.integers(tensor, number)
        if known is not None:
            return known
        fact = self.facts.of(tensor, number)
        random = generator(1000 * number + index, "effect")
        dtype = np.dtype(fact.dtype)
        if not is_float(dtype):
            drawn: Array = random.integers(0, 2, fact.shape).astype(dtype)
            return self.facts.tied(tensor, drawn)
        values = _normal(fact.shape, 1000 * number + index).astype(dtype)
        if number % 2 and values.size:
            if self._terms > _SPARSE_TERMS:
                values *= random.random(fact.shape, dtype=np.float32) < _SPARSE_TERMS / self._terms
            tiny = np.finfo(np.float16 if dtype == np.float16 else np.float32).tiny
            points = np.asarray([0.0, -0.0, 1.0, -1.0, tiny, -tiny, *dict.fromkeys(further)]).astype(dtype)
            if not self.rule.effect.denormals:
                points = points[(points == 0) | (np.abs(points) >= tiny)]
            places = random.choice(values.size, min(values.size, points.size), replace=False)
            values.reshape(-1)[places] = points[: places.size]
        return values


@cache
def _pool() -> Array:
    """Standard normal numbers, as many as a prime: neighbours along no axis repeat."""
    return generator(0, "effect").standard_normal(_POOL, dtype=np.float32)


@cache
def _factors() -> Array:
    """Numbers of which half are 1, and half between 10 and 10,000, as many as there are in the pool."""
    random = generator(0, "large")
    wide = 10 ** random.uniform(1, 4, _POOL).astype(np.float32)
    return np.where(random.random(_POOL, dtype=np.float32) < 0.5, wide, np.float32(1))


def _normal(shape: tuple[int, ...], seed: int) -> Array:
    """Standard normal numbers, different ones for each seed; those of large arrays recur far apart."""
    return _from_pool(_pool(), shape, seed)


def _from_pool(pool: Array, shape: tuple[int, ...], seed: int) -> Array:
    """Numbers of a pool, from another place on for each seed, over and over."""
    start, count = (seed * 104_729) % _POOL, math.prod(shape)
    drawn: Array = np.empty(count, pool.dtype)
    at = 0
    while at < count:
        some = pool[start : start + count - at]
        drawn[at : at + some.size] = some
        at, start = at + some.size, 0
    return drawn.reshape(shape)


def _step(values: Array, size: float) -> float:
    """The step of an array's floating type at numbers of some size."""
    relative = float(np.finfo(values.dtype).eps) if values.dtype.kind == "f" else 2.0**-8
    return max(relative * size, smallest_step(values.dtype))


def _largest(dtype: Any) -> float:
    """The largest number of a floating type."""
    return float(np.finfo(dtype).max) if np.dtype(dtype).kind == "f" else float(np.finfo(np.float32).max)


def _close(want: Array, got: Array, steps: float) -> bool:
    """Whether arrays without infinities are equal up to rounding; False where a closer look is needed."""
    if np.array_equal(want, got):
        return True
    if want.dtype not in (np.float32, np.float64):
        return False
    with np.errstate(all="ignore"):
        distance, size = np.abs(want - got).max(initial=0), np.abs(want).max(initial=0)
    return bool(np.isfinite(size) and distance <= steps * _step(want, float(size)))


def _overflow(want: Array, got: Array, wrong: Array) -> bool:
    """Whether arrays differ nowhere but where sums in another order overflow."""
    with np.errstate(invalid="ignore"):
        huge = ~(np.abs(want.astype(np.float64)) < _largest(want.dtype) / _LONG_SUM)
    lost = ~np.isfinite(got.astype(np.float64))
    return bool(huge.any() and not (wrong & ~huge & ~lost).any())


def nodes_made(application: Application, graph: Graph) -> list[Node]:
    """The nodes of the new tensors that are not part of the graph yet, makers first."""
    if not graph.beside:
        return []
    found: dict[int, Node] = {}
    stack = [t.inputs[0] for t in application.new if t.inputs]
    while stack:
        node = stack.pop()
        if id(node) in found or id(node) not in application.made:
            continue
        found[id(node)] = node
        stack += [t.inputs[0] for t in node.inputs if t.inputs]
    return [node for node in graph.beside if id(node) in found]
