"""Reports: what people read, plain where it is piped, and what machines read, as documented."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from reptran_compiler.costs import Comparison, LayerChange, count
from reptran_compiler.reporting import (
    SCHEMA,
    LayerRow,
    Summary,
    VerificationSummary,
    make_console,
    print_summary,
    progress,
    to_json,
)

DOCUMENT = Path(__file__).parent.parent / "docs" / "json-report.md"


def network(beta: int) -> onnx.ModelProto:
    """A stem, one binary layer with an odd name, and a classifier; wide where beta is more than 1."""
    constants: list[onnx.TensorProto] = []

    def const(values: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(values), f"c{len(constants)}"))
        return constants[-1].name

    def ones(*dims: int) -> str:
        return const(np.ones(dims, np.float32))

    nodes = [
        helper.make_node("Conv", ["x", ones(4, 3, 1, 1)], ["s"], "stem"),
        helper.make_node("Tile", ["s", const(np.array([1, beta, 1, 1]))], ["t"], "tile"),
        helper.make_node("Sign", ["t"], ["b"], "sign"),
        helper.make_node("Conv", ["b", ones(4 // beta, 4 * beta, 1, 1)], ["c"], "body[0]/conv"),
        helper.make_node("Tile", ["c", const(np.array([1, beta * beta, 1, 1]))], ["d"], "tile2"),
        helper.make_node("Mul", ["d", ones(1, 4 * beta, 1, 1)], ["e"], "scale"),
        helper.make_node("Flatten", ["e"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", ones(5, 16 * beta), ones(5)], ["y"], "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def summary() -> Summary:
    costs = Comparison(count(network(1)), count(network(2)))
    stem, body, classifier = costs.layers
    return Summary(
        model="in.onnx",
        output="out.onnx",
        beta=2,
        version="1.2.3",
        options={"fc": "widen", "strict": True, "exclude": [], "bn": None, "passes": ["a", "b[red]"]},
        layers=(
            LayerRow.of(stem, rewritten=False),
            LayerRow.of(body, rewritten=True, rearranged=True),
            replace(LayerRow.of(classifier, rewritten=False), role="boundary", reason="5 rows [at :beta: 2]"),
        ),
        costs=costs,
        verification=VerificationSummary(True, True, 7, 7, 3.25e-7, "e", 1e-5, (2, 3), True, seconds=1.25),
        notes=("a note [bold]",),
        warnings=("a warning",),
    )


def printed(summary: Summary) -> str:
    stream = io.StringIO()
    print_summary(summary, make_console(stream))
    return stream.getvalue()


def row(text: str, first: str) -> list[str]:
    """The cells of the line that starts with a word."""
    line = next(line for line in text.splitlines() if line.strip().startswith(first))
    return re.split(r" {2,}", line.strip())


def test_piped_output_is_plain_and_never_broken(summary: Summary) -> None:
    text = printed(replace(summary, notes=("word " * 100,)))
    assert "\x1b" not in text
    assert f"note: {'word ' * 100}".strip() in text
    assert "body[0]/conv" in text
    assert "a warning" in text


def test_the_heading_names_files_and_the_options_that_are_set(summary: Summary) -> None:
    first = printed(summary).splitlines()[0]
    assert first == "reptran-compiler 1.2.3: in.onnx -> out.onnx, beta 2, fc widen, strict, passes a b[red]"
    dry = printed(replace(summary, output=None, status="dry-run")).splitlines()[0]
    assert "->" not in dry
    assert dry.endswith("(dry run: nothing was written)")


def test_layers_show_shapes_before_and_after_and_their_fate(summary: Summary) -> None:
    text = printed(summary)
    shapes = ["4x4 -> 2x8, 1x1", "4 -> 8, 2x2", "4 -> 2, 2x2"]
    assert row(text, "body[0]/conv") == ["body[0]/conv", "binary repconv", *shapes, "rewritten"]
    assert row(text, "stem") == ["stem", "stem", "4x3x1x1", "3x2x2", "4x2x2", "unchanged"]
    assert row(text, "fc")[-1] == "boundary: 5 rows [at :beta: 2]"
    assert "3 layers: 1 rewritten, 1 boundaries, 1 unchanged" in text


def test_costs_show_ratios_and_what_grew(summary: Summary) -> None:
    text = printed(summary)
    assert row(text, "binary 1x1 weights") == ["binary 1x1 weights", "16", "16", "1 exactly"]
    assert row(text, "classifier weights") == ["classifier weights", "80", "160", "2"]
    assert row(text, "OPs = ") == ["OPs = real MACs + BOPs / 64", "129", "209", "1.62"]
    assert "invariant: weights and MACs of all 1 RepConvs" in text
    assert "grew, parameters: scales factored out of weights (x 2), classifier weights (x 2)\n" in text


def test_violations_are_loud(summary: Summary) -> None:
    assert summary.costs is not None
    lost = replace(summary.costs, after=replace(summary.costs.after, layers=()))
    text = printed(replace(summary, costs=lost))
    assert "NOT INVARIANT: body[0]/conv: the result has no such layer" in text
    assert "invariant: weights" not in text


def test_nothing_grew() -> None:
    report = count(network(1))
    text = printed(Summary("a", None, 1, "1", costs=Comparison(report, report), status="unchanged"))
    assert "grew: nothing" in text
    assert "(nothing was rewritten)" in text


def test_verification_in_one_line(summary: Summary) -> None:
    line = next(line for line in printed(summary).splitlines() if line.startswith("verified"))
    assert line == (
        "verified: 7 of 7 required pairs compared, worst error 3.3e-07 of the largest value at e"
        " (allowed 1e-05), batch sizes 2, 3, on randomised parameters too, 1.2 s"
    )
    failed = replace(summary.verification, passed=False, failure="tensor e differs", pairs_compared=6)
    text = printed(replace(summary, verification=failed))
    assert "VERIFICATION FAILED: tensor e differs (6 of 7 required pairs compared" in text
    text = printed(replace(summary, verification=VerificationSummary(performed=False)))
    assert "NOT VERIFIED: verification was switched off" in text


@pytest.mark.parametrize("width", [60, 100, 160])
def test_a_terminal_gets_colours_and_its_own_width(summary: Summary, width: int) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, color_system="standard", legacy_windows=False)
    print_summary(summary, console)
    assert "\x1b[32m" in stream.getvalue()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert all(len(line) <= width for line in plain.splitlines())
    assert "body[0]/conv" in plain or width == 60


def test_a_summary_without_costs_or_layers_prints() -> None:
    text = printed(Summary("-", None, 2, "1", status="failed", notes=("no shapes",)))
    assert "failed: nothing was written" in text
    assert "note: no shapes" in text


def test_a_row_needs_a_side(summary: Summary) -> None:
    with pytest.raises(ValueError, match="neither"):
        LayerRow.of(LayerChange("ghost", None, None), rewritten=False)
    assert summary.costs is not None
    only_after = LayerRow.of(replace(summary.costs.layers[1], before=None), rewritten=True)
    assert (only_after.source_weight_shape, only_after.result_weights) == (None, 16)


def test_json_holds_plain_numbers(summary: Summary) -> None:
    document = json.loads(to_json(summary))
    assert document["schema"] == SCHEMA == "reptran-report/1"
    assert document["options"]["passes"] == ["a", "b[red]"]
    body = document["layers"][1]
    assert (body["name"], body["source_weight_shape"], body["result_weight_shape"]) == (
        "body[0]/conv",
        [4, 4, 1, 1],
        [2, 8, 1, 1],
    )
    assert body["rearranged"] is True
    assert body["source_weights"] == body["result_weights"] == 16
    costs = document["costs"]
    assert costs["invariant"] is True
    assert costs["before"]["parameters"]["binary_weights_1x1"] == 16
    assert costs["after"]["ops"] == 48 + 160 + 64 / 64
    assert costs["after"]["layers"][1]["bops"] == 64
    assert "parameters/classifier_weights" in costs["grew"]
    ratios = {(change["section"], change["kind"]): change["ratio"] for change in costs["changes"]}
    assert ratios["macs", "classifier"] == 2
    assert document["verification"]["worst_error"] == 3.25e-7


def test_json_is_stable_and_takes_any_number(summary: Summary) -> None:
    assert to_json(summary) == to_json(summary)
    odd = replace(summary.verification, worst_error=float("nan"), tolerance=float("inf"), seconds=np.float32(2))
    verification = json.loads(to_json(replace(summary, verification=odd)))["verification"]
    assert (verification["worst_error"], verification["tolerance"]) == ("nan", "inf")
    assert verification["seconds"] == 2
    assert json.loads(to_json(replace(summary, costs=None, output=None)))["costs"] is None
    assert "\n" not in to_json(summary, indent=None)


def keys(value: Any) -> Iterator[str]:
    """All keys of a document, but those that name options."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield key
            if key != "options":
                yield from keys(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from keys(entry)


def test_every_key_is_documented(summary: Summary) -> None:
    documented = set(re.findall(r"`([\w-]+)`", DOCUMENT.read_text(encoding="utf-8")))
    assert documented >= set(keys(json.loads(to_json(summary)))) - {"binary_1x1"}


def test_every_kind_is_documented() -> None:
    from reptran_compiler.costs.kinds import SECTIONS

    documented = DOCUMENT.read_text(encoding="utf-8")
    missing = [kind for kinds in SECTIONS.values() for kind in kinds if f"`{kind}" not in documented]
    assert not missing


def test_progress_is_silent_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with progress(make_console(stream)) as step:
        step("verifying", 1, 10)
    with progress(Console(file=stream, force_terminal=True), quiet=True) as step:
        step("verifying", 1, 10)
    assert stream.getvalue() == ""


def test_progress_shows_on_a_terminal() -> None:
    stream = io.StringIO()
    with progress(Console(file=stream, force_terminal=True, width=80)) as step:
        step("verifying [x]", 1, 10)
    assert "verifying [x]" in stream.getvalue()
