"""The benchmarks can fail: what they compare with is not what they are given."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from onnx import ModelProto, numpy_helper  # noqa: E402
from torch import nn  # noqa: E402

import models  # noqa: E402
from benchmarks import false_alarms, footprint, journal, lowered, reactnet_a, sensitivity, speed, zoo  # noqa: E402
from benchmarks.agreement import agree  # noqa: E402
from benchmarks.optimisers import __main__ as optimisers  # noqa: E402
from reptran_compiler import compile_model  # noqa: E402

Compiled = tuple[nn.Module, Path, ModelProto]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """A small network, its export, and what the compiler makes of it at beta 2."""
    torch.set_num_threads(1)
    file = tmp_path_factory.mktemp("zoo") / "network.onnx"
    network = models.build("reactnet-tiny")
    models.export(network, file, models.VARIANTS["torchscript"])
    return network, file, compile_model(file, 2, verify=False).model


def _edited(model: ModelProto, kind: str, position: int) -> ModelProto:
    """A copy in which a constant that nodes of one kind read is not what it was: the largest of them, doubled."""
    model = copy.deepcopy(model)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    read = [node.input[position] for node in model.graph.node if node.op_type == kind and len(node.input) > position]
    tensor = max((stored[name] for name in read if name in stored), key=lambda found: int(np.prod(found.dims)))
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2, tensor.name))
    return model


def test_a_compiled_network_agrees_with_its_torch_form(compiled: Compiled) -> None:
    network, file, result = compiled
    found = agree(network, file, result, 2)
    assert not found.failures and found.worst < 1e-5
    assert found.binarisations == len(models.binarisations(network, file))
    assert found.decisions > 10_000


@pytest.mark.parametrize(("kind", "position"), [("PRelu", 1), ("Add", 1), ("Gemm", 1)])
def test_a_wrong_parameter_is_seen(compiled: Compiled, kind: str, position: int) -> None:
    network, file, result = compiled
    assert "off by" in agree(network, file, _edited(result, kind, position), 2).failures[0]


def test_a_sign_that_decides_otherwise_is_seen(compiled: Compiled) -> None:
    """Its input is the same and every map behind it is torch's, so that only its decisions tell."""
    network, file, result = compiled
    wrong = copy.deepcopy(result)
    after = models.binarisations(network, file)[-1].after
    index, sign = next((i, node) for i, node in enumerate(wrong.graph.node) if node.output[0] == after)
    flipped = copy.deepcopy(sign)
    flipped.op_type, flipped.input[0], flipped.output[0], flipped.name = "Neg", "kept", after, "flipped"
    sign.output[0] = "kept"
    wrong.graph.node.insert(index + 1, flipped)
    found = agree(network, file, wrong, 2)
    assert any("on equal inputs" in failure for failure in found.failures)
    assert any("decision differs" in failure for failure in found.failures)


def test_a_row_that_fails_says_why_and_ends_in_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def perform(task: zoo.Task) -> list[zoo.Row]:
        return [zoo.Row(task.network, task.variant, beta, failure="refused | why") for beta in task.betas]

    monkeypatch.setattr(zoo, "run_apart", perform)
    assert zoo.main(["--networks", "reactnet-tiny", "--variants", "dynamo", "-o", str(tmp_path / "zoo.md")]) == 1
    lines = (tmp_path / "zoo.md").read_text().splitlines()
    assert "2 compilations, 0 pass, 2 fail." in lines
    rows = [line.replace("\\|", "") for line in lines if line.startswith("| reactnet-tiny")]
    assert [row.count("|") for row in rows] == [len(zoo.HEAD) + 1] * 2


def test_twenty_seeds_cover_every_way_to_run() -> None:
    """Each level of onnxruntime with each number of threads and each batch; every export and beta."""
    found = [each for each in false_alarms.settings(["bireal-18"], 20, 2) if each.image < 224]
    assert len({(each.level, each.threads, each.batch) for each in found}) == len(found) == 5 * 2 * 2
    assert {each.export for each in found} == set(models.VARIANTS)
    assert {each.beta for each in found} == {2, 4}
    large = [each for each in false_alarms.settings(["bireal-18"], 20, 2) if each.image == 224]
    assert len({each.level for each in large}) == len(large) == 2


