"""The smallest part of a model that still fails in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from onnx import ModelProto, TypeProto

from reptran_compiler.reproducer.parts import observed, part_of
from reptran_compiler.runtime import CannotFeed, RuntimeFailure

#: How many parts are tried at most.
_ATTEMPTS = 400


@dataclass(frozen=True)
class Shrunk:
    """A part of a model.

    Attributes:
        model: the part; the model itself where no part fails as it does.
        nodes, of: how many operators it and the model have.
        attempts: how many parts were tried.
        ended: whether no smaller part fails, as far as was tried; false where the time was up before.
    """

    model: ModelProto
    nodes: int
    of: int
    attempts: int
    ended: bool


def shrink(
    model: ModelProto,
    fails: Callable[[ModelProto], bool],
    *,
    near: Collection[str] = (),
    dims: Mapping[str, int] | None = None,
    seconds: float = 60.0,
) -> Shrunk:
    """Leave out as much of a model as can be left out.

    Parts are tried in a fixed order: surroundings of the operators that are named, larger and larger ones; where
    none of them fails, beginnings of the model; then runs of operators go, shorter and shorter ones, each handed
    through or fed.

    Args:
        model: a model that fails.
        fails: whether a part still fails in the same way. It is given models that onnx may refuse.
        near: names of operators or tensors that the fault may be at.
        dims: sizes of dynamic axes other than the batch.
        seconds: no part is tried later than that.
    """
    count = len(model.graph.node)
    try:
        types = observed(model, dict(dims or {}))
    except (CannotFeed, RuntimeFailure):
        return Shrunk(model, count, count, 0, True)
    search = _Search(model, types, fails, time.monotonic() + seconds)
    if not search.surround(near):
        search.shorten()
    search.thin_out()
    return Shrunk(search.best, len(search.best.graph.node), count, search.attempts, not search.over)


@dataclass
class _Search:
    """The state of a search: `best` fails, and is made of the operators `kept`, past those of `bypassed`."""

    model: ModelProto
    types: Mapping[str, TypeProto]
    fails: Callable[[ModelProto], bool]
    end: float
    attempts: int = 0
    kept: list[int] = field(default_factory=list)
    bypassed: frozenset[int] = frozenset()
    best: ModelProto = field(init=False)

    def __post_init__(self) -> None:
        self.best = self.model
        self.kept = list(range(len(self.model.graph.node)))

    @property
    def over(self) -> bool:
        """Whether time or attempts are used up."""
        return self.attempts >= _ATTEMPTS or time.monotonic() > self.end

    def surround(self, near: Collection[str]) -> bool:
        """Keep the surroundings of operators: the smallest that fail. Returns whether some do."""
        nodes = self.model.graph.node
        makers = {name: place for place, node in enumerate(nodes) for name in node.output if name}
        above = [{makers[name] for name in node.input if name in makers} for node in nodes]
        below: list[set[int]] = [set() for _ in nodes]
        for place, places in enumerate(above):
            for maker in places:
                below[maker].add(place)
        guilty = {place for place, node in enumerate(nodes) if {node.name, *node.output} & set(near)}
        upward, around = guilty, guilty
        for step in range(len(nodes) if guilty else 0):
            further = upward | _next(upward, above), around | _next(around, above) | _next(around, below)
            last = further == (upward, around)
            for some in (upward, around) if last or _is_power(step) else ():
                if len(some) < len(nodes) and self._try(sorted(some), frozenset()):
                    return True
            if last:
                return False
            upward, around = further
        return False

    def shorten(self) -> None:
        """Drop what stands last: the shortest beginning that fails, by halving."""
        low, high = 0, len(self.kept)
        while high - low > 1 and not self.over:
            middle = (low + high) // 2
            if self._try(self.kept[:middle], self.bypassed):
                high = middle
            else:
                low = middle

    def thin_out(self) -> None:
        """Drop runs of operators, until none can be dropped."""
        size = max(1, len(self.kept) // 2)
        while not self.over:
            dropped = False
            start = 0
            while start < len(self.kept) and not self.over:
                run = self.kept[start : start + size]
                rest = self.kept[:start] + self.kept[start + size :]
                if self._try(rest, self.bypassed | set(run)) or self._try(rest, self.bypassed):
                    dropped = True
                else:
                    start += size
            if size > 1:
                size //= 2
            elif not dropped:
                return

    def _try(self, kept: list[int], bypassed: frozenset[int]) -> bool:
        """Whether a part fails; if so it is the best from now on."""
        part = part_of(self.model, self.types, frozenset(kept), bypassed)
        if part is None or self.over:
            return False
        self.attempts += 1
        if not self.fails(part):
            return False
        self.kept, self.bypassed, self.best = kept, bypassed, part
        return True


def _next(places: Collection[int], neighbours: Sequence[set[int]]) -> set[int]:
    return {each for place in places for each in neighbours[place]}


def _is_power(step: int) -> bool:
    """Whether a number is 0, 1, 2, 4, 8, and so on."""
    return step & (step - 1) == 0
