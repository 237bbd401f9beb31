"""A campaign: generations of mutants, each bred from the files that showed something new."""

from __future__ import annotations

import gc
import select
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.hostile.mutating import mutate
from benchmarks.hostile.sandbox import Outcome, Running, finish, start

#: How many mutants a generation has; what they showed is bred from in the next ones, whatever the number of jobs.
GENERATION = 200
#: How likely a mutant descends from an original rather than from a mutant that showed something new.
_ORIGINALS = 0.6
_MILLISECONDS = 1000


@dataclass(frozen=True)
class Attempt:
    """One mutant: its number, the original that it descends from, what was done to it, and what came of it."""

    number: int
    original: str
    kinds: tuple[str, ...]
    outcome: Outcome


@dataclass(frozen=True)
class _File:
    original: str
    kinds: tuple[str, ...]
    payload: bytes


def campaign(
    originals: Mapping[str, bytes], count: int, seed: int, jobs: int, keep: Path | None = None
) -> Iterator[Attempt]:
    """Compile mutants, and yield what came of them in the order of their numbers.

    Args:
        originals: files by name.
        count: how many mutants.
        seed: any integer; equal seeds give equal mutants as long as equal files end equally.
        jobs: how many at a time.
        keep: a folder for the files that failed.
    """
    first = [_File(name, (), payload) for name, payload in originals.items()]
    bred: list[_File] = []
    seen: set[tuple[int, str]] = set()
    for start_at in range(0, count, GENERATION):
        mutants = []
        for number in range(start_at, min(count, start_at + GENERATION)):
            random = np.random.default_rng((seed, number))
            family = bred if bred and random.random() > _ORIGINALS else first
            parent = family[int(random.integers(len(family)))]
            made = mutate(parent.payload, random)
            mutants.append(_File(parent.original, (*parent.kinds, *made.kinds), made.payload))
        for place, outcome in enumerate(compiled([each.payload for each in mutants], jobs, keep, start_at)):
            mutant = mutants[place]
            yield Attempt(start_at + place, mutant.original, mutant.kinds, outcome)
            shown = (outcome.code, outcome.skeleton)
            if shown not in seen and not outcome.failure:
                seen.add(shown)
                bred.append(mutant)


def compiled(payloads: Sequence[bytes], jobs: int, keep: Path | None, number: int) -> Iterator[Outcome]:
    """What comes of some files, in their order, as soon as it is known.

    Args:
        payloads: the files' bytes.
        jobs: how many at a time.
        keep: a folder for the files that failed.
        number: of the first file.
    """
    outcomes: dict[int, Outcome] = {}
    given = 0
    running: dict[int, tuple[int, Running]] = {}
    waiting = list(enumerate(payloads))[::-1]
    poll = select.poll()
    with _frozen(), tempfile.TemporaryDirectory(prefix="reptran-hostile-") as scratch:
        while waiting or running:
            while waiting and len(running) < jobs:
                place, payload = waiting.pop()
                begun = start(payload, Path(scratch, str(place)))
                running[begun.handle] = (place, begun)
                poll.register(begun.handle, select.POLLIN)
            ended = {handle for handle, _ in poll.poll(_MILLISECONDS)}
            ended |= {handle for handle, (_, each) in running.items() if each.late}
            for handle in ended:
                place, done = running.pop(handle)
                poll.unregister(handle)
                file = None if keep is None else keep / f"{number + place:06}.onnx"
                outcomes[place] = finish(done, keep=file)
            while given in outcomes:
                yield outcomes.pop(given)
                given += 1


@contextmanager
def _frozen() -> Iterator[None]:
    """Keep the collector off what was imported: in a fork it would copy every page of that."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
