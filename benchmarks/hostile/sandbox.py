"""One file given to `reptran-compile` in a process of its own, and whether that ended as it has to.

The processes are forks of this one, which has imported everything: a file costs no start of an interpreter.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.hostile.rechecking import complaint_about
from reptran_compiler.cli.main import main

#: What a file may take: seconds of CPU time, bytes resident.
CPU_SECONDS = 20
#: Seconds on the clock after which a process that sleeps is taken to sleep for ever; many, for machines with a load.
_CLOCK_SECONDS = 900
RESIDENT_BYTES = 1_500_000_000
#: Bytes of address space above what the process has at the start: beyond the resident limit, it protects the machine.
_ADDRESS_BYTES = 3_000_000_000

_CODES = (0, 1, 2)
_NOT_AN_ANSWER = re.compile(r"Traceback|internal error|std::bad_alloc|not enough memory")
_CHANGING = re.compile(r"'[^']*'|\"[^\"]*\"|\([^)]*\)|\S*[\d/\\:]\S*|[^ -~]+")


@dataclass(frozen=True)
class Outcome:
    """What came of one file.

    Attributes:
        code: the exit code; minus the signal's number where the process was killed.
        message: the first line on standard error.
        failure: why this is no proper end; "" where it is one.
        seconds: CPU time.
        resident: peak resident memory in bytes.
    """

    code: int
    message: str
    failure: str
    seconds: float
    resident: int

    @property
    def skeleton(self) -> str:
        """The message without names and numbers: files of one skeleton took the same way through the compiler."""
        return " ".join(_CHANGING.sub("_", self.message.removeprefix("reptran-compile: ")).split())[:100]


@dataclass(frozen=True)
class Running:
    """A file that is being compiled in a process of its own.

    Attributes:
        pid: its process.
        handle: a file descriptor that is readable when the process has ended.
        folder: where it runs; `in.onnx` is the file.
        deadline: when it is killed, on the clock of `time.monotonic`.
    """

    pid: int
    handle: int
    folder: Path
    deadline: float

    @property
    def late(self) -> bool:
        """Whether it has had its time."""
        return time.monotonic() >= self.deadline


def start(payload: bytes, folder: Path) -> Running:
    """Begin to compile a file of these bytes, in a new folder."""
    folder.mkdir()
    (folder / "in.onnx").write_bytes(payload)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _live_and_die(folder)
    return Running(pid, os.pidfd_open(pid), folder, time.monotonic() + _CLOCK_SECONDS)


def finish(running: Running, *, keep: Path | None = None) -> Outcome:
    """What came of a file. Its process has ended, or is killed now; its folder goes.

    Args:
        running: the file.
        keep: where to keep a copy of the file if it failed.
    """
    late = running.late
    if late:
        os.kill(running.pid, signal.SIGKILL)
    _, status, usage = os.wait4(running.pid, 0)
    os.close(running.handle)
    code = os.waitstatus_to_exitcode(status)
    folder = running.folder
    said = (folder / "stderr").read_text("utf-8", "replace") if (folder / "stderr").exists() else ""
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
    resident = usage.ru_maxrss * 1024
    seconds = usage.ru_utime + usage.ru_stime
    failure = "hangs" if late else _failure(code, said, left, resident)
    message = said.splitlines()[0] if said.strip() else ""
    if failure and keep is not None:
        shutil.copy(folder / "in.onnx", keep)
    shutil.rmtree(folder)
    return Outcome(code, message, failure, seconds, resident)


def _live_and_die(folder: Path) -> None:
    """The new process: compile, compare, and end with the exit code."""
    try:
        os.chdir(folder)
        _redirect("stdout", 1)
        _redirect("stderr", 2)
        os.mkdir("tmp")
        os.environ["TMPDIR"] = str(folder / "tmp")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + _ADDRESS_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        code = main(["in.onnx", "-o", "out.onnx"])
        if code == 0 and Path("out.onnx").exists():
            complaint = complaint_about(Path("in.onnx"), Path("out.onnx"))
            if complaint:
                Path("complaint").write_text(complaint)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it must not reach the loop of the parent
        os.write(2, f"Traceback: {type(error).__name__}: {error}\n".encode())
        os._exit(70)
    os._exit(code)


def _redirect(name: str, descriptor: int) -> None:
    """Let a standard stream go to a file of its name, for Python and for libraries in C."""
    file = os.open(name, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, descriptor)
    setattr(sys, name, open(descriptor, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - lives as the process


def _failure(code: int, said: str, left: list[str], resident: int) -> str:
    """Why an end is no proper one; "" where it is."""
    if code < 0:
        name = signal.Signals(-code).name
        return "hangs" if name == "SIGXCPU" else f"killed by {name}"
    if code not in _CODES:
        return f"exit code {code}"
    if found := _NOT_AN_ANSWER.search(said):
        return f"the message says {found.group()}"
    if "complaint" in left:
        return "the result is wrong"
    expected = {"in.onnx", "stdout", "stderr", *(["out.onnx"] if code == 0 else [])}
    if set(left) != expected:
        return f"files: {', '.join(sorted(set(left) ^ expected))}"
    if code and (said.count("\n") != 1 or not said.startswith("reptran-compile: ")):
        return "not one line of message"
    if any(ord(letter) < 32 and letter != "\n" or ord(letter) == 127 for letter in said):
        return "control characters in the message"
    if resident > RESIDENT_BYTES:
        return f"{resident / 1e9:.1f} GB of memory"
    return ""
