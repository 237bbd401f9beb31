"""The command line where no network is compiled: flags, help, files that cannot be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reptran_compiler.cli.arguments import parse
from reptran_compiler.cli.main import main
from reptran_compiler.version import __version__

ROOT = Path(__file__).resolve().parent.parent


def test_help_is_light() -> None:
    code = (
        "import sys\n"
        "from reptran_compiler.cli.main import main\n"
        "assert main(['--help']) == 0\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'onnx_graphsurgeon', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    for flag in ("--beta", "--scope", "--explain", "--list-passes", "--map", "exit codes"):
        assert flag in done.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"reptran-compiler {__version__}\n"
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "MODEL"),
        (["m.onnx"], "output"),
        (["m.onnx", "-o", "o.onnx", "--beta", "0"], "at least 1"),
        (["m.onnx", "-o", "o.onnx", "--beta", "two"], "at least 1"),
        (["m.onnx", "-o", "o.onnx", "--bn", "drop"], "--bn"),
        (["m.onnx", "-o", "o.onnx", "--fc", "wide"], "--fc"),
        (["m.onnx", "-o", "o.onnx", "--scope", "world"], "--scope"),
        (["m.onnx", "-o", "o.onnx", "--weights", "ternary"], "--weights"),
        (["m.onnx", "-o", "o.onnx", "--exclude", "("], "regular expression"),
        (["m.onnx", "-o", "o.onnx", "--include", "["], "regular expression"),
        (["m.onnx", "-o", "o.onnx", "--dim", "height"], "NAME=SIZE"),
        (["m.onnx", "-o", "o.onnx", "--dim", "height=0"], "at least 1"),
        (["m.onnx", "-o", "o.onnx", "--passes", ","], "no pass"),
        (["m.onnx", "-o", "-", "--json", "-"], "standard output"),
        (["m.onnx", "n.onnx", "-o", "o.onnx"], "unrecognized"),
        (["m.onnx", "-o", "o.onnx", "--frobnicate"], "unrecognized"),
        (["m.onnx", "-o", "o.onnx", "--no-ver"], "unrecognized"),
    ],
)
def test_wrong_flags(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(flags) == 2
    assert words in capsys.readouterr().err


def test_flags_are_understood() -> None:
    found = parse(
        "m.onnx -o o.onnx --beta 4 --scope layer --fc fold --bn keep --weights binary --exclude a --exclude b "
        "--include c --strict --no-verify --passes x,y --rules r.py --dim h=3 --dim a=b=4 -vv".split()
    )
    assert (found.model, found.output, found.beta) == ("m.onnx", "o.onnx", 4)
    assert (found.scope, found.fc, found.bn, found.weights) == ("layer", "fold", "keep", "binary")
    assert (found.exclude, found.include, found.strict) == (("a", "b"), ("c",), True)
    assert (found.passes, found.rules, found.verify) == (("x", "y"), ("r.py",), False)
    assert (found.dims, found.verbose) == ({"h": 3, "a=b": 4}, 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "empty"),
        (b"no model\n", "no ONNX model"),
        (b"\xff" * 99, "no ONNX model"),
    ],
)
def test_unreadable_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, words: str
) -> None:
    path = tmp_path / "in.onnx"
    if content is not None:
        path.write_bytes(content)
    assert main([str(path), "-o", str(tmp_path / "out.onnx")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("reptran-compile: ") and words in error and error.count("\n") == 1
    assert not (tmp_path / "out.onnx").exists()
