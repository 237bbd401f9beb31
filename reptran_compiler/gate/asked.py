"""What a pair of files is verified for: flags, what the Rep network's metadata records, and defaults."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnx import ModelProto

from reptran_compiler import provenance
from reptran_compiler.choices import CHOICES
from reptran_compiler.errors import BadInput
from reptran_compiler.pipeline import Options


@dataclass(frozen=True)
class Asked:
    """Options of the compilation that a Rep network is said to come from; None for what is not said.

    Attributes:
        beta: the replication factor.
        scope, fc, bn, weights, repeat, sign_zero: as the command line's.
        exclude, include: regular expressions over node names.
        rules: Python files with further rules. Their code is executed; metadata names such files, and never loads them.
        ignore_metadata: whether what the Rep network records of its making counts for nothing.
    """

    beta: int | None = None
    scope: str | None = None
    fc: str | None = None
    bn: str | None = None
    weights: str | None = None
    repeat: str | None = None
    sign_zero: str | None = None
    exclude: Sequence[str] | None = None
    include: Sequence[str] | None = None
    rules: Sequence[str] | None = None
    ignore_metadata: bool = False

    def settle(self, rep: ModelProto, name: str) -> tuple[Options, tuple[str, ...]]:
        """The options to verify with, and what a reader should know of where they come from.

        Args:
            rep: the Rep network.
            name: what it is called in messages.

        Raises:
            BadInput: the metadata says something else than a flag, or nothing that can be understood.
        """
        recorded = {} if self.ignore_metadata else _recorded(rep, name)
        self._see_agreement(recorded, name)
        values = {**recorded, **{key: value for key, value in self._given().items() if key != "rules"}}
        values.pop("rules", None)
        options = replace(Options(), **values, rules=tuple(self.rules or ()))
        if isinstance(options.beta, bool) or options.beta < 2:
            raise BadInput(f"beta is {options.beta!r}; it has to be an integer of at least 2")
        return options, tuple(_notes(recorded, self._given(), name))

    def _given(self) -> dict[str, Any]:
        names = ("beta", *CHOICES, "exclude", "include", "rules")
        given = {key: getattr(self, key) for key in names if getattr(self, key) is not None}
        return {key: tuple(value) if key in ("exclude", "include", "rules") else value for key, value in given.items()}

    def _see_agreement(self, recorded: Mapping[str, Any], name: str) -> None:
        """Raise `BadInput` where a flag says something else than the metadata."""
        for key, value in self._given().items():
            if key not in recorded:
                continue
            said = tuple(os.path.basename(path) for path in value) if key == "rules" else value
            if said != recorded[key]:
                raise BadInput(
                    f"--{key} {_shown(said)} contradicts {name}, whose metadata records {key} {_shown(recorded[key])} "
                    "(--ignore-metadata makes the flags count)"
                )
        if recorded.get("rules") and self.rules is None:
            files = " ".join(f"--rules {path}" for path in recorded["rules"])
            raise BadInput(f"{name} was compiled with rules of a user's own: give {files}, whose code is then executed")


def _recorded(rep: ModelProto, name: str) -> dict[str, Any]:
    """The options that a Rep network's metadata records; empty where it records none."""
    entries = {entry.key: entry.value for entry in rep.metadata_props if entry.key.startswith(provenance.PREFIX)}
    found: dict[str, Any] = {}
    try:
        if provenance.PREFIX + "beta" in entries:
            found["beta"] = int(entries[provenance.PREFIX + "beta"])
        options = json.loads(entries.get(provenance.PREFIX + "options", "{}"))
        for key, choices in CHOICES.items():
            if key in options:
                found[key] = choices[choices.index(options[key])]
        lowered = options.get("optimize", "none") != "none" or options.get("weights") == "packed"
        lowered = lowered or options.get("classifier", "float") != "float"
        for key in ("exclude", "include", "rules", "passes"):
            if options.get(key) is not None:
                found[key] = tuple(map(str, options[key]))
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise BadInput(
            f"{name}: what its metadata records of its compilation makes no sense (--ignore-metadata goes without)"
        ) from None
    if lowered:
        raise BadInput(
            f"{name} was lowered for onnxruntime, so that its layers are not the original's: verify the network that "
            "it was lowered from, compiled without --optimize, --weights packed and --classifier int8"
        )
    return found


def _notes(recorded: Mapping[str, Any], given: Mapping[str, Any], name: str) -> list[str]:
    usual = Options()
    taken = {key: value for key, value in recorded.items() if key not in given and key not in ("beta", "rules")}
    unusual = [f"{key} {_shown(value)}" for key, value in taken.items() if value != getattr(usual, key)]
    notes = []
    if unusual:
        notes.append(f"taken from the metadata of {name}: {', '.join(unusual)}")
    if "beta" not in recorded and "beta" not in given:
        notes.append(f"{name} does not record its beta: {usual.beta} was taken")
    return notes


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(repr, value)) or "nothing"
    return str(value)
