"""Faults at a file-system operation: work runs in a process of its own, which is hit at its n-th operation.

Operations are everything by which a process writes files: opening, writing (in small pieces), settling, locking,
listing, renaming, removing. A fault comes before the operation, or in the middle of a piece that is written.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reptran_compiler.cli.signals import TERMINATED, Terminated, terminable
from reptran_compiler.errors import CompileError
from reptran_compiler.model import parts

INTERRUPTED = 130
CRASHED = 4
#: How many bytes one write takes at most, so that files are written in several.
PIECE = 1 << 16

_EVENTS = frozenset({"open", "os.rename", "os.remove", "os.listdir", "os.scandir", "fcntl.flock"})


@dataclass(frozen=True)
class Fault:
    """What happens at an operation.

    Attributes:
        name: what it is called.
        signal: a signal that the process gets; None for none.
        errno: an error that the operation gives; None for none.
        kinds: the kinds of operations that it happens to; empty for all.
        lasting: whether all later operations of these kinds give the error as well.
    """

    name: str
    signal: int | None = None
    errno: int | None = None
    kinds: frozenset[str] = frozenset()
    lasting: bool = False

    def hits(self, kind: str) -> bool:
        """Whether operations of a kind can be hit."""
        return not self.kinds or kind in self.kinds


@dataclass(frozen=True)
class Ending:
    """How work ended.

    Attributes:
        code: its exit code: 0, 2 where a file could not be written, 130, 143, 4 for any other exception; the
            negative number of the signal that killed it.
        operations: the kinds of the operations that it came to, in order.
    """

    code: int
    operations: tuple[str, ...]


def perform(work: Callable[[], object], log: Path, fault: Fault | None = None, at: int = 0) -> Ending:
    """Do some work in a forked process.

    Args:
        work: what it does.
        log: a scratch file, elsewhere than where the work is done.
        fault: what happens.
        at: at which of the operations that it can happen to, from 0.
    """
    log.write_bytes(b"")

    def watched() -> None:
        _Watch(log, fault, at).begin()
        work()

    return Ending(wait(start(watched)), tuple(log.read_text().split()))


def start(work: Callable[[], object]) -> int:
    """Begin some work in a forked process; its id."""
    child = os.fork()
    if not child:
        code = CRASHED
        try:
            code = _ended(work)
        finally:
            os._exit(code)
    return child


def wait(child: int) -> int:
    """The exit code of a forked process; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _ended(work: Callable[[], object]) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with terminable():
            work()
    except CompileError as error:
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Terminated:
        return TERMINATED
    return 0


class _Watch:
    """Counts the operations of this process, for good, and lets a fault happen."""

    def __init__(self, log: Path, fault: Fault | None, at: int) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND)
        self._fault, self._at, self._count = fault, at, 0

    def begin(self) -> None:
        # No power fails here: what was written is there without being settled, which takes long.
        os.__dict__["fsync"] = lambda handle: self.operation("fsync")
        parts.__dict__["open"] = self._open
        sys.addaudithook(lambda event, _: self.operation(event) if event in _EVENTS else None)

    def operation(self, kind: str, half: Callable[[], object] | None = None) -> None:
        os.write(self._log, f"{kind}\n".encode())
        fault = self._fault
        if fault is None or not fault.hits(kind):
            return
        self._count += 1
        if self._count - 1 != self._at and not (fault.lasting and self._count > self._at):
            return
        if half is not None:
            half()
        if fault.signal is not None:
            os.kill(os.getpid(), fault.signal)
        if fault.errno is not None:
            raise OSError(fault.errno, os.strerror(fault.errno))

    def _open(self, path: Path, mode: str) -> Any:
        return io.BufferedWriter(_Written(self, path, mode), PIECE)


class _Written(io.FileIO):
    """A file that is written in pieces."""

    def __init__(self, watch: _Watch, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._watch = watch

    def write(self, data: Any) -> int:
        piece = memoryview(data)[:PIECE]
        self._watch.operation("write", lambda: super(_Written, self).write(piece[: len(piece) // 2]))
        return super().write(piece) or 0
