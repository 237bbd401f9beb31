"""`reptran-verify` as a user runs it: flags, exit codes, reports, and what a hostile name can do to them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import onnx
import pytest
from onnx import ModelProto
from verified_pairs import ROOT, change, node, original, rep, retrained

from reptran_compiler.cli.verify import main
from reptran_compiler.gate import verify_pair
from reptran_compiler.reporting import Check, Verification, error_annotations, to_junit, to_markdown


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current one, with `net.onnx` and `rep.onnx`."""
    onnx.save(original("plain"), tmp_path / "net.onnx")
    onnx.save(rep("plain"), tmp_path / "rep.onnx")
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def spoil(model: ModelProto, layer: str = "one") -> ModelProto:
    """The signs of a layer turned."""
    change(model, node(model, layer).input[1], lambda value: -value)
    return model


def test_help_is_light() -> None:
    code = (
        "import sys\n"
        "from reptran_compiler.cli.verify import main\n"
        "assert main(['--help']) == 0\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'onnx_graphsurgeon', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    for flag in ("--beta", "--scope", "--retrained", "--budget", "--junit", "exit codes", "peak-activation-bytes"):
        assert flag in done.stdout


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["rep.onnx", "--budget", "macs"], "NAME=GROWTH"),
        (["rep.onnx", "--budget", "speed=0"], "there is no 'speed'; there are macs"),
        (["rep.onnx", "--budget", "macs=4x"], "'4x' is no number"),
        (["rep.onnx", "--budget", "macs<=4%"], "one of growth"),
        (["rep.onnx", "--budget", "macs<=-1"], "has no sign"),
        (["rep.onnx", "--budget", "macs=4MB"], "not counted in bytes"),
        (["rep.onnx", "--beta", "1", "--ignore-metadata"], "at least 2"),
        (["rep.onnx", "--beta", "4"], "--beta 4 contradicts rep.onnx, whose metadata records beta 2"),
        (["rep.onnx", "--fc", "wide"], "--fc"),
        (["rep.onnx", "--json", "-", "--junit", "-"], "standard output"),
        (["rep.onnx", "--json", "a", "--junit", "a"], "cannot hold two outputs"),
        (["rep.onnx", "--json", "net.onnx"], "is read and cannot be written"),
        (["rep.onnx", "--junit", "no/such/folder"], "cannot write"),
        (["none.onnx"], "No such file"),
        (["text.onnx"], "no ONNX model"),
        ([], "REP"),
    ],
)
def test_what_cannot_be_used_is_refused(
    flags: list[str], words: str, pair: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pair / "text.onnx").write_text("no model")
    before = {path.name: path.read_bytes() for path in pair.iterdir()}
    assert main(["net.onnx", *flags]) == 2
    said = capsys.readouterr()
    assert words in said.err and said.out == ""
    assert said.err.startswith("reptran-verify: ") and said.err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in pair.iterdir()} == before


