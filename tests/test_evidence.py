"""What `reptran-verify --reproducer` leaves of a broken law: a part of both networks, and a script that shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto
from verified_pairs import change, original, rep

from reptran_compiler.cli.verify import main
from reptran_compiler.errors import BadInput
from reptran_compiler.gate import verify_pair

#: A result's tensor is made of what makes its copies, and of little besides.
FEW = 6


def shown(folder: Path) -> subprocess.CompletedProcess[str]:
    """The folder's script, run where there is no compiler."""
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(folder / "reproduce.py")]
    return subprocess.run(command, capture_output=True, text=True, env=alone, cwd=folder.parent, check=False)


def parameters(model: ModelProto) -> list[str]:
    """The stored tensors of numbers that count: not the bounds of a Clip, nor what is empty or zero."""
    return [
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and np.abs(onnx.numpy_helper.to_array(tensor)).max(initial=0) > 0
    ]


@pytest.mark.parametrize("network", ["plain", "joined", "reactnet", "gated", "dense"])
def test_the_part_is_small_and_shows_it(network: str, tmp_path: Path) -> None:
    """Numbers of one parameter after another are changed: what is left shows it alone, in a few operators."""
    names = parameters(rep(network))
    some = names[:: max(1, len(names) // 3)]
    seen = 0
    for place, name in enumerate(some):
        wrong, folder = rep(network), tmp_path / str(place)
        change(wrong, name, lambda old: old * np.float32(-1.5))
        made = verify_pair(original(network), wrong, 2, reproducer=folder)
        if not folder.exists():  # its shape is all that is wrong, or its type
            assert any(note.startswith("no reproducer") for note in made.notes), name
            continue
        seen += 1
        fault = json.loads((folder / "fault.json").read_text())
        done = shown(folder)
        assert done.returncode == 1 and done.stdout.startswith(f"{fault['tensor']}: "), (name, done.stderr)
        assert "numbers are wrong" in done.stdout
        assert len(onnx.load(folder / "found.onnx").graph.node) <= FEW, name
        assert fault["message"] == made.failures[0]
        assert any(note.startswith(f"reproducer: {folder}") for note in made.notes)
    assert seen


def test_mended(tmp_path: Path) -> None:
    """The script compares what lies there: with the right part in place it finds nothing wrong."""
    wrong, folder = rep("plain"), tmp_path / "shown"
    name = next(node.input[1] for node in wrong.graph.node if node.op_type == "Conv" and node.name == "one")
    change(wrong, name, lambda old: -old)
    verify_pair(original("plain"), wrong, 2, reproducer=folder)
    assert shown(folder).returncode == 1
    found = onnx.load(folder / "found.onnx")
    change(found, name, lambda old: -old)
    onnx.save(found, folder / "found.onnx")
    done = shown(folder)
    assert done.returncode == 0 and done.stdout.strip() == "one: as it has to be", done.stderr


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code and the message stay as they are; a folder that is not empty is refused before anything runs."""
    wrong, folder = rep("plain"), tmp_path / "shown"
    change(wrong, parameters(wrong)[0], lambda old: old + 1)
    for name, model in (("net", original("plain")), ("rep", wrong), ("good", rep("plain"))):
        onnx.save(model, tmp_path / f"{name}.onnx")
    net, bad, good = (str(tmp_path / f"{name}.onnx") for name in ("net", "rep", "good"))
    assert main([net, good, "--reproducer", str(folder)]) == 0 and not folder.exists()
    assert main([net, bad, "-q"]) == 3
    message = capsys.readouterr().err
    assert main([net, bad, "--reproducer", str(folder)]) == 3
    said = capsys.readouterr()
    assert f"reproducer: {folder.name}" in said.out.replace(f"{tmp_path}/", "") and said.err == message
    assert sorted(file.name for file in folder.iterdir()) == [
        "expected.onnx",
        "fault.json",
        "found.onnx",
        "inputs.npz",
        "reproduce.py",
    ]
    assert main([net, bad, "--reproducer", str(folder)]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_what_no_number_shows(tmp_path: Path) -> None:
    """A missing tensor, a cost, a budget: nothing is written, and a note says why where the file is wrong."""
    folder = tmp_path / "shown"
    wrong = rep("plain")
    wrong.graph.output[0].name = "other"
    made = verify_pair(original("plain"), wrong, 2, reproducer=folder)
    assert made.exit_code == 3 and not folder.exists()
    assert "no reproducer: no tensor shows it by its numbers" in made.notes
    made = verify_pair(original("plain"), rep("plain"), 2, budgets=["nodes=-100"], reproducer=folder)
    assert made.exit_code == 1 and not folder.exists() and not any("reproducer" in note for note in made.notes)
    folder.write_text("a file")
    with pytest.raises(BadInput, match="is a file"):
        verify_pair(original("plain"), wrong, 2, reproducer=folder)
