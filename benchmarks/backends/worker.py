"""Run in a backend's environment: `python -m benchmarks.backends.worker ADAPTER FOLDER` answers the folder's job.

FOLDER/job.json holds `steps`, a list of {"file": NAME, "inputs": [NAME.npz, ...]}, and `seconds` to measure for, and
`package`. FOLDER/answers.jsonl gets a line for the package's version, one for each step, and one for the times."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.backends.calling import Arrays, Run, load


def main(adapter: str, folder: Path) -> None:
    """Answer the job."""
    job = json.loads((folder / "job.json").read_text())
    with open(folder / "answers.jsonl", "a", buffering=1) as answers:
        print(json.dumps({"version": importlib.metadata.version(job["package"])}), file=answers)
        ready: dict[int, tuple[Run, Arrays]] = {}
        for number, step in enumerate(job["steps"]):
            inputs = [load(folder / name) for name in step["inputs"]]
            answer: dict[str, Any] = {"step": number, "ran": 0, "error": ""}
            try:
                module = importlib.import_module(f"benchmarks.backends.adapters.{adapter}")
                run = module.prepare(folder / step["file"], inputs[0])
                for given in inputs:
                    found = run(given)
                    np.save(folder / f"{step['file']}-{answer['ran']}.npy", np.asarray(found[0]))
                    answer["ran"] += 1
                ready[number] = run, inputs[0]
            except BaseException as error:  # noqa: BLE001 - whatever a backend raises is its answer
                answer["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
            print(json.dumps(answer), file=answers)
        if job["seconds"] and ready:
            print(json.dumps({"times": _times(list(ready.values()), job["seconds"])}), file=answers)
            print(json.dumps({"timed": list(ready)}), file=answers)


def _times(ready: list[tuple[Run, Arrays]], seconds: float) -> list[list[float]]:
    """Rounds of seconds for a run, each of every model in turn, and of the first one once more."""
    every = [*ready, ready[0]]
    start = time.perf_counter()
    for run, inputs in ready:
        run(inputs)
    repeats = max(1, int(0.002 * len(ready) / (time.perf_counter() - start)))
    rounds: list[list[float]] = []
    start = time.perf_counter()
    while len(rounds) < 3 or time.perf_counter() - start < seconds:
        rounds.append([])
        for run, inputs in every:
            begin = time.perf_counter()
            for _ in range(repeats):
                run(inputs)
            rounds[-1].append((time.perf_counter() - begin) / repeats)
    return rounds


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