def test_codes_and_messages(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0, 1 and 3, each with what a reader looks for; the first line of the errors is the message."""
    assert main(["net.onnx", "rep.onnx"]) == 0
    said = capsys.readouterr()
    assert "verified in" in said.out and said.err == ""
    assert main(["net.onnx", "rep.onnx", "-q", "--budget", "nodes=0", "--budget", "macs<=1"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "exceeded by" in said.err and "also: macs<=1" in said.err
    onnx.save(spoil(rep("plain")), pair / "rep.onnx")
    assert main(["net.onnx", "rep.onnx", "--budget", "macs<=1"]) == 3
    said = capsys.readouterr()
    assert "'one'" in said.err and "--retrained" in said.err
    onnx.save(retrained(rep("plain")), pair / "rep.onnx")
    assert main(["net.onnx", "rep.onnx", "--retrained", "-v"]) == 0
    assert "layer one" in capsys.readouterr().out


def test_reports_say_the_same(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(spoil(rep("plain")), pair / "rep.onnx")
    flags = ["--budget", "macs<=1", "--budget", "nodes=+100"]
    assert main(["net.onnx", "rep.onnx", *flags, "--json", "-", "--junit", "r.xml"]) == 3
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["schema"] == "reptran-verify/1" and document["exit_code"] == 3 and not document["passed"]
    assert document["mode"] == "values" and document["beta"] == 2 and document["costs"]["invariant"]
    results = {check["name"]: check["result"] for check in document["checks"]}
    suite = ElementTree.parse(pair / "r.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == (str(len(results)), "2")
    cases = {case.get("name", "").split(": ")[-1]: case for case in suite.findall("testcase")}
    assert {name: "failed" if case.find("failure") is not None else "passed" for name, case in cases.items()} == results
    assert results["law"] == "failed" and results["one"] == "passed" and results["macs<=1"] == "failed"


def test_equal_files_give_equal_reports(pair: Path) -> None:
    texts = []
    for _ in range(2):
        assert main(["net.onnx", "rep.onnx", "-q", "--json", "r.json"]) == 0
        document = json.loads((pair / "r.json").read_text())
        assert document.pop("seconds") > 0
        texts.append(json.dumps(document))
    assert texts[0] == texts[1]


def test_github_is_told(pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pair / "summary.md"))
    assert main(["net.onnx", "rep.onnx", "-q"]) == 0
    assert capsys.readouterr().out == "", "no annotations elsewhere"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert main(["net.onnx", "rep.onnx", "-q"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["net.onnx", "rep.onnx", "-q", "--budget", "macs<=1"]) == 1
    assert capsys.readouterr().out.startswith("::error file=rep.onnx,title=reptran-verify%3A macs<=1::")
    summary = (pair / "summary.md").read_text()
    assert summary.count("### reptran-verify: passed") == 2 and summary.count("### reptran-verify: FAILED") == 1
    assert main(["net.onnx", "none.onnx", "--junit", "r.xml"]) == 2
    said = capsys.readouterr()
    assert said.out.startswith("::error file=none.onnx,title=reptran-verify::cannot read")
    suite = ElementTree.parse(pair / "r.xml").getroot()[0]
    assert suite.get("errors") == "1" and suite.find("testcase/error") is not None


HOSTILE = "a\n::add-mask::b\r\x00\x1b[31m</testcase>]]>&\"'|`%0A\u202e\ud800\uffff"


def hostile() -> Verification:
    """A verification of files and layers with names that try to be something else."""
    check = Check("layer", HOSTILE, (HOSTILE, "second"))
    return Verification(HOSTILE, HOSTILE, 2, "0", checks=(check, Check("law", "law", detail=HOSTILE)), notes=(HOSTILE,))


def test_junit_holds_any_name() -> None:
    root = ElementTree.fromstring(to_junit(hostile()).encode())
    case = root.findall("*/testcase")
    assert len(case) == 2 and "\\x1b[31m</testcase>" in str(case[0].get("name"))


def test_workflow_commands_end_where_they_should() -> None:
    (line,) = error_annotations(hostile())
    assert "\n" not in line and "\r" not in line and "%0A" not in line and "%250A" in line
    assert line.isprintable() and line.startswith("::error file=a\\n%3A%3Aadd-mask%3A%3Ab")


def test_the_summary_is_one_table() -> None:
    text = to_markdown(hostile())
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4 and all(row.replace("\\|", "").count("|") == 4 for row in rows)
    assert "</testcase>" not in text and not any(line.startswith("::") for line in text.splitlines())


def test_the_console_shows_names_in_one_line(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A layer whose name has lines of its own adds none to what is printed."""
    model, name = rep("plain"), "one\n::error::hello"
    source = ModelProto.FromString(original("plain").SerializeToString())
    for each in (source, model):
        node(each, "one").name = name
    onnx.save(source, pair / "net.onnx")
    onnx.save(spoil(model, name), pair / "rep.onnx")
    assert main(["net.onnx", "rep.onnx", "-v"]) == 3
    said = capsys.readouterr()
    assert not any(line.lstrip().startswith("::") for line in (said.out + said.err).splitlines())


def test_standard_input_and_python_agree(pair: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reptran_compiler.cli.verify", "net.onnx", "-", "--json", "-"],
        input=(pair / "rep.onnx").read_bytes(),
        capture_output=True,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'passes'}", "PATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    made = verify_pair("net.onnx", "rep.onnx")
    assert [check["detail"] for check in document["checks"]] == [check.detail for check in made.checks]
