"""What docs/ci.md and examples/gate give to copy: it parses, it runs, and it stops a pipeline where it should."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from verified_pairs import ROOT, change, node, original, rep

EXAMPLE = ROOT / "examples" / "gate"
PAGE = (ROOT / "docs" / "ci.md").read_text()
COMMANDS = {"reptran-compile": "reptran_compiler", "reptran-verify": "reptran_compiler.cli.verify"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell in which the commands are installed, as GitHub Actions has it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, module in COMMANDS.items():
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'passes'}",
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "OMP_NUM_THREADS": "1",
    }


def run(script: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A script as a step of GitHub Actions runs it."""
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def steps(text: str) -> list[tuple[str, str]]:
    """Name and script of the steps of a workflow that run something."""
    yaml: Any = pytest.importorskip("yaml")
    found = yaml.safe_load(text)
    assert found[True] == ["push", "pull_request"], "YAML reads `on` as true"
    every = [step for job in found["jobs"].values() for step in job["steps"]]
    assert all(("uses" in step) != ("run" in step) for step in every)
    return [(step["name"], step["run"]) for step in every if "run" in step]


def test_the_page_shows_the_recipe() -> None:
    recipe = (EXAMPLE / "reptran.yml").read_text()
    assert recipe.partition("\n")[2] in PAGE


@pytest.mark.parametrize("good", [True, False], ids=["good", "spoilt"])
def test_the_recipe_gates_a_pair(good: bool, tmp_path: Path, environment: dict[str, str]) -> None:
    """Its steps pass on a good pair, and stop on a spoilt one with an annotation, a summary and a report."""
    (tmp_path / "models").mkdir()
    model = rep("reactnet")
    if not good:
        change(model, node(model, "node_Conv_353").input[1], lambda value: -value)
    onnx.save(original("reactnet"), tmp_path / "models" / "net.onnx")
    onnx.save(model, tmp_path / "models" / "net.rep.onnx")
    (install, pip), (_, script) = steps((EXAMPLE / "reptran.yml").read_text())
    assert install == "Install" and pip.startswith("pip install ")
    done = run(script, tmp_path, environment)
    assert done.returncode == (0 if good else 3), done.stderr
    commands = re.findall(r"^::error file=models/net\.rep\.onnx,title=.*$", done.stdout, re.MULTILINE)
    assert len(commands) == (0 if good else 1) and all("node_Conv_353" in each for each in commands)
    word = "passed" if good else "FAILED"
    assert f"### reptran-verify: {word}" in (tmp_path / "summary.md").read_text()
    assert (tmp_path / "reptran-verify.xml").exists()


@pytest.mark.parametrize("cut", ["", "total-params"])
def test_the_example_stops_at_one_unit(cut: str, tmp_path: Path, environment: dict[str, str]) -> None:
    if shutil.which("bash") is None:
        pytest.skip("this system has no bash")
    done = run(f'"{EXAMPLE / "gate.sh"}" {cut}', tmp_path, environment)
    assert done.returncode == (1 if cut else 0), done.stderr
    assert (f"reptran-verify: {cut}<=" in done.stderr and "exceeded by 1\n" in done.stderr) if cut else not done.stderr


def test_the_hook_is_the_command(tmp_path: Path, environment: dict[str, str]) -> None:
    """As pre-commit does: the hook's entry with the arguments of the page's configuration, and no file names."""
    yaml: Any = pytest.importorskip("yaml")
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    configuration = next(each for each in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if each.startswith("repos"))
    (used,) = yaml.safe_load(configuration)["repos"][0]["hooks"]
    assert used["id"] == hook["id"] and hook["language"] == "python" and not hook["pass_filenames"]
    assert f"{hook['entry']} = " in (ROOT / "pyproject.toml").read_text()
    assert re.search(used["files"], "models/net.rep.onnx") and re.search(hook["files"], "models/net.rep.onnx.data")
    (tmp_path / "models").mkdir()
    model = rep("plain")
    onnx.save(original("plain"), tmp_path / "models" / "net.onnx")
    onnx.save(model, tmp_path / "models" / "net.rep.onnx")
    words = " ".join(f"'{word}'" for word in used["args"])
    assert run(f"{hook['entry']} {words}", tmp_path, environment).returncode == 0
    change(model, node(model, "one").input[1], lambda value: -value)
    onnx.save(model, tmp_path / "models" / "net.rep.onnx")
    assert run(f"{hook['entry']} {words}", tmp_path, environment).returncode == 3