def test_a_refusal_of_what_is_right_is_listed_and_ends_in_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def perform(setting: false_alarms.Setting) -> false_alarms.Row:
        failure = "" if setting.seed else "the result: [fold-bn] 1 instead of 2"
        return false_alarms.Row(setting, (0.0, 1e-7), (0.25,), failure=failure)

    monkeypatch.setattr(false_alarms, "run_apart", perform)
    file = tmp_path / "alarms.md"
    assert false_alarms.main(["--networks", "reactnet-tiny", "--seeds", "3", "--paper", "0", "-o", str(file)]) == 1
    text = file.read_text()
    assert "3 correct compilations judged, 1 refused." in text
    assert "- reactnet-tiny seed 0 (dynamo, image 32, beta 2, disable, 1 threads, batch 3): the result" in text
    row = next(line for line in text.splitlines() if line.startswith("| reactnet-tiny"))
    assert row.count("|") == len(false_alarms.HEAD) + 1


def test_a_correct_compilation_is_judged_with_full_optimisation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(false_alarms, "EXPORTS", ("torchscript",) * 5)
    row = false_alarms.perform(false_alarms.Setting("reactnet-tiny", 4, 32))
    assert row.setting.level.value == "all" and not row.failure
    assert len(row.relative) > 20 and 0 < max(row.strains) < 1


def test_a_mistake_that_is_not_seen_ends_in_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [sensitivity.Row("w", "Mul", 0.5, 10), sensitivity.Row("v", "Add", 1e-9, None)]
    monkeypatch.setattr(sensitivity, "measure", lambda *_: rows)
    assert sensitivity.main([]) == 1
    assert "| v | Add | 1e-09 | none |" in capsys.readouterr().out
    monkeypatch.setattr(sensitivity, "measure", lambda *_: rows[:1])
    assert sensitivity.main([]) == 0


def _costs() -> dict[str, Any]:
    """The costs of a report that says what the table says."""
    costs: dict[str, Any] = {"before": {}, "after": {}}
    for row in reactnet_a.TABLE:
        for side, place in costs.items():
            if row.kind is None:
                place[row.section] = getattr(row, side)
            else:
                place.setdefault(row.section, {})[row.kind] = getattr(row, side)
    return costs


def test_a_number_that_is_not_the_tables_is_seen() -> None:
    assert all(line.ok for line in reactnet_a.compare(_costs()))
    wrong = _costs()
    wrong["after"]["ops"] += 1
    wrong["before"]["macs"]["real"] = 5
    del wrong["before"]["parameters"]["stem_affine"]
    found = [(line.what, line.side) for line in reactnet_a.compare(wrong) if not line.ok]
    assert found == [("BN affine behind the stem", "before"), ("macs: real", "before"), ("OPs", "after")]


def test_the_table_adds_up() -> None:
    """The totals that THEORY states are the sums of its kinds."""
    for side in ("before", "after"):
        number = {row.kind or row.section: getattr(row, side) for row in reactnet_a.TABLE}
        trainable = sum(
            getattr(row, side)
            for row in reactnet_a.TABLE
            if row.section == "parameters" and row.kind and "statistics" not in row.kind
        )
        assert number["trainable"] == trainable
        assert (
            number["ops"] == number["stem"] + number["classifier"] + (number["binary_3x3"] + number["binary_1x1"]) / 64
        )


def test_the_graph_of_the_speed_benchmark_compiles_and_verifies() -> None:
    model = speed.residual_network(40)
    result = compile_model(model, 2)
    assert result.verified
    assert len(model.graph.node) == 39


