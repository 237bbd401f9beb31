"""Every built-in rule has a network to which it applies: one that can never match is no rule."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

import models
from benchmarks.generated.cases import draw_case
from models.toolchains.fixtures import fixtures, load
from reptran_compiler import compile_model
from reptran_compiler.compiler import CompileError, Refusal
from reptran_compiler.rewriting import known_rules

_SEEDS = 40


def networks() -> Iterator[tuple[ModelProto, int, Mapping[str, Any]]]:
    """A network as it is replicated and deployed, generated ones with their options, then what frameworks wrote, and
    torch as it exports without optimising."""
    tiny = onnx.load("models/files/reactnet-tiny.onnx")
    yield compile_model(tiny, 2, verify=False).model, 1, {}
    yield tiny, 2, {"optimize": "int8"}
    for seed in range(_SEEDS):
        case = draw_case(seed)
        asked = case.options
        names = ("scope", "fc", "bn", "exclude", "include")
        yield case.model, asked.beta, {**{name: getattr(asked, name) for name in names}, "dims": dict(case.dims)}
    for name in fixtures():
        yield load(name).model, 2, {"optimize": "float"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "network.onnx")
        models.export(models.build("binary-shufflenet", seed=0, size=32), file, models.VARIANTS["dynamo-unoptimized"])
        yield onnx.load(str(file)), 2, {}


def test_every_rule_applies_somewhere() -> None:
    ways: list[Mapping[str, Any]] = [
        {"optimize": "float", "weights": "packed"},
        {"optimize": "int8"},
        {"repeat": "expand", "weights": "binary"},
    ]
    left = {rule.name for rule in known_rules(())}
    for place, (model, beta, options) in enumerate(networks()):
        try:
            made = compile_model(model, beta, verify=False, **{**ways[place % len(ways)], **options}).transformation
        except (CompileError, Refusal):
            continue  # a few of the generated networks are refused, for documented reasons
        if made is not None:
            left -= {report.rule for report in made.reports if report.applied}
        if not left:
            return
    assert not left
