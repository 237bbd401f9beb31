"""A limit to the time that a call may take: a call that does not come back is ended, in whichever thread it runs."""

from __future__ import annotations

import ctypes
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

#: How many seconds lie between two attempts to end a call, and between two looks at whether there is one.
_AGAIN, _LOOK = 0.05, 1.0
#: Behind so many attempts a call is taken to be blocked outside of Python, and is interrupted as by Ctrl-C.
_BLOCKED = 4


class TookTooLong(Exception):
    """A call was ended; the message says behind which time."""


class _End(BaseException):
    """Raised inside a call that is ended. No `except Exception` of the call's keeps it."""


@dataclass
class _Call:
    """A call that is under way, in a thread, and when it has to be back (of `time.monotonic`)."""

    thread: int
    end: float
    attempts: int = 0
    back: bool = False


class TimeLimit:
    """Ends calls that take longer than so many seconds.

    A loop in Python is ended in any thread, a call that is blocked (it sleeps or reads) in the main thread. One that
    computes outside of Python without letting other threads run cannot be ended.

    Attributes:
        seconds: the limit; infinite for none.
    """

    def __init__(self, seconds: float = math.inf) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._call: _Call | None = None
        self._watched = False

    def run(self, function: Callable[[], T]) -> T:
        """What a function returns. Calls do not overlap, nor lie in each other.

        Raises:
            TookTooLong: it took longer than the limit, and was ended.
        """
        if math.isinf(self.seconds):
            return function()
        call = _Call(threading.get_ident(), time.monotonic() + self.seconds)
        with self._lock:
            self._call = call
            if not self._watched:
                self._watched = True
                threading.Thread(target=self._watch, name="reptran-time-limit", daemon=True).start()
        try:
            with self._wakeable():
                try:
                    return function()
                finally:
                    self._done(call)
        except BaseException:
            self._done(call)
            if not call.attempts:
                raise
        raise TookTooLong(f"it did not end within {self.seconds:g} s")

    def _done(self, call: _Call) -> None:
        """No attempt to end a call is made from here on, and one that is under way is taken back."""
        with self._lock:
            if call.back:
                return
            call.back, self._call = True, None
            if call.attempts:
                _raise_in(call.thread, None)

    @contextmanager
    def _wakeable(self) -> Iterator[None]:
        """Let the main thread be woken where Ctrl-C is ignored, as in the background of a shell: by an alarm that
        nobody else uses."""
        main = threading.current_thread() is threading.main_thread()
        if not main or _interruptible() or not _alarm_is(signal.SIG_DFL):
            yield
            return
        signal.signal(signal.SIGALRM, self._alarmed)
        try:
            yield
        finally:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def _alarmed(self, number: int, frame: object) -> None:
        if self._call is not None:
            raise _End

    def _watch(self) -> None:
        """Wait for calls that are late; ends where there is none for a while."""
        idle = False
        while True:
            with self._lock:
                call = self._call
                if call is None and idle:
                    self._watched = False
                    return
                idle = call is None
                wait = _LOOK if call is None else min(_LOOK, call.end - time.monotonic())
                if call is not None and wait <= 0:
                    wait = _AGAIN
                    call.attempts += 1
                    _raise_in(call.thread, _End)
                    if call.attempts >= _BLOCKED:
                        self._interrupt(call.thread)
            time.sleep(wait)

    def _interrupt(self, thread: int) -> None:
        """Wake a thread that waits for the system: the main one alone, where signals arrive."""
        if thread != threading.main_thread().ident or not hasattr(signal, "pthread_kill"):
            return
        if _interruptible():
            signal.pthread_kill(thread, signal.SIGINT)
        elif _alarm_is(self._alarmed):
            signal.pthread_kill(thread, signal.SIGALRM)


def _interruptible() -> bool:
    """Whether Ctrl-C has its usual meaning."""
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _alarm_is(handler: object) -> bool:
    return hasattr(signal, "SIGALRM") and signal.getsignal(signal.SIGALRM) == handler


def _raise_in(thread: int, what: type[BaseException] | None) -> None:
    """Let a thread raise an exception at its next step in Python; None takes back one that it has not raised yet."""
    pointer = None if what is None else ctypes.py_object(what)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), pointer)