def test_tools_are_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    """What cannot be measured is said as such: a tool that is absent, that fails, or that takes too long."""
    source, broken = tmp_path / "in.onnx", tmp_path / "broken.onnx"
    onnx.save(speed.residual_network(40), source)
    broken.write_bytes(b"no model")
    found = optimisers.measured("reptran-compile --no-verify", sys.executable, source, 60)
    assert found.seconds is not None and found.seconds > 0 and found.peak is not None and found.peak > 10_000_000
    assert len(onnx.load(tmp_path / "in.out.onnx").graph.node) > 40
    assert optimisers.measured("onnxslim", sys.executable, source, 60).reason == "not installed"
    assert optimisers.measured("load + save", sys.executable, broken, 60).reason.startswith("fails: ")
    onnx.save(speed.residual_network(4000), source)
    assert optimisers.measured("reptran-compile", sys.executable, source, 1).reason == "over 1 s"
    cells = {(40, tool): optimisers.Cell(reason="not installed") for tool in optimisers.TOOLS}
    cells[40, "load + save"] = optimisers.Cell(1.234, 56_000_000)
    assert "| 40 nodes | 1.23 | not installed |" in optimisers.table(cells, "run")


def test_a_journal_keeps_rows_for_the_same_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that was not written whole is made again, and so are all where the code has changed."""
    file = tmp_path / "rows"
    kept: journal.Journal[int, str] = journal.Journal(file)
    for key in range(3):
        kept.add(key, f"row {key}")
    assert journal.Journal[int, str](file).rows == {0: "row 0", 1: "row 1", 2: "row 2"}
    file.write_bytes(file.read_bytes()[:-5])
    assert journal.Journal[int, str](file).rows == {0: "row 0", 1: "row 1"}
    monkeypatch.setattr(journal, "code_digest", lambda: "another")
    assert journal.Journal[int, str](file).rows == {}
    assert journal.Journal[int, str](None).rows == {}


def test_a_sum_of_signs_that_differs_is_seen_beside_the_judge(compiled: Compiled) -> None:
    """In the integer form, and in the float form; the forms as they are made have the same sums."""
    made = compile_model(compiled[1], 2, optimize="float", verify=False).transformation
    assert made is not None and made.lowered is not None
    integers = compile_model(compiled[1], 2, optimize="int8", verify=False).model
    layers = [layer.name for layer in made.layers if layer.binary]
    assert len(layers) > 3
    assert not list(lowered.different_sums(made.result, [made.lowered, integers], layers))
    for number, (kind, form) in enumerate((("Conv", made.lowered), ("MatMulInteger", integers))):
        wrong = copy.deepcopy(form)
        stored = {tensor.name: tensor for tensor in wrong.graph.initializer}
        node = next(n for n in wrong.graph.node if n.op_type == kind and n.name.startswith(layers[2]))
        values = numpy_helper.to_array(stored[node.input[1]]).copy()
        values.reshape(-1)[0] *= -1
        stored[node.input[1]].CopyFrom(numpy_helper.from_array(values, node.input[1]))
        forms = [wrong, integers] if number == 0 else [made.lowered, wrong]
        assert list(lowered.different_sums(made.result, forms, layers)) == [(layers[2], "differ")]


def test_a_packed_form_that_takes_too_much_is_told() -> None:
    base = footprint.Footprint(100e6, 0.4, 400e6)
    forms = {footprint.BASE: base, "Rep": footprint.Footprint(100e6, 9.0, 900e6)}
    assert not footprint.missed("n", {**forms, "packed": footprint.Footprint(10e6, 0.49, 410e6)})
    assert len(footprint.missed("n", {**forms, "packed": footprint.Footprint(10e6, 0.51, 430e6)})) == 2


def test_a_footprint_is_measured(tmp_path: Path, compiled: Compiled) -> None:
    """A file is loaded by a process of its own; a larger one takes more."""
    found = footprint.measure({"network": compiled[1]}, rounds=1)["network"]
    assert found.size == compiled[1].stat().st_size
    assert 0 < found.seconds < 60 and found.memory > 1e6
