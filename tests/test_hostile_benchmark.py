"""The benchmark of hostile files can fail: whatever a command must not do, it sees."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from small_networks import network

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the benchmark is for Linux")

from benchmarks.hostile import __main__ as command  # noqa: E402
from benchmarks.hostile import campaign as campaigns  # noqa: E402
from benchmarks.hostile import sandbox  # noqa: E402
from benchmarks.hostile.mutating import KINDS, mutate  # noqa: E402

Main = Callable[[Sequence[str]], int]


def says(text: str, code: int = 2) -> int:
    print(text, file=sys.stderr)
    return code


def refuses(_: Sequence[str]) -> int:
    return says("reptran-compile: no")


def crashes(_: Sequence[str]) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def spins(_: Sequence[str]) -> int:
    while True:
        pass


def raises(_: Sequence[str]) -> int:
    raise RuntimeError("unexpected")


def sleeps(_: Sequence[str]) -> int:
    time.sleep(1000)
    return 0


def fills_memory(_: Sequence[str]) -> int:
    np.ones(30_000_000, np.float64)
    return refuses(_)


def leaves_a_file(_: Sequence[str]) -> int:
    Path("out.onnx.part").write_bytes(b"")
    return refuses(_)


def leaves_a_temporary_file(_: Sequence[str]) -> int:
    Path(os.environ["TMPDIR"], "weights").write_bytes(b"")
    return refuses(_)


def writes_nothing(_: Sequence[str]) -> int:
    return 0


def writes_something_else(_: Sequence[str]) -> int:
    model = network()
    model.graph.output[0].name = model.graph.node[-1].output[0] = "other"
    Path("out.onnx").write_bytes(model.SerializeToString())
    return 0


FAILURES: dict[str, tuple[Main, str]] = {
    "a crash": (crashes, "killed by SIGKILL"),
    "a loop": (spins, "hangs"),
    "a sleep": (sleeps, "hangs"),
    "an exception": (raises, "exit code 70"),
    "an internal error": (lambda _: says("reptran-compile: internal error", 4), "exit code 4"),
    "a failed verification": (lambda _: says("reptran-compile: verification failed", 3), "exit code 3"),
    "memory": (fills_memory, "GB of memory"),
    "a leftover": (leaves_a_file, "out.onnx.part"),
    "a temporary file": (leaves_a_temporary_file, "tmp/weights"),
    "no result": (writes_nothing, "out.onnx"),
    "a wrong result": (writes_something_else, "the result is wrong"),
    "two lines": (lambda _: says("reptran-compile: no\nand no"), "not one line"),
    "an escape sequence": (lambda _: says("reptran-compile: \x1b[2J"), "control characters"),
}


def outcome(main: Main, folder: Path, monkeypatch: pytest.MonkeyPatch) -> sandbox.Outcome:
    """What the sandbox says of a file that `main` compiles."""
    monkeypatch.setattr(sandbox, "main", main)
    monkeypatch.setattr(sandbox, "CPU_SECONDS", 1)
    monkeypatch.setattr(sandbox, "_CLOCK_SECONDS", 1 if main is sleeps else 60)
    (found,) = campaigns.compiled([network().SerializeToString()], 1, folder, 7)
    return found


@pytest.mark.parametrize("kind", FAILURES)
def test_what_must_not_happen_is_seen(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main, words = FAILURES[kind]
    monkeypatch.setattr(sandbox, "RESIDENT_BYTES", 250_000_000 if kind == "memory" else 1 << 40)
    found = outcome(main, tmp_path, monkeypatch)
    assert words in found.failure
    assert (tmp_path / "000007.onnx").read_bytes() == network().SerializeToString(), "the file is kept"


def test_a_refusal_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "RESIDENT_BYTES", 1 << 40)
    found = outcome(refuses, tmp_path, monkeypatch)
    assert (found.code, found.message, found.failure) == (2, "reptran-compile: no", "")
    assert not list(tmp_path.iterdir())


def test_a_seed_gives_the_same_mutants_and_every_kind_of_mutation() -> None:
    parent = network().SerializeToString()
    first, second = ([mutate(parent, np.random.default_rng(seed)) for seed in range(600)] for _ in range(2))
    assert first == second
    assert {kind for mutant in first for kind in mutant.kinds} == set(KINDS)


def test_a_failing_file_ends_the_command_in_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "seeds", lambda: {"network": network().SerializeToString()})
    table = tmp_path / "table.md"
    for main, code in ((refuses, 0), (raises, 1)):
        monkeypatch.setattr(sandbox, "main", main)
        assert command.main(["--count", "3", "-o", str(table)]) == code
        assert f"3 files, {3 * code} fail" in table.read_text()


def test_a_few_mutants_of_a_network_end_as_they_should() -> None:
    assert command.main(["--count", "12", "--seed", "5"]) == 0
