"""Calls that do not come back are ended, whatever the process makes of Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_PROGRAM = """
import time
from reptran_compiler.rewriting.limit import TimeLimit, TookTooLong
limit = TimeLimit(0.2)
for function in (lambda: time.sleep(600), lambda: [None for _ in iter(int, 1)], lambda: time.sleep(600)):
    try:
        limit.run(function)
    except TookTooLong as error:
        print(error)
print(limit.run(lambda: "back"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN], ids=["a terminal", "the background of a shell"])
def test_what_sleeps_and_what_loops_is_ended(handler: signal.Handlers) -> None:
    # A process starts with the signals that its parent ignores ignored.
    before = signal.signal(signal.SIGINT, handler)
    try:
        child = subprocess.Popen([sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    said, _ = child.communicate(timeout=60)
    assert said.splitlines() == ["it did not end within 0.2 s"] * 3 + ["back"]
    assert child.returncode == 0
