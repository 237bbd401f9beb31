"""One row of the table: a rule, and what came of it in every way that it is let loose."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from benchmarks.careless.entries import Careless, End
from benchmarks.careless.network import small_network
from benchmarks.careless.packages import broken_package
from benchmarks.careless.running import Ended, in_engine, run_here, through_command


@dataclass(frozen=True)
class Row:
    """What came of a rule: for the two modes, how it ended through the command line and in an engine."""

    rule: Careless
    commands: tuple[Ended, Ended]
    engines: tuple[Ended | None, Ended | None]

    @property
    def good(self) -> bool:
        """Whether all ends are those that are expected."""
        ends = (self.rule.normal, self.rule.paranoid)
        return all(
            command.as_expected(self.rule, end) and (engine is None or engine.as_expected(self.rule, in_a_graph(end)))
            for end, command, engine in zip(ends, self.commands, self.engines, strict=True)
        )


def in_a_graph(end: End) -> End:
    """How a rule ends in an engine, where the judge, who finds the fault in a compilation, is not asked."""
    return End(0) if end.code == 3 else end


def perform(rule: Careless, processes: bool = False) -> Row:
    """Let a rule loose: twice in an engine, twice through the command line."""
    run = run_apart if processes else run_here
    with tempfile.TemporaryDirectory(prefix="reptran-careless-") as folder:
        source, file = Path(folder, "model", "model.onnx"), Path(folder, f"{rule.name}.py")
        source.parent.mkdir()
        model = small_network()
        onnx.save(model, source)
        file.write_text(rule.source)
        modes = (False, True)
        engines = [in_engine(rule, file, model, paranoid=paranoid) for paranoid in modes]
        commands = [through_command(rule, file, source, run, paranoid=paranoid) for paranoid in modes]
    return Row(rule, (commands[0], commands[1]), (engines[0], engines[1]))


def run_apart(words: Sequence[str], path: str = "") -> tuple[int, str, bytes]:
    """The command line in a process of its own: exit code, standard error, standard output."""
    search = os.pathsep.join(filter(None, (path, *sys.path)))
    command = [sys.executable, "-m", "reptran_compiler", *words]
    surroundings = {**os.environ, "PYTHONPATH": search}
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, env=surroundings)
    return done.returncode, done.stderr.decode(errors="replace"), done.stdout


def perform_package() -> Row:
    """A package whose entry point does not load."""
    with tempfile.TemporaryDirectory(prefix="reptran-careless-") as folder:
        rule, path = broken_package(Path(folder))
        source, file = Path(folder, "model", "model.onnx"), Path(folder, "right.py")
        source.parent.mkdir()
        onnx.save(small_network(), source)
        file.write_text(rule.source)
        ends = [
            through_command(rule, file, source, lambda words: run_apart(words, str(path)), paranoid=paranoid)
            for paranoid in (False, True)
        ]
    return Row(rule, (ends[0], ends[1]), (None, None))
