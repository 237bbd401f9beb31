"""Thousands of cases: each is examined in one process and compiled again in another with other hashes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from queue import SimpleQueue
from typing import TypeVar

from benchmarks.generated.cases import draw_case
from benchmarks.generated.checks import Outcome, examine, result_digest

T = TypeVar("T")

#: A case that takes longer than this many seconds hangs.
_PATIENCE = 600
_HASH_SEEDS = ("1", "2024")


@dataclass(frozen=True)
class Row:
    """What became of the case of a seed.

    Attributes:
        seed: its number.
        constructs: names of what its source contains.
        operators: the operator types of its source.
        options: names of its options, `--bn keep` and the like.
        nodes: how many nodes its source has.
        outcome: what was found.
    """

    seed: int
    constructs: frozenset[str] = frozenset()
    operators: frozenset[str] = frozenset()
    options: tuple[str, ...] = ()
    nodes: int = 0
    outcome: Outcome = Outcome()


def perform(seed: int) -> Row:
    """Draw and examine a case; whatever is raised is a failure of it."""
    case = draw_case(seed)
    asked = case.options
    options = [f"--beta {asked.beta}"]
    options += [f"--{name} {getattr(asked, name)}" for name in ("scope", "fc", "bn", "weights")]
    options += [f"--{name}" for name in ("exclude", "include") if getattr(asked, name)]
    operators = frozenset(node.op_type for node in case.model.graph.node)
    try:
        outcome = examine(case)
    except Exception as error:  # noqa: BLE001 - any bug of the compiler is a failing row, and the others go on
        outcome = Outcome((f"{type(error).__name__}: {error}",))
    return Row(seed, case.constructs, operators, tuple(options), len(case.model.graph.node), outcome)


def repeat(seed: int) -> Outcome:
    """The case's result once more, without verification."""
    try:
        return result_digest(draw_case(seed))
    except Exception as error:  # noqa: BLE001 - as in `perform`
        return Outcome(refusal=f"{type(error).__name__}: {error}")


class _Process:
    """A process of its own that lives on from case to case, with a hash seed."""

    def __init__(self, hash_seed: str) -> None:
        self._hash_seed = hash_seed
        self._pool: ProcessPoolExecutor | None = None

    def call(self, function: Callable[[int], T], seed: int) -> T:
        """A function's value there. Raises `BrokenProcessPool` or `TimeoutError`; the next call has a new process."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        # What is spawned inherits the environment of this moment; the first call spawns.
        kept = os.environ.get("PYTHONHASHSEED")
        os.environ["PYTHONHASHSEED"] = self._hash_seed
        try:
            waiting = self._pool.submit(function, seed)
        finally:
            _restore(kept)
        try:
            return waiting.result(_PATIENCE)
        except (BrokenProcessPool, TimeoutError):
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _restore(kept: str | None) -> None:
    if kept is None:
        del os.environ["PYTHONHASHSEED"]
    else:
        os.environ["PYTHONHASHSEED"] = kept


def sweep(seeds: Sequence[int], jobs: int) -> Iterator[Row]:
    """The rows of some seeds, in the order in which they are done.

    Args:
        seeds: the seeds.
        jobs: how many cases at a time.
    """
    pairs: SimpleQueue[tuple[_Process, _Process]] = SimpleQueue()
    made = [(_Process(_HASH_SEEDS[0]), _Process(_HASH_SEEDS[1])) for _ in range(jobs)]
    for pair in made:
        pairs.put(pair)

    def one(seed: int) -> Row:
        pair = pairs.get()
        try:
            return _compared(seed, *pair)
        finally:
            pairs.put(pair)

    try:
        with ThreadPoolExecutor(jobs) as threads:
            for future in as_completed([threads.submit(one, seed) for seed in seeds]):
                yield future.result()
    finally:
        for pair in made:
            for process in pair:
                process.close()


def _compared(seed: int, first: _Process, second: _Process) -> Row:
    try:
        row = first.call(perform, seed)
        again = second.call(repeat, seed)
    except BrokenProcessPool:
        return Row(seed, outcome=Outcome(("its process died",)))
    except TimeoutError:
        return Row(seed, outcome=Outcome((f"no answer in {_PATIENCE} seconds",)))
    outcome = row.outcome
    if outcome.failures or (again.digest, again.refusal) == (outcome.digest, outcome.refusal):
        return row
    said = again.refusal or "another result"
    return replace(row, outcome=replace(outcome, failures=(f"another process, with other hashes: {said}",)))
