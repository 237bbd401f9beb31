"""The catalogue: every careless rule there is."""

from __future__ import annotations

from benchmarks.careless.claims import OTHERS, PRESERVES
from benchmarks.careless.editing import EDITS, REFERENCES
from benchmarks.careless.entries import Careless
from benchmarks.careless.failing import ENDLESS, RAISES, TYPES
from benchmarks.careless.registering import REGISTRATION
from benchmarks.careless.structure import STRUCTURE

CATALOGUE: tuple[Careless, ...] = (
    *RAISES, *ENDLESS, *TYPES, *EDITS, *REFERENCES, *STRUCTURE, *PRESERVES, *OTHERS, *REGISTRATION,
)  # fmt: skip
