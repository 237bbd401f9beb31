"""sha256 of large data, found by a thread of its own while other work goes on."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

#: How many bytes are read at once; fewer are not worth a thread.
_PIECE = 1 << 20
#: How many pieces may wait for the thread that hashes them: more would only take memory.
_WAITING = 8


@dataclass(frozen=True)
class Stretch:
    """Bytes of a file."""

    place: Path
    offset: int
    length: int

    def read(self) -> Iterator[bytes]:
        """The bytes, a piece at a time; fewer where the file ends before. `OSError` where it cannot be read."""
        with self.place.open("rb") as file:
            file.seek(self.offset)
            left = self.length
            while left and (piece := file.read(min(left, _PIECE))):
                yield piece
                left -= len(piece)


class Hash(Protocol):
    """What is fed pieces of data, as those of `hashlib` are."""

    def update(self, piece: bytes | memoryview, /) -> object:
        """Take the next piece."""


def sha256_of(pieces: Sequence[bytes | Stretch]) -> Future[str]:
    """The sha256 of pieces of data, as hexadecimal digits. Of large ones it is found while other work goes on.

    Its `result` raises `OSError` where a file cannot be read.
    """
    if sum(len(piece) if isinstance(piece, bytes) else piece.length for piece in pieces) < _PIECE:
        return known(_digits(pieces))
    pool = ThreadPoolExecutor(1, "reptran-sha256")
    try:
        return pool.submit(_digits, pieces)
    finally:
        pool.shutdown(wait=False)


def known(digits: str) -> Future[str]:
    """A digest that is there already."""
    found: Future[str] = Future()
    found.set_result(digits)
    return found


@contextmanager
def beside(digest: Hash) -> Iterator[Hash]:
    """What hands pieces on to a digest in the order that they come in, and does not wait for it; it has them all in the
    end. A piece must not change after it was handed over."""
    with ThreadPoolExecutor(1, "reptran-sha256") as pool:
        yield _Beside(digest, pool)


class _Beside:
    def __init__(self, digest: Hash, pool: ThreadPoolExecutor) -> None:
        self._digest, self._pool = digest, pool
        self._waiting: deque[Future[object]] = deque()

    def update(self, piece: bytes | memoryview, /) -> None:
        if len(self._waiting) == _WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._digest.update, piece))


def _digits(pieces: Iterable[bytes | Stretch]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        for part in (piece,) if isinstance(piece, bytes) else piece.read():
            digest.update(part)
    return digest.hexdigest()
