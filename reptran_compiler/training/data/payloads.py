"""The bytes of a file of a data set, packed or not, with one line for whatever is wrong with it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from reptran_compiler.errors import BadInput


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file to read bytes from; one that ends with .gz is unpacked on the way.

    Raises:
        BadInput: it cannot be opened or read, or is packed and damaged.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield cast(IO[bytes], file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"{path} is damaged or truncated ({error}): copy it again") from None
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from None


def exactly(file: IO[bytes], size: int, path: Path, what: str) -> bytes:
    """The rest of a file, which has to be `size` bytes.

    Raises:
        BadInput: it is more or less.
    """
    payload = file.read(size + 1)  # one more than wanted shows a longer file, however long it is
    if len(payload) < size:
        raise BadInput(f"{path} is truncated: {what} take {size:,} bytes, and {len(payload):,} are there")
    if len(payload) > size:
        raise BadInput(f"{path} is malformed: it goes on behind the {size:,} bytes of {what}")
    return payload
