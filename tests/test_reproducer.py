"""Reproducers: a failure leaves a small model, what belongs to it, and a script that shows it until it is mended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import reptran_passes.replicate_input as replicate_input
from onnx import ModelProto, NodeProto, helper, numpy_helper

from reptran_compiler import compilation
from reptran_compiler.cli.main import main
from reptran_compiler.compiler import BadInput, Refusal, VerificationFailed, compile_model
from reptran_compiler.reproducer import reproduce

ROOT = Path(__file__).resolve().parent.parent
BLOCKS, CHANNELS = 11, 4

BAD = '''
import numpy as np

from reptran_compiler.rewriting import preserves, rule


@rule("forgets-mean", effect=preserves())
class ForgetsMean:
    """BatchNormalization becomes Mul and Add."""

    def pattern(p, x):
        return p.BatchNormalization(x, *p.consts("gamma beta mean var"), name="bn")

    def rewrite(m, g):
        slope = m.gamma.values / np.sqrt(m.var.values + np.float32(1e-5))
        shift = m.beta.values  # - slope * m.mean.values
        scaled = g.node("Mul", [m.x, g.constant("slope", slope.reshape(1, -1, 1, 1))]).outputs[0]
        return g.node("Add", [scaled, g.constant("shift", shift.reshape(1, -1, 1, 1))], like=m.bn).outputs[0]
'''
GOOD = BAD.replace("  # - slope", " - slope")

#: Its witness is as wrong as itself: only the judge finds out.
TAKES_ABS = '''
from reptran_compiler.rewriting import reparametrises, rule


@rule("takes-abs", effect=reparametrises())
class TakesAbs:
    """Relu becomes Abs."""

    def pattern(p, x):
        return p.Relu(x)

    def rewrite(m, g):
        return g.node("Abs", [m.x], like=m.root).outputs[0]

    def witness(m, g):
        return g.node("Max", [m.x, g.node("Neg", [m.x]).outputs[0]]).outputs[0]
'''


def deep_network() -> ModelProto:
    """A stem, residual blocks of a binary layer each, and a classifier: 60 operators; one block has a Relu."""
    draw = np.random.default_rng(0)
    stored = {"stem.w": draw.normal(size=(CHANNELS, 3, 3, 3)), "fc": draw.normal(size=(CHANNELS, 3))}
    nodes = [_node("Conv", "x stem.w", "t0", pads=[1] * 4)]
    for block in range(BLOCKS):
        for name, low in (("gamma", 0.5), ("beta", -1.0), ("mean", -1.0), ("var", 0.1)):
            stored[f"{name}{block}"] = draw.uniform(low, 2, CHANNELS)
        stored[f"w{block}"] = draw.choice([-1.0, 1.0], (CHANNELS, CHANNELS, 3, 3))
        parameters = " ".join(f"{name}{block}" for name in ("gamma", "beta", "mean", "var"))
        nodes += [
            _node("Sign", f"t{block}", f"sign{block}"),
            _node("Conv", f"sign{block} w{block}", f"conv{block}", pads=[1] * 4),
            _node("BatchNormalization", f"conv{block} {parameters}", f"bn{block}"),
            _node("Relu" if block == 6 else "Tanh", f"bn{block}", f"act{block}"),
            _node("Add", f"act{block} t{block}", f"t{block + 1}"),
        ]
    nodes += [
        _node("GlobalAveragePool", f"t{BLOCKS}", "pool"),
        _node("Flatten", "pool", "flat"),
        _node("MatMul", "flat fc", "fc.out"),
        _node("Identity", "fc.out", "y"),
    ]
    graph = helper.make_graph(
        nodes,
        "deep",
        [helper.make_tensor_value_info("x", 1, ["N", 3, 6, 6])],
        [helper.make_tensor_value_info("y", 1, ["N", 3])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _node(op: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "deep.onnx"
    onnx.save(deep_network(), file)
    return file


def written(folder: Path, file: str, text: str) -> str:
    (folder / file).write_text(text)
    return str(folder / file)


def run_script(folder: Path, *rules: str) -> subprocess.CompletedProcess[str]:
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "passes")))}
    command = [sys.executable, str(folder / "reproduce.py"), *rules]
    return subprocess.run(command, capture_output=True, text=True, env=surroundings, cwd=folder.parent)


def test_a_false_claim(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command: the same exit code and message, one line more; the script shows the fault until it is mended."""
    folder, rules = tmp_path / "shown", written(tmp_path, "bad.py", BAD)
    words = [str(source), "-q", "-o", str(tmp_path / "rep.onnx"), "--rules", rules]
    assert main(words) == 1
    plain = capsys.readouterr().err
    assert main([*words, "--reproducer", str(folder)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert f"reptran-compile: reproducer: {folder} (1 of {len(deep_network().graph.node)} nodes)" in lines
    assert [line for line in lines if "reproducer:" not in line] == plain.splitlines()
    assert {path.name for path in folder.iterdir()} == {
        "model.onnx", "inputs.npz", "fault.json", "reproduce.py", "rules-1-bad.py",
    }  # fmt: skip
    part = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(part, full_check=True)
    assert [node.op_type for node in part.graph.node] == ["BatchNormalization"]
    assert part.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    with np.load(folder / "inputs.npz") as inputs:
        assert {name: inputs[name].shape for name in inputs} == {part.graph.input[0].name: (2, CHANNELS, 6, 6)}
    assert json.loads((folder / "fault.json").read_text())["options"]["beta"] == 2
    shown = run_script(folder)
    assert shown.returncode == 1 and "still there" in shown.stdout and "forgets-mean" in shown.stdout
    mended = run_script(folder, written(tmp_path, "good.py", GOOD))
    assert (mended.returncode, mended.stdout.split(":")[0]) == (0, "mended")


def test_what_only_the_judge_finds(source: Path, tmp_path: Path) -> None:
    """Surroundings that make it a binary network are kept."""
    folder = tmp_path / "shown"
    rules = [written(tmp_path, "abs.py", TAKES_ABS)]
    with pytest.raises(VerificationFailed):
        compile_model(source, rules=rules, reproducer=folder)
    kept = [node.op_type for node in onnx.load(folder / "model.onnx").graph.node]
    assert "Relu" in kept and len(kept) <= 6
    assert reproduce(folder) == 1


def test_a_mistake_in_a_built_in_rule(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of weights in the wrong order: what is left is a stem and a binary layer behind it."""
    right = replicate_input._move

    def reversed_blocks(copies: Any, layer: Any, stored: Any) -> Any:
        move = right(copies, layer, stored)
        return move if layer.name != "conv7" else type(move)(*{**vars(move), "order": (1, 0, *move.order[2:])}.values())

    folder = tmp_path / "shown"
    with monkeypatch.context() as patch:
        patch.setattr(replicate_input, "_move", reversed_blocks)
        with pytest.raises(Refusal) as refused:
            compile_model(source, reproducer=folder)
        assert refused.value.rule == "replicate-input" and refused.value.exit_code == 4
        assert reproduce(folder) == 1
    assert len(onnx.load(folder / "model.onnx").graph.node) <= 6
    assert reproduce(folder) == 0, "mended"


def test_an_internal_error(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(transformation: Any, trial: Any) -> Any:
        if any(node.op_type == "GlobalAveragePool" for node in transformation.canonical.graph.node):
            raise KeyError("pool")
        return right(transformation, trial)

    right = compilation.count_costs
    monkeypatch.setattr(compilation, "count_costs", fails)
    folder = tmp_path / "shown"
    with pytest.raises(KeyError):
        compile_model(source, reproducer=folder)
    kept = [node.op_type for node in onnx.load(folder / "model.onnx").graph.node]
    assert "GlobalAveragePool" in kept and len(kept) <= 8
    assert reproduce(folder) == 1


def test_no_fault_no_folder(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A network that compiles, and one that cannot be rewritten, leave none."""
    folder = tmp_path / "shown"
    assert main([str(source), "-q", "--dry-run", "--reproducer", str(folder)]) == 0
    assert main([str(source), "-q", "--dry-run", "--beta", "3", "--reproducer", str(folder)]) == 1
    assert not folder.exists() and "reproducer" not in capsys.readouterr().err


def test_a_folder_that_holds_something_is_refused_before_the_work(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not empty"):
        compile_model(source, reproducer=tmp_path)
    assert main([str(source), "--dry-run", "-q", "--reproducer", str(tmp_path)]) == 2
    assert main(["-", "--dry-run", "-q", "--reproducer", str(tmp_path / "new")]) == 2
