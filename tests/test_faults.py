"""Outputs under faults: what was there survives whole, or the new result is. `benchmarks.faults` tries them all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

if not hasattr(os, "fork"):
    pytest.skip("processes are forked", allow_module_level=True)

from small_networks import network
from test_determinism import environment

from benchmarks.faults import worldly
from benchmarks.faults.injected import FAULTS, row
from benchmarks.faults.injecting import Fault, wait
from benchmarks.faults.injecting import start as begin
from benchmarks.faults.room import FORMS, MODEL, Content, Form, Room
from reptran_compiler.cli.main import main
from reptran_compiler.model.io import ModelFileError, read_model
from reptran_compiler.model.writing import Writing, write_model

OLD, NEW = network(), network(w=-np.sign(np.arange(8 * 8 * 9) % 5 - 1.5).reshape(8, 8, 3, 3))
EXTERNAL = FORMS[1]


def room(folder: Path, form: Form) -> Room:
    return Room(folder / "room", form, Content(OLD, '{"map": 1}', '{"report": 1}'), Content(NEW, "{}", "[]"))


@pytest.mark.parametrize("form", FORMS[1:4], ids=lambda form: form.name)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_leaves_one_pair_whole(fault: Fault, form: Form, tmp_path: Path) -> None:
    found = row(room(tmp_path, form), fault, tmp_path / "log", every=5)
    assert not found.failures, found.failures
    assert found.old + found.new == found.times > 0


@pytest.mark.parametrize("kill", [False, True])
def test_two_runs_at_once_do_not_mix(kill: bool, tmp_path: Path) -> None:
    found = worldly.at_once(room(tmp_path, EXTERNAL), 10, kill=kill)
    assert not found.failures, found.failures


def test_what_has_the_name_of_the_new_data_is_replaced(tmp_path: Path) -> None:
    found = worldly.data_exists(room(tmp_path, EXTERNAL))
    assert not found.failures, found.failures


def test_a_run_that_lives_keeps_its_half_written_files(tmp_path: Path) -> None:
    with Writing() as files:
        files.add_model(NEW, tmp_path / MODEL, external=True)
        assert wait(begin(lambda: write_model(OLD, tmp_path / MODEL, external=True))) == 0
        assert read_model(tmp_path / MODEL).model == OLD
        files.commit()
    assert read_model(tmp_path / MODEL).model == NEW
    assert len(list(tmp_path.iterdir())) == 2


def test_weights_go_once_no_model_refers_to_them(tmp_path: Path) -> None:
    write_model(OLD, tmp_path / MODEL, external=True)
    (tmp_path / MODEL).rename(tmp_path / "kept.onnx")
    write_model(OLD, tmp_path / MODEL, external=True)
    for _ in range(2):
        write_model(NEW, tmp_path / MODEL, external=True)
    assert len(list(tmp_path.glob("*.data"))) == 2
    assert read_model(tmp_path / "kept.onnx").model == OLD
    write_model(NEW, tmp_path / MODEL)
    assert len(list(tmp_path.glob("*.data"))) == 1
    assert read_model(tmp_path / "kept.onnx").model == OLD


def test_weights_that_were_read_stay(tmp_path: Path) -> None:
    """The input was made by copying an earlier output, under a name that does not tell that it is a model."""
    write_model(OLD, tmp_path / MODEL, external=True)
    (tmp_path / "network").write_bytes((tmp_path / MODEL).read_bytes())
    assert main([str(tmp_path / "network"), "-o", str(tmp_path / MODEL), "--external-data", "-q", "--no-verify"]) == 0
    assert read_model(tmp_path / "network").model == OLD
    assert len(list(tmp_path.glob("*.data"))) == 2


def test_a_link_to_another_folder_cannot_have_weights_beside_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.onnx").symlink_to(tmp_path / "folder" / MODEL)
    with pytest.raises(ModelFileError, match="it is a link"):
        write_model(NEW, tmp_path / "link.onnx", external=True)
    write_model(NEW, tmp_path / "link.onnx")
    assert onnx.load(str(tmp_path / "folder" / MODEL)) == NEW


@pytest.mark.parametrize("words", [["--external-data", "-o", "-"], ["--external-data", "-o", os.devnull]])
def test_weights_apart_are_refused_on_a_stream_before_the_work(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["there is no such file", *words]) == 2
    assert "the weights need a file of their own" in capsys.readouterr().err


def test_too_much_for_a_stream_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(OLD, tmp_path / "in.onnx")
    monkeypatch.setattr("reptran_compiler.outputs.EMBEDDED_LIMIT", 1000)
    monkeypatch.setattr("reptran_compiler.compilation.try_source", lambda *_, **__: pytest.fail("work was done"))
    assert main([str(tmp_path / "in.onnx"), "-o", "-"]) == 2
    assert "the weights need a file of their own" in capsys.readouterr().err


def test_sigterm_ends_the_command_with_one_line(tmp_path: Path) -> None:
    write_model(OLD, tmp_path / "in.onnx")
    os.mkfifo(tmp_path / "pipe")
    words = [sys.executable, "-m", "reptran_compiler", "in.onnx", "-o", "out.onnx", "--rules", "pipe"]
    process = subprocess.Popen(words, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE)
    writer = _opened(tmp_path / "pipe")
    process.terminate()
    _, said = process.communicate(timeout=60)
    os.close(writer)
    assert process.returncode == 143
    assert said.decode().splitlines()[-1] == "reptran-compile: terminated"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.onnx", "pipe"]


def _opened(pipe: Path) -> int:
    """A pipe, open for writing, once another process reads it."""
    for _ in range(600):
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("nobody reads it")
