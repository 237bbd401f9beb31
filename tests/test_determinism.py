"""The same input gives the same bytes, in any process; what is interrupted leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import ModelProto
from tiny_networks import joined

from reptran_compiler import compile_model
from reptran_compiler.rewriting import region
from reptran_compiler.runtime import Session

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-m", "reptran_compiler")


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that finds the packages where this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "passes"))), **more}


def run(folder: Path, seed: str, *flags: str) -> dict[str, bytes]:
    """What one run in a process of its own writes to a folder."""
    folder.mkdir()
    (folder / "in.onnx").write_bytes(joined().SerializeToString(deterministic=True))
    words = ("in.onnx", "-o", "out.onnx", "--map", "map.json", "--dump-dir", "dump", *flags)
    done = subprocess.run(
        [*COMMAND, *words],
        cwd=folder,
        env=environment(PYTHONHASHSEED=seed),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("flags", [(), ("--bn", "keep", "--fc", "fold", "--weights", "binary"), ("--scope", "layer")])
def test_every_process_writes_the_same_bytes(flags: tuple[str, ...], tmp_path: Path) -> None:
    first, second = (run(tmp_path / seed, seed, *flags) for seed in ("0", "12345"))
    assert first.keys() == second.keys() and {"out.onnx", "map.json"} < first.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_threads_change_nothing_that_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are for what takes long: a rule's effect on small maps is executed by one."""
    started: list[int] = []

    def session(model: ModelProto, *, threads: int = 1) -> Session:
        started.append(threads)
        return Session(model, threads=threads)

    monkeypatch.setattr(region, "Session", session)
    written = []
    for threads, least, used in ((1, 0, {1}), (2, region._WORTH_THREADS, {1}), (2, 0, {2})):
        started.clear()
        monkeypatch.setattr(region, "_WORTH_THREADS", least)
        out = tmp_path / f"{len(written)}.onnx"
        assert compile_model(joined(), threads=threads, output=out).verified
        assert set(started) - {1} == used - {1} and started
        written.append(out.read_bytes())
    assert written[0] == written[1] == written[2]


def test_beta_one_gives_the_bytes_of_the_source_back(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    # Not what protobuf would write: the producer's name comes last.
    payload = joined().SerializeToString() + ModelProto(producer_name="by hand").SerializeToString()
    (folder / "in.onnx").write_bytes(payload)
    words = ("in.onnx", "--beta", "1", "-o", "out.onnx")
    done = subprocess.run([*COMMAND, *words], cwd=folder, env=environment(), capture_output=True, check=False)
    assert done.returncode == 0 and b"unchanged" in done.stdout
    assert (folder / "out.onnx").read_bytes() == payload


#: The command, with a signal from its user while it is busy with what is named in its first argument.
INTERRUPTED = """
import os, signal, sys
from reptran_compiler import compilation
from reptran_compiler.cli.main import main
from reptran_compiler.model.parts import Part

def interrupt(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
moment, *words = sys.argv[1:]
if moment == "writing":
    Part.settle = interrupt
else:
    setattr(compilation, moment, interrupt)
sys.exit(main(words))
"""


@pytest.mark.parametrize("moment", ["read_model", "try_source", "transform_source", "judge", "writing"])
@pytest.mark.parametrize("flags", [(), ("--external-data",)])
def test_an_interrupted_run_leaves_no_file(moment: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(joined().SerializeToString())
    (tmp_path / "out.onnx").write_bytes(b"before")
    words = ("in.onnx", "-o", "out.onnx", "--map", "map.json", "--json", "report.json", *flags)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, moment, *words],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr == "reptran-compile: interrupted\n" and done.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.onnx", "out.onnx"]
    assert (tmp_path / "out.onnx").read_bytes() == b"before"


def test_the_function_writes_what_the_command_writes(tmp_path: Path) -> None:
    written = run(tmp_path / "command", "0", "--beta", "3", "--fc", "fold", "--exclude", "one")
    source = tmp_path / "command" / "in.onnx"
    compile_model(source, 3, output=tmp_path / "out.onnx", map_file=tmp_path / "map.json", fc="fold", exclude=["one"])
    assert {name: (tmp_path / name).read_bytes() for name in ("out.onnx", "map.json")} == {
        name: written[name] for name in ("out.onnx", "map.json")
    }
