"""The benchmark of inference backends, with the one backend that every environment has: onnxruntime."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.backends.catalogue import BACKENDS, REQUIREMENTS, Backend
from benchmarks.backends.jobs import Answer, Answers, ask
from benchmarks.backends.probes import PROBES, write
from benchmarks.backends.report import ratios, short, verdict

ADAPTERS = REQUIREMENTS.parent / "adapters"


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_backend_has_an_adapter_and_a_pinned_requirement(backend: Backend) -> None:
    assert (ADAPTERS / f"{backend.name}.py").exists()
    assert backend.requirement.startswith(f"{backend.package}==")
    assert (REQUIREMENTS / f"{backend.room}.txt").read_text().startswith("# --python 3.")


def test_a_worker_answers_and_a_broken_file_is_refused(tmp_path: Path) -> None:
    files = write(tmp_path)
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    steps = [("broken.onnx", ["points.npz"]), *((files[each], ["points.npz"]) for each in PROBES)]
    found = ask(BACKENDS[0], Path(sys.executable), tmp_path, steps, 0.05)
    assert "broken.onnx" in found.steps[0].error and not found.steps[0].outputs
    assert verdict(found.steps[0], [np.zeros(1)]).startswith("refused: ")
    sign, mask, nested = (step.outputs[0].ravel() for step in found.steps[1:])
    assert sign[:6].tolist() == [-1, -1, 0, 0, 1, 1] and np.isnan(sign[6])
    assert mask.tolist() == [-1, -1, 1, 1, 1, 1, -1]
    assert nested[:6].tolist() == [-1, -1, 1, 1, 1, 1]
    assert found.timed == [1, 2, 3] and len(found.times) >= 3 and len(found.times[0]) == 4


def test_a_worker_that_dies_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    files = write(tmp_path)
    dying = tmp_path / "python"
    dying.write_text(f'#!/bin/sh\ngrep -q probe-0 "$4/job.json" && exit 7\nexec {sys.executable} "$@"\n')
    dying.chmod(0o755)
    found = ask(BACKENDS[0], dying, tmp_path, [(files[each], ["points.npz"]) for each in PROBES], 0)
    assert found.steps[0].error == "the process died (exit code 7)"
    assert [step.error for step in found.steps[1:]] == ["", ""]


def test_verdicts() -> None:
    right = [np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]])]
    assert verdict(Answer(right), right) == "0"
    assert verdict(Answer([right[0], right[1] + 2e-4]), right) == "5e-05"
    assert verdict(Answer([right[0], right[1] + 1e-2]), right) == "WRONG: 2.5e-03"
    assert verdict(Answer([right[0] * np.nan]), right).startswith("WRONG")
    assert verdict(Answer([right[0][0]]), right) == "WRONG: shape [2] instead of [1, 2]"
    assert verdict(Answer(right[:1], "no"), right) == "0; the first batch size only: no"


def test_ratios_are_of_the_way_that_ran_first() -> None:
    times = [[2.0, 1.0, 2.0], [4.0, 2.0, 4.0], [1.0, 0.5, 1.0]]
    assert ratios(Answers("1", [], times, [0, 2])) == ["", "0.50 [0.50, 0.50]", "1.00 [1.00, 1.00]"]
    assert ratios(Answers("1", [], times, [1, 2])) == ["1", "0.50 [0.50, 0.50]", "1.00 [1.00, 1.00]"]
    assert ratios(Answers("1", [])) == ["", "", ""]


def test_messages_are_short_and_name_no_folder() -> None:
    assert short("RuntimeError: \x1b[31mat /opt/some/place/file.cc:3  no\x1b[0m") == "at file.cc:3 no"
    assert len(short("x" * 500)) == 160
