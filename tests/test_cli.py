"""The command line: flags, help, files that cannot be read or written, `--list-passes` and `--explain`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from command import compile_file
from onnx import ModelProto, helper
from small_networks import network

from reptran_compiler.cli import calibrate, train, verify
from reptran_compiler.cli.arguments import parse
from reptran_compiler.cli.ending import INTERRUPTED
from reptran_compiler.cli.main import main
from reptran_compiler.cli.signals import TERMINATED
from reptran_compiler.errors import BadInput, CompileError, Differs, NothingToDo, VerificationFailed
from reptran_compiler.model.io import read_model
from reptran_compiler.model.writing import write_model
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
        (["m.onnx", "-o", "o.onnx", "--beta", "-1"], "at least 1"),
        (["m.onnx", "-o", "o.onnx", "--beta", "1.5"], "'1.5'"),
        (["m.onnx", "-o", "o.onnx", "--beta", "x"], "'x'"),
        (["m.onnx", "-o", "o.onnx", "--threads", "0"], "at least 1"),
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
    said = capsys.readouterr()
    assert words in said.err and said.out == ""
    assert said.err.startswith("reptran-compile: ") and said.err.count("\n") == 1, "one line, not the whole usage"


@pytest.mark.parametrize("place", [0, 1, 2, 3], ids=["compile", "verify", "train", "calibrate"])
def test_every_exit_code_is_documented(place: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert (main, verify.main, train.main, calibrate.main)[place](["--help"]) == 0
    said = re.findall(r"^  (\d)  ", capsys.readouterr().out, re.MULTILINE)
    page = re.split("^## reptran-", (ROOT / "docs" / "exit-codes.md").read_text(), flags=re.MULTILINE)[place]
    documented = re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    errors = {NothingToDo, BadInput, VerificationFailed if place < 2 else Differs, CompileError}
    assert documented == [*said, str(INTERRUPTED), str(TERMINATED)]
    if place == 2:  # there is always something to train
        errors -= {NothingToDo}
    assert {error.exit_code for error in errors} | {0} == set(map(int, said))


def test_a_wrong_flag_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = compile_file(network(), tmp_path, capsys, "--beta", "0")
    assert done.code == 2 and done.written == ()


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


def truncated() -> bytes:
    return network().SerializeToString()[:-200]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b"no model\n", "is no ONNX model"),
        (b"\xff" * 99, "is no ONNX model"),
        (truncated(), "is no ONNX model: it cannot be parsed (truncated?)"),
    ],
)
def test_unreadable_files(
    content: bytes | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = compile_file(content, tmp_path, capsys)
    assert done.code == 2 and done.written == ()
    assert done.err.startswith("reptran-compile: ") and words in done.err and "in.onnx" in done.err
    assert done.err.count("\n") == 1


def test_a_folder_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "-o", str(tmp_path / "out.onnx")]) == 2
    assert capsys.readouterr().err == f"reptran-compile: cannot read {tmp_path}: Is a directory\n"
    assert not list(tmp_path.iterdir())


def test_external_data_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(network(), tmp_path / "in.onnx", external=True)
    (data,) = tmp_path.glob("in.onnx.*.data")
    data.unlink()
    done = compile_file(None, tmp_path, capsys)
    assert done.code == 2 and done.written == ()
    assert "'w'" in done.err and "is missing" in done.err and data.name in done.err


@pytest.mark.parametrize("flag", ["-o", "--json", "--map"])
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("nowhere/file", "No such file"),
        ("in.onnx/file", "Not a directory"),
        (".", "is a folder"),
        ("in.onnx", "is read and cannot be written as well"),
        ("o" * 300, "name too long"),
    ],
)
def test_outputs_that_cannot_be_written(
    flag: str, place: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = compile_file(network(), tmp_path, capsys, flag, str(tmp_path / place))
    assert done.code == 2 and done.written == ()
    assert words in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize("flag", ["-o", "--json", "--map"])
def test_a_full_disk_leaves_no_file(flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = compile_file(network(), tmp_path, capsys, flag, "/dev/full", "-q")
    assert done.code == 2 and done.written == ()
    assert done.err == "reptran-compile: cannot write /dev/full: No space left on device\n"


def test_two_outputs_are_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = compile_file(network(), tmp_path, capsys, "--json", str(tmp_path / "." / "out.onnx"))
    assert done.code == 2 and done.written == () and "out.onnx cannot hold two outputs" in done.err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("def (", "SyntaxError"),
        ("answer = 42", "defines no rule"),
        ("1 / 0", "division by zero"),
        ("raise SystemExit(7)", "ended the process (exit code 7)"),
    ],
)
@pytest.mark.parametrize("listing", [False, True])
def test_rules_files_that_cannot_be_used(
    listing: bool, content: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules.py"
    if content is not None:
        rules.write_text(content)
    flags = ["--rules", str(rules), *(["--list-passes"] if listing else [])]
    done = compile_file(network(), tmp_path, capsys, *flags)
    assert done.code == 2 and done.written == ()
    assert "--rules" in done.err and words in done.err and "Traceback" not in done.err


def test_verbose_names_the_passes_that_were_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = compile_file(explained(), tmp_path, capsys, "-v")
    assert done.code == 0, done.err
    assert re.search(r"^passes applied: .*straight-through 1\b.*replicate-input 1\b", done.out, re.MULTILINE)


def test_passes_are_listed_with_their_effects(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list-passes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["pass", "phase", "effect", "cost"]
    rows = [line for line in lines[1:] if not line.startswith(" ")]
    effects = {row.split()[0]: row.split()[2] for row in rows}
    assert effects["straight-through"] == "preserves" and "replicates" in effects.values()
    assert all(len(row.split()) > 2 for row in rows), "each says what it does"


def test_listed_passes_are_those_that_are_chosen_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list-passes", "--passes", "sign-from-cast, sign-from-where"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["sign-from-cast", "sign-from-where"]
    assert main(["--list-passes", "--passes", "polish"]) == 2
    assert "'polish'" in capsys.readouterr().err
    assert main(["--list-passes", "--passes", "sign-from-kast"]) == 2
    assert "'sign-from-cast'" in capsys.readouterr().err, "the name that was meant"


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ("layer", ["binary Conv layer", "repconv"]),
        ("stem", ["Conv layer, stem"]),
        ("soft", ["boundary", "Softmax"]),
        ("residue", ["straight-through", "applied"]),
        ("pool", ["carry-pooling", "applied"]),
        ("residue", ["in the canonical form, Sign", "takes its place", "carry-pointwise: applied"]),
        ("tanh", ["not in the canonical form: straight-through at Add 'residue' does without it"]),
        ("s", ["an output of Add 'residue'", "straight-through: applied"]),
    ],
)
def test_a_node_is_explained(node: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = compile_file(explained(), tmp_path, capsys, "--explain", node)
    assert done.code == 0 and done.err == "" and done.written == (), "nothing is written"
    assert done.out.startswith(f"{node}:\n")
    for word in words:
        assert word in done.out


def test_a_node_that_there_is_not_is_answered_with_those_like_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = compile_file(explained(), tmp_path, capsys, "--explain", "layers")
    assert done.code == 2 and "no node 'layers'" in done.err and "'layer'" in done.err


def test_sizes_of_dynamic_axes_count_for_explanations_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = network()
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"size{axis}"
    flags = ("--explain", "layer", "--dim", "size2=5", "--dim", "size3=7")
    assert compile_file(model, tmp_path, capsys, *flags).code == 0


def test_a_size_for_an_axis_that_there_is_not_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = compile_file(network(), tmp_path, capsys, "--dim", "hieght=5")
    assert done.code == 2 and done.written == ()
    assert "no input has a dynamic axis 'hieght'" in done.err


def test_a_model_is_not_written_to_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.onnx").write_bytes(network().SerializeToString())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main([str(tmp_path / "in.onnx"), "-o", "-"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "is a terminal" in said.err


def explained() -> ModelProto:
    """A network with a straight-through residue, a boundary, and nodes that no rule asks about."""
    return network(
        helper.make_node("Sign", ["a"], ["b"], name="sign"),
        helper.make_node("Tanh", ["a"], ["p"], name="tanh"),
        helper.make_node("Sub", ["b", "p"], ["d"], name="difference"),
        helper.make_node("Add", ["d", "p"], ["s"], name="residue"),
        behind=[helper.make_node("Softmax", ["y"], ["t"], name="soft", axis=1)],
    )


# -- streams and folders -------------------------------------------------------------------------------------


def command(folder: Path, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, in a folder."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "passes")))
    return subprocess.run(
        [sys.executable, "-m", "reptran_compiler", *words],
        cwd=folder,
        input=stdin,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=False,
    )


def test_a_pipe_carries_models_and_nothing_else(tmp_path: Path) -> None:
    done = command(tmp_path, "-", "-o", "-", stdin=network().SerializeToString())
    assert done.returncode == 0, done.stderr.decode()
    model = ModelProto.FromString(done.stdout)
    onnx.checker.check_model(model)
    assert b"verified: " in done.stderr and not list(tmp_path.iterdir())


def test_a_pipe_that_carries_no_model(tmp_path: Path) -> None:
    done = command(tmp_path, "-", "-o", "-")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"reptran-compile: standard input is empty\n"


def test_a_report_on_standard_output_is_json_alone(tmp_path: Path) -> None:
    done = command(tmp_path, "-", "-o", "out.onnx", "--json", "-", stdin=network().SerializeToString())
    assert done.returncode == 0 and json.loads(done.stdout)["status"] == "compiled"


def test_external_data_lies_beside_its_model_wherever_one_stands(tmp_path: Path) -> None:
    models, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    models.mkdir()
    elsewhere.mkdir()
    write_model(network(), models / "in.onnx", external=True)
    done = command(elsewhere, "../models/in.onnx", "-o", "../models/out.onnx", "--external-data")
    assert done.returncode == 0, done.stderr.decode()
    assert not list(elsewhere.iterdir())
    names = sorted(re.sub("[0-9a-f]{16}", "DIGEST", path.name) for path in models.iterdir())
    assert names == ["in.onnx", "in.onnx.DIGEST.data", "out.onnx", "out.onnx.DIGEST.data"]
    assert command(models, "in.onnx", "-o", "embedded.onnx").returncode == 0
    assert read_model(models / "out.onnx").model == onnx.load(str(models / "embedded.onnx"))
