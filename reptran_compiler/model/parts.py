"""Half-written files: beside their place under a hidden name, locked while their process lives, renamed when whole."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # no POSIX: what killed processes left is not recognised, and stays
    fcntl = None  # type: ignore[assignment,unused-ignore]

_ATTEMPTS = 16
#: After how many bytes the disk is given what was written.
_STRETCH = 1 << 26


class Part:
    """A file that is being written, next to the place that it is for.

    A killed process leaves it behind, without its lock: the next part for the same place removes it. Methods
    raise `OSError`.

    Args:
        place: where the whole file will be.
    """

    def __init__(self, place: Path) -> None:
        self._folder = place.parent
        self._digest = hashlib.sha256(os.fsencode(place.name)).hexdigest()[:12]
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._unsettled = 0
        self._settling: Future[None] | None = None

    @property
    def is_there(self) -> bool:
        """Whether it has begun, and has not appeared yet."""
        return self._path is not None and self._path.exists()

    def begin(self) -> None:
        """Create the file and open it for writing."""
        for left in self._folder.glob(f".{self._digest}.*.part"):
            _remove_unlocked(left)
        for _ in range(_ATTEMPTS):
            self._path = self._folder / f".{self._digest}.{secrets.token_hex(4)}.part"
            try:
                file = self._file = open(self._path, "xb")
            except FileExistsError:
                self._path = None
                continue
            if _lock(file, self._path):
                return
            file.close()  # another process takes it for one that was left behind, and removes it
        raise OSError(f"no part of a file can be kept in {self._folder}")

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes. The disk takes those of a large file while others are computed: `settle` has less to wait for."""
        assert self._file is not None, "it has begun"
        self._file.write(data)
        self._unsettled += len(data)
        if self._unsettled >= _STRETCH and (self._settling is None or self._settling.done()):
            self._settled()
            self._unsettled = 0
            pool = ThreadPoolExecutor(1, "reptran-settle")
            self._settling = pool.submit(os.fsync, self._file.fileno())
            pool.shutdown(wait=False)

    def settle(self) -> None:
        """See that every byte is on the disk."""
        assert self._file is not None, "it has begun"
        self._settled()
        self._file.flush()
        os.fsync(self._file.fileno())

    def _settled(self) -> None:
        """Wait for what the disk is given meanwhile. What it reports there, it does not report again."""
        settling, self._settling = self._settling, None
        if settling is not None:
            settling.result()

    def appear(self, place: Path) -> None:
        """Be the file at a place in the same folder, instead of the one that may be there."""
        assert self._file is not None and self._path is not None, "it has begun"
        if fcntl is None:
            self._file.close()  # where a file that is open cannot be renamed
        os.replace(self._path, place)
        self._file.close()

    def vanish(self) -> None:
        """Leave nothing behind, unless it has appeared."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()
        with suppress(OSError):
            self._settled()
        if self._file is not None:
            with suppress(OSError):
                self._file.close()


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Wait until no other process renames files in a folder, and keep others waiting; whether that is possible."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        locked = fcntl is not None
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            locked = False  # a file system without locks
        yield locked
    finally:
        os.close(handle)


def settle_folder(folder: Path) -> None:
    """See that what was renamed in a folder stays so, where its file system can tell."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_unlocked(path: Path) -> None:
    """Remove a part that no process holds."""
    if fcntl is None:
        return
    with suppress(OSError), open(path, "rb+") as file:
        if _lock(file, path):
            path.unlink()


def _lock(file: BinaryIO, path: Path) -> bool:
    """Hold a file until it is closed; whether that was possible, and it is still the one at its path.

    Where files cannot be locked, a part counts as held by whoever created it, and as held when found.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return False
    except OSError:
        return file.mode == "xb"
