"""All runs of a study, each in a process of its own, those that begin with a trained original behind it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.fashion.runs import images, perform
from benchmarks.fashion.settings import Budget, Result, Setting
from reptran_compiler.training.curve import Row


@dataclass(frozen=True)
class Place:
    """Where the data set is, and where runs are kept."""

    data: Path
    runs: Path


def study(
    settings: Sequence[Setting],
    budget: Budget,
    place: Place,
    jobs: int,
    report: Callable[[Sequence[Result]], None],
) -> list[Result]:
    """Make all runs; progress goes to standard error.

    Args:
        settings: the runs, in their order.
        budget: what they share.
        place: of what is read and kept.
        jobs: how many run at a time.
        report: told of all results after each.
    """
    files = {setting: place.runs / f"{setting}.json" for setting in settings}
    results = {setting: Result.load(file, budget) for setting, file in files.items() if file.exists()}
    report([results[each] for each in settings if each in results])
    waiting = [setting for setting in settings if setting not in results]
    start, done = time.monotonic(), 0
    total = sum(setting.work for setting in waiting)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running: dict[Future[Result], Setting] = {}
        while waiting or running:
            for setting in [each for each in waiting if not each.trained or each.source in results]:
                waiting.remove(setting)
                running[pool.submit(_run, setting, budget, place)] = setting
            future = next(as_completed(running))
            setting = running.pop(future)
            results[setting] = future.result()
            done += setting.work
            left = (time.monotonic() - start) / done * (total - done) / 60
            state = f"{len(results)}/{len(settings)} {setting}: {100 * results[setting].accuracy:.2f} %"
            print(f"{state}, about {left:.0f} min left in all", file=sys.stderr, flush=True)
            report([results[each] for each in settings if each in results])
    return [results[each] for each in settings]


def _run(setting: Setting, budget: Budget, place: Place) -> Result:
    """One run; says how each epoch went."""
    torch.set_num_threads(1)

    def observe(rows: Sequence[Row]) -> None:
        last = rows[-1]
        left = last.seconds * (budget.epochs - last.epoch) / 60
        state = f"epoch {last.epoch} of {budget.epochs}, {100 * last.test_accuracy:.2f} %"
        print(f"  {setting}: {state}, about {left:.0f} min left", file=sys.stderr, flush=True)

    return perform(setting, budget, images(place.data, budget), place.runs, observe)
