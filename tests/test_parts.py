"""Files that are written: whole or not at all, whatever the disk reports, and when."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reptran_compiler.model import parts
from reptran_compiler.model.hashing import Stretch, beside, sha256_of
from reptran_compiler.model.parts import Part

PIECES = [bytes([number]) * (1000 + number) for number in range(40)]


@pytest.fixture
def small_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_STRETCH", 1500)


def _write(place: Path) -> None:
    part = Part(place)
    try:
        part.begin()
        for piece in PIECES:
            part.write(piece)
        part.settle()
        part.appear(place)
    finally:
        part.vanish()


@pytest.mark.usefixtures("small_stretches")
def test_what_the_disk_is_given_meanwhile_is_the_file(tmp_path: Path) -> None:
    _write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"".join(PIECES)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.usefixtures("small_stretches")
@pytest.mark.parametrize("failing", [1, 2])
def test_an_error_that_the_disk_reports_once_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """The system reports that a file could not be written to the first who asks, and to nobody else."""
    calls: list[int] = []

    def once(settle: Callable[[int], None]) -> Callable[[int], None]:
        def fsync(handle: int) -> None:
            calls.append(handle)
            if len(calls) == failing:
                raise OSError(errno.EIO, "Input/output error")
            settle(handle)

        return fsync

    monkeypatch.setattr(os, "fsync", once(os.fsync))
    with pytest.raises(OSError, match="Input/output"):
        _write(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_digests_are_those_of_the_pieces_in_their_order(tmp_path: Path) -> None:
    whole = b"".join(PIECES) * 60
    (tmp_path / "file").write_bytes(whole)
    expected = hashlib.sha256(whole).hexdigest()
    half = len(whole) // 2
    rest = Stretch(tmp_path / "file", half, len(whole) - half)
    assert len(whole) > 1 << 21
    assert sha256_of([Stretch(tmp_path / "file", 0, len(whole))]).result() == expected
    assert sha256_of([whole[:half], rest]).result() == expected
    assert sha256_of([PIECES[1], PIECES[2]]).result() == hashlib.sha256(PIECES[1] + PIECES[2]).hexdigest()
    digest = hashlib.sha256()
    with beside(digest) as hashed:
        for _ in range(60):
            for piece in PIECES:
                hashed.update(piece)
    assert digest.hexdigest() == expected


def test_a_file_that_is_gone_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sha256_of([bytes(1 << 20), Stretch(tmp_path / "gone", 0, 10)]).result()
