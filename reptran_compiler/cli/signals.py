"""A request to end, as an exception, so that a command cleans up after itself."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: What a command ends with that SIGTERM ended, as shells say it.
TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Whatever lets Ctrl-C through, as the calls of rules do, lets it through."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` in the body when SIGTERM comes, once; only where signals arrive, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    came = False

    def end(number: int, frame: object) -> None:
        nonlocal came
        came = True
        signal.signal(number, signal.SIG_IGN)  # what is cleaning up already is left to it
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except Exception:
        if came:  # what was interrupted made another error of it
            raise Terminated from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
