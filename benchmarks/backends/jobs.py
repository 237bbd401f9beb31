"""Jobs for a worker in a backend's environment; one that dies is started again behind the model that killed it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.backends.calling import Array
from benchmarks.backends.catalogue import Backend

ROOT = Path(__file__).resolve().parents[2]

#: How long a worker may take for one job, in seconds.
LIMIT = 400.0


@dataclass
class Answer:
    """What became of one model.

    Attributes:
        outputs: its first output, for each of the inputs that it ran on.
        error: why it did not prepare or go on; "" where it did.
    """

    outputs: list[Array] = field(default_factory=list)
    error: str = ""


@dataclass
class Answers:
    """What a worker answered: one answer a step, the rounds of times, and which steps these are of."""

    version: str
    steps: list[Answer]
    times: list[list[float]] = field(default_factory=list)
    timed: list[int] = field(default_factory=list)


def ask(backend: Backend, python: Path, files: Path, steps: list[tuple[str, list[str]]], seconds: float) -> Answers:
    """Have a backend run models.

    Args:
        backend: the backend.
        python: its environment's interpreter.
        files: where models and inputs lie.
        steps: the models, each with the files of its inputs.
        seconds: how long to measure their time; 0 not to.
    """
    answers = Answers("", [])
    while len(answers.steps) < len(steps):
        left = steps[len(answers.steps) :]
        whole = not answers.steps
        end = _work(backend, python, files, left, seconds if whole else 0, answers)
        if len(answers.steps) < len(steps):
            answers.steps.append(Answer(error=end))
    return answers


def _work(
    backend: Backend, python: Path, files: Path, steps: list[tuple[str, list[str]]], seconds: float, answers: Answers
) -> str:
    """One worker's life; returns how it ended."""
    folder = files / f"work-{backend.name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in {name for model, inputs in steps for name in (model, *inputs)}:
        shutil.copy(files / name, folder / name)
    told = [{"file": model, "inputs": inputs} for model, inputs in steps]
    (folder / "job.json").write_text(json.dumps({"steps": told, "seconds": seconds, "package": backend.package}))
    command = [str(python), "-m", "benchmarks.backends.worker", backend.name, str(folder)]
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, "PYTHONPATH": str(ROOT)}
    try:
        code = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, timeout=LIMIT).returncode
        end = f"the process died (exit code {code})"
    except subprocess.TimeoutExpired:
        end = f"no end within {LIMIT:g} s"
    lines = folder / "answers.jsonl"
    for line in lines.read_text().splitlines() if lines.exists() else ():
        said = json.loads(line)
        if "version" in said:
            answers.version = said["version"]
        elif "step" in said:
            model = steps[said["step"]][0]
            outputs = [np.load(folder / f"{model}-{number}.npy") for number in range(said["ran"])]
            answers.steps.append(Answer(outputs, said["error"].replace(f"{folder}/", "")))
        elif "times" in said:
            answers.times = said["times"]
        else:
            answers.timed = said["timed"]
    return end
