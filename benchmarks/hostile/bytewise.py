"""Mutations of a file's bytes, whatever they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Random = np.random.Generator
Bytes = Callable[[bytes, Random], bytes]

#: Bytes that mean something to protobuf: ends of varints, lengths, tags of small fields.
_TELLING = (0x00, 0x01, 0x07, 0x08, 0x0A, 0x12, 0x7F, 0x80, 0xFF)
_LONGEST = 64


def _flip_bits(payload: bytes, random: Random) -> bytes:
    changed = bytearray(payload)
    for place in _places(payload, random):
        changed[place] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _overwrite(payload: bytes, random: Random) -> bytes:
    changed = bytearray(payload)
    for place in _places(payload, random):
        changed[place] = int(random.choice(_TELLING))
    return bytes(changed)


def _truncate(payload: bytes, random: Random) -> bytes:
    return payload[: int(random.integers(len(payload)))]


def _cut_out(payload: bytes, random: Random) -> bytes:
    start, end = _stretch(payload, random)
    return payload[:start] + payload[end:]


def _repeat(payload: bytes, random: Random) -> bytes:
    start, end = _stretch(payload, random)
    return payload[:end] + payload[start:end] * int(random.integers(1, 9)) + payload[end:]


def _insert(payload: bytes, random: Random) -> bytes:
    start, end = _stretch(payload, random)
    return payload[:start] + random.bytes(end - start) + payload[start:]


def _move(payload: bytes, random: Random) -> bytes:
    start, end = _stretch(payload, random)
    rest = payload[:start] + payload[end:]
    place = int(random.integers(len(rest) + 1))
    return rest[:place] + payload[start:end] + rest[place:]


def _append_itself(payload: bytes, random: Random) -> bytes:
    """Concatenated messages merge: every node and tensor is there twice, or those of a part are."""
    return payload + payload[: len(payload) if random.random() < 0.5 else int(random.integers(len(payload)))]


def _places(payload: bytes, random: Random) -> list[int]:
    """Some places: half of the draws in the last tenth, where graph outputs and opsets stand."""
    first = int(random.choice([0, len(payload) * 9 // 10]))
    return [int(place) for place in random.integers(first, len(payload), int(random.choice([1, 1, 2, 4, 16])))]


def _stretch(payload: bytes, random: Random) -> tuple[int, int]:
    start = int(random.integers(len(payload)))
    return start, min(len(payload), start + int(random.integers(1, _LONGEST)))


#: Every mutation of bytes, by name. They ask for one byte at least.
BYTEWISE: Mapping[str, Bytes] = {
    "bits flipped": _flip_bits,
    "bytes overwritten": _overwrite,
    "truncated": _truncate,
    "bytes cut out": _cut_out,
    "bytes repeated": _repeat,
    "bytes inserted": _insert,
    "bytes moved": _move,
    "a file behind itself": _append_itself,
}
