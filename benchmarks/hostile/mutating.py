"""One mutant from a file and a random generator."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped,unused-ignore]
from onnx import ModelProto

from benchmarks.hostile.bytewise import BYTEWISE
from benchmarks.hostile.drawing import Change, Nothing, Random
from benchmarks.hostile.graphs import GRAPHS
from benchmarks.hostile.tensors import TENSORS
from benchmarks.hostile.wholes import WHOLES

#: Every kind of mutation, by its name.
STRUCTURAL: dict[str, Change] = {**GRAPHS, **TENSORS, **WHOLES}
KINDS: tuple[str, ...] = (*BYTEWISE, *STRUCTURAL)
#: How many changes of structure a mutant has.
_CHANGES = (1, 1, 1, 2, 3)
#: Every so many mutants, one is of bytes.
_BYTEWISE = 0.25


@dataclass(frozen=True)
class Mutant:
    """A mutated file: its bytes, and what was done to its parent, the last change of structure last."""

    payload: bytes
    kinds: tuple[str, ...]


def mutate(parent: bytes, random: Random) -> Mutant:
    """A mutant of a file, drawn from a generator; equal on every run and machine."""
    if random.random() < _BYTEWISE:
        return _bytewise(parent, random)
    model = ModelProto()
    try:
        model.ParseFromString(parent)
    except DecodeError:
        return _bytewise(parent, random)
    kinds: list[str] = []
    wanted = int(random.choice(_CHANGES))
    while len(kinds) < wanted:
        kind = str(random.choice(list(STRUCTURAL)))
        try:
            STRUCTURAL[kind](model, random)
        except (Nothing, ValueError, TypeError, OverflowError, DecodeError, EncodeError):
            # What is not there, or what protobuf does not hold.
            wanted -= not model.graph.node
            continue
        kinds.append(kind)
    try:
        payload = model.SerializeToString()
    except (EncodeError, ValueError):
        return _bytewise(parent, random)
    return Mutant(payload, tuple(kinds)) if kinds else _bytewise(parent, random)


def _bytewise(parent: bytes, random: Random) -> Mutant:
    if not parent:
        return Mutant(random.bytes(int(random.integers(64))), ("bytes inserted",))
    kind = str(random.choice(list(BYTEWISE)))
    return Mutant(BYTEWISE[kind](parent, random), (kind,))
