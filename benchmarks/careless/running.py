"""Letting a careless rule loose: in an engine, and through the command line."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from benchmarks.careless.entries import Careless, End
from reptran_compiler.cli.main import main
from reptran_compiler.model import export_model, import_model
from reptran_compiler.rewriting import Engine, Facts, NoSuchRule, Refused, TimeLimit, known_rules
from reptran_compiler.runtime import RuntimeFailure, Session, random_feeds, tensor_facts

#: How long a rule may take, in seconds; one that is ended costs as long.
SECONDS = 1.0
_BETA = 2
#: An engine and a session compute with the same numbers; what a rule committed before it was found out may round.
_ROUNDING = 1e-5

Command = Callable[[Sequence[str]], tuple[int, str, bytes]]


@dataclass(frozen=True)
class Ended:
    """How a run ended: the exit code, the message, and whether the graph, or the folder, was as before."""

    code: int
    message: str
    as_before: bool

    def as_expected(self, rule: Careless, end: End) -> bool:
        """Whether the code is the one that was expected, and the message says who and why in two lines at most."""
        lines = self.message.strip().splitlines()
        if self.code != end.code or not self.as_before:
            return False
        if not end.code:
            return True
        said = any(re.search(re.escape(part), self.message) for part in end.words.split("|"))
        named = rule.name in self.message or end.code == 2
        return said and named and (len(lines) <= 2 or end.code == 3)


class _NoContext:
    """What rules know of the whole graph: nothing."""

    def refresh(self) -> None:
        """Nothing to forget."""


def in_engine(rule: Careless, file: Path, model: ModelProto, *, paranoid: bool) -> Ended | None:
    """Apply the rules of a file to a graph, one after the other, and look at the graph behind a refusal: it is as
    before, or it computes the same where rewrites that hold were committed before.

    None for rules of the phase `replicate`, files that hold no rule, and what an engine alone does not find: they run
    through the command line alone.
    """
    if not rule.engine:
        return None
    try:
        rules = [each for each in known_rules([str(file)], seconds=SECONDS) if not each.ours]
    except NoSuchRule:
        return None
    if not rules or any(each.phase == "replicate" for each in rules):
        return None
    model, given = ModelProto(), model
    model.CopyFrom(given)
    graph = import_model(model)
    facts = Facts(graph, [tensor_facts(model, random_feeds(model, batch=batch)) for batch in (2, 1)])
    limit = TimeLimit(SECONDS)
    engine = Engine(graph, facts, _NoContext(), paranoid=paranoid, limit=limit)
    before = _bytes(export_model(graph))
    try:
        for each in rules:
            engine.fixpoint(each)
    except Refused as error:
        whole = not graph.beside and (_bytes(export_model(graph)) == before or _computes(given, export_model(graph)))
        return Ended(1, str(error), whole)
    return Ended(0, "", True)


def through_command(rule: Careless, file: Path, source: Path, run: Command, *, paranoid: bool) -> Ended:
    """Compile a file with `--rules`, to standard output. As before is a folder with the same files and no model."""
    before = _folder(source.parent)
    flags = ["--rules", str(file), "--rule-seconds", str(SECONDS), "-q", *(["--paranoid"] if paranoid else [])]
    code, message, written = run([str(source), "-o", "-", "--beta", str(_BETA), *flags])
    whole = _folder(source.parent) == before and (_is_model(written) if code == 0 else not written)
    message = message.replace(f"{file.parent}{os.sep}", "")  # a folder of this run, which tells nothing
    return Ended(code, "\n".join(line for line in message.splitlines() if line != "no model was written"), whole)


def run_here(words: Sequence[str]) -> tuple[int, str, bytes]:
    """The command line in this process: exit code, standard error, standard output."""
    raw, said = io.BytesIO(), io.StringIO()
    with redirect_stdout(io.TextIOWrapper(raw, write_through=True)) as out, redirect_stderr(said):
        code = main(words)
        out.flush()
        return code, said.getvalue(), bytes(raw.getvalue())


def _is_model(payload: bytes) -> bool:
    model = ModelProto()
    model.ParseFromString(payload)
    return len(model.graph.node) > 0


def _folder(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def _bytes(model: ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


def _computes(expected: ModelProto, found: ModelProto) -> bool:
    """Whether a model computes what another one does, but for rounding."""
    feeds = random_feeds(expected, batch=2)
    try:
        one, other = (Session(model).run(feeds) for model in (expected, found))
    except RuntimeFailure:
        return False
    return all(np.allclose(one[name], other[name], rtol=_ROUNDING, atol=_ROUNDING) for name in one)
