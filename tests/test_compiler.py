"""The driver and the command line, around a hand-written transformation of the tiny networks."""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tiny_networks import Net, plain, replicate

from reptran_compiler import compilation
from reptran_compiler.cli.main import main
from reptran_compiler.compiler import BadInput, NothingToDo, VerificationFailed, compile_model
from reptran_compiler.model.writing import write_model
from reptran_compiler.pipeline import LayerPlan, Options, Refusal, Transformation
from reptran_compiler.replication import WeightMove

FLAGS = ("--beta", "2")


class ByHand:
    """In place of `pipeline.transform`: what the judge's tests call a correct result, or a wrong one."""

    def __init__(self, bug: str = "") -> None:
        self.bug = bug
        self.calls = 0

    def __call__(self, model: ModelProto, options: Options, scratch: object = None) -> Transformation:
        self.calls += 1
        result = replicate(model, options.beta, self.bug, fold=options.bn == "fold", fc=options.fc)
        result.graph.name = model.graph.name
        for mine, theirs in ((result.graph.input, model.graph.input), (result.graph.output, model.graph.output)):
            del mine[:]
            mine.extend(theirs)
        return Transformation(
            canonical=model,
            result=result,
            layers=tuple(plans(model)),
            boundaries=(),
            excluded=frozenset(),
            included=frozenset(),
            notes=("made by hand",),
            stages=(("canonical", model), ("rep tran/last", result)),
            moves=tuple(moves(model, options.beta)),
        )


def plans(model: ModelProto) -> list[LayerPlan]:
    roles = {"stem": "stem", "fc": "classifier"}
    binary = {"one", "two", "three"}
    return [
        LayerPlan(
            name=node.name,
            op=node.op_type,
            role="classifier" if node.op_type == "Gemm" else roles.get(node.name, "repconv"),
            binary=node.name in binary,
            reason="",
            source_weight=node.input[1],
            factored_scale=node.name in binary,
        )
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm")
    ]


def moves(model: ModelProto, beta: int) -> list[WeightMove]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found = []
    for plan in plans(model):
        if plan.role != "repconv":
            continue
        out, reads, *kernel = shapes[plan.source_weight]
        found.append(
            WeightMove(
                layer=plan.name,
                source=plan.source_weight,
                result=plan.source_weight,
                reshape=(beta, out // beta, reads, *kernel),
                order=(1, 0, 2, *range(3, 3 + len(kernel))),
                shape=(out // beta, beta * reads, *kernel),
            )
        )
    return found


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> ByHand:
    """A transformation that is right unless the test gives it a bug."""
    made = ByHand()
    monkeypatch.setattr(compilation, "transform", made)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a tiny network."""
    place = tmp_path / "in.onnx"
    write_model(plain(), place)
    return place


def metadata(model: ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


# -- results -------------------------------------------------------------------------------------------------


def test_a_compilation_is_verified_counted_and_written(hand: ByHand, path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    result = compile_model(path, 2, output=out)
    assert result.verified
    summary = result.summary
    assert summary.verification.passed
    assert summary.verification.pairs_compared == summary.verification.pairs_required >= 8
    assert summary.verification.batches == (2, 3)
    assert summary.costs is not None and summary.costs.invariant
    rows = {row.name: row for row in summary.layers}
    assert not rows["stem"].rewritten
    assert rows["one"].rewritten and rows["one"].rearranged is True
    assert next(row for row in summary.layers if row.role == "classifier").rewritten
    written = onnx.load(str(out))
    assert written == result.model
    found = metadata(written)
    assert found["reptran.beta"] == "2"
    assert found["reptran.verified"] == "true"
    assert found["reptran.source_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads(found["reptran.options"])["scope"] == "network"
    assert json.loads(found["reptran.layers"])["one"] == {
        "role": "repconv",
        "source": "one.w",
        "result": "one.w",
    }


def test_a_model_in_memory_is_not_changed(hand: ByHand) -> None:
    model = plain()
    result = compile_model(model, 3)
    assert model == plain()
    assert metadata(result.model)["reptran.beta"] == "3"


def test_without_verification_the_result_says_so(hand: ByHand, path: Path, tmp_path: Path) -> None:
    hand.bug = "epsilon forgotten"
    result = compile_model(path, output=tmp_path / "out.onnx", verify=False)
    assert not result.verified and not result.summary.verification.performed
    assert metadata(onnx.load(str(tmp_path / "out.onnx")))["reptran.verified"] == "false"


def test_beta_one_gives_the_source_back(
    hand: ByHand, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(path), "--beta", "1", "-o", str(tmp_path / "out.onnx")]) == 0
    assert (tmp_path / "out.onnx").read_bytes() == path.read_bytes()
    assert "unchanged" in capsys.readouterr().out
    assert hand.calls == 0


def test_beta_one_keeps_external_data_external(hand: ByHand, tmp_path: Path) -> None:
    write_model(plain(), tmp_path / "in.onnx", external=True)
    compile_model(tmp_path / "in.onnx", 1, output=tmp_path / "out.onnx")
    assert list(tmp_path.glob("out.onnx.*.data"))
    assert onnx.load(str(tmp_path / "out.onnx")) == onnx.load(str(tmp_path / "in.onnx"))


def test_a_dry_run_writes_nothing(hand: ByHand, path: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    result = compile_model(path, output=tmp_path / "out.onnx", dry_run=True)
    assert result.verified and result.summary.status == "dry-run" and result.summary.output is None
    assert sorted(tmp_path.iterdir()) == before


def test_degenerate_files_are_judged_on_a_randomised_copy_too(hand: ByHand) -> None:
    model = plain()
    for tensor in model.graph.initializer:
        if tensor.name.startswith("one.bn"):
            fresh = np.full(tensor.dims, 1.0 if tensor.name.endswith((".variance", ".scale")) else 0.0)
            tensor.CopyFrom(numpy_helper.from_array(fresh.astype(np.float32), tensor.name))
    result = compile_model(model)
    assert hand.calls == 2
    assert result.summary.verification.randomised and result.verified
    assert any("randomised" in note for note in result.summary.notes)


# -- failures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bug", ["row blocks reversed", "epsilon forgotten", "1/beta forgotten"])
def test_a_wrong_result_is_not_written(
    hand: ByHand, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], bug: str
) -> None:
    hand.bug = bug
    out, report, where = (tmp_path / name for name in ("out.onnx", "report.json", "map.json"))
    assert main([str(path), "-o", str(out), "--json", str(report), "--map", str(where)]) == 3
    assert not out.exists() and not where.exists()
    error = capsys.readouterr().err
    assert "verification failed" in error and "no model was written" in error
    document = json.loads(report.read_text())
    assert document["status"] == "failed" and document["output"] is None
    assert document["verification"]["failure"]
    with pytest.raises(VerificationFailed) as raised:
        compile_model(path)
    assert raised.value.exit_code == 3 and raised.value.failures


def test_an_existing_output_survives_a_failure(hand: ByHand, path: Path, tmp_path: Path) -> None:
    hand.bug = "row blocks reversed"
    (tmp_path / "out.onnx").write_bytes(b"before")
    assert main([str(path), "-o", str(tmp_path / "out.onnx")]) == 3
    assert (tmp_path / "out.onnx").read_bytes() == b"before"


def test_a_result_is_no_source(hand: ByHand, path: Path, tmp_path: Path) -> None:
    compile_model(path, output=tmp_path / "out.onnx")
    with pytest.raises(NothingToDo, match="already a Rep network.*beta 2"):
        compile_model(tmp_path / "out.onnx")
    assert main([str(tmp_path / "out.onnx"), "-o", str(tmp_path / "again.onnx")]) == 1
    assert not (tmp_path / "again.onnx").exists()


@pytest.mark.parametrize("code", [1, 2])
def test_a_refusal_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    code: int,
) -> None:
    def refuse(model: ModelProto, options: Options, scratch: object = None) -> Transformation:
        raise Refusal("no layer can be rewritten", code)

    monkeypatch.setattr(compilation, "transform", refuse)
    assert main([str(path), "-o", str(tmp_path / "out.onnx")]) == code
    assert capsys.readouterr().err == "reptran-compile: no layer can be rewritten\n"


def test_an_internal_error_is_one_clear_message(
    monkeypatch: pytest.MonkeyPatch, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(model: ModelProto, options: Options) -> Transformation:
        raise KeyError("lost")

    monkeypatch.setattr(compilation, "transform", fail)
    words = [str(path), "-o", str(tmp_path / "out.onnx")]
    assert main(words) == 4
    error = capsys.readouterr().err
    assert "internal error" in error and "reproduce" in error and "Traceback" not in error
    assert main([*words, "-v"]) == 4
    assert "Traceback" in capsys.readouterr().err
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("beta", [0, -1, 1.5, True])
def test_beta_is_an_integer_of_at_least_one(beta: int) -> None:
    with pytest.raises(BadInput, match="beta"):
        compile_model(plain(), beta)


def test_the_input_is_never_overwritten(hand: ByHand, path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    (tmp_path / "link.onnx").symlink_to(path)
    for target in (path, tmp_path / "link.onnx", tmp_path / "." / "in.onnx"):
        assert main([str(path), "-o", str(target)]) == 2
    assert main([str(path), "-o", str(tmp_path / "out.onnx"), "--map", str(path)]) == 2
    assert main([str(path), "-o", str(tmp_path / "out.onnx"), "--json", str(path)]) == 2
    assert path.read_bytes() == before


def test_external_data_of_the_input_is_never_overwritten(hand: ByHand, tmp_path: Path) -> None:
    write_model(plain(), tmp_path / "net.onnx", external=True)
    (tmp_path / "net.onnx").rename(tmp_path / "other.onnx")
    (data,) = tmp_path.glob("net.onnx.*.data")
    before = data.read_bytes()
    assert main([str(tmp_path / "other.onnx"), "-o", str(data)]) == 2
    for _ in range(2):  # the second run replaces the first one's files, which are named alike
        words = [str(tmp_path / "other.onnx"), "-o", str(tmp_path / "net.onnx"), "--external-data"]
        assert main(words) == 0
        assert data.read_bytes() == before


def test_an_unwritable_output_stops_before_the_work(hand: ByHand, path: Path, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere" / "out")
    for words in (["-o", nowhere], ["-o", str(tmp_path)]):
        assert main([str(path), *words]) == 2
    assert main([str(path), "--dry-run", "--json", nowhere]) == 2
    assert main([str(path), "--dry-run", "--map", nowhere]) == 2
    assert hand.calls == 0


def failing(kind: str) -> ModelProto:
    """Models that do not run."""
    model = plain()
    if kind == "unknown operator":
        model.graph.node[3].op_type = "Frobnicate"
    elif kind == "old opset":
        model.opset_import[0].version = 6
    elif kind == "no opset":
        del model.opset_import[:]
    elif kind == "wrong shape":
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5
    elif kind == "dangling":
        model.graph.node[3].input[0] = "nowhere"
    elif kind == "rank unknown":
        model.graph.input[0].type.tensor_type.ClearField("shape")
    return model


@pytest.mark.parametrize(
    "kind", ["unknown operator", "old opset", "no opset", "wrong shape", "dangling", "rank unknown"]
)
def test_a_model_that_does_not_run_is_bad_input(
    hand: ByHand, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    write_model(failing(kind), tmp_path / "in.onnx")
    assert main([str(tmp_path / "in.onnx"), "-o", str(tmp_path / "out.onnx")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("reptran-compile: ") and error.count("\n") == 1
    assert hand.calls == 0 and not (tmp_path / "out.onnx").exists()


def with_open_axes() -> ModelProto:
    model = plain()
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    return model


def test_sizes_of_dynamic_axes(hand: ByHand, path: Path) -> None:
    write_model(with_open_axes(), path)
    guessed = compile_model(path)
    assert guessed.verified and any("height" in note for note in guessed.summary.notes)
    assert main([str(path), "--dry-run", "-q", "--dim", "height=16", "--dim", "width=24"]) == 0


def test_a_frozen_batch_behind_a_dynamic_axis(hand: ByHand) -> None:
    net = Net(0)
    net.nodes.append(helper.make_node("Reshape", ["input", net.store("shape", np.array([1, 3, 256]))], ["logits"]))
    model = net.model()
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, None))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 16, 16]))
    result = compile_model(model, 1)
    assert any("batch 1 only" in note for note in result.summary.notes)


# -- what is written besides ---------------------------------------------------------------------------------


def test_the_map_reproduces_the_weights(hand: ByHand, path: Path, tmp_path: Path) -> None:
    assert main([str(path), "-o", str(tmp_path / "out.onnx"), "--map", str(tmp_path / "map.json")]) == 0
    before = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}
    after = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(tmp_path / "out.onnx")).graph.initializer}
    document = json.loads((tmp_path / "map.json").read_text())
    assert document["schema"] == "reptran-map/1" and len(document["weights"]) == 3
    for move in document["weights"]:
        weight = before[move["source"]].reshape(move["reshape"]).transpose(move["transpose"])
        assert np.array_equal(weight.reshape(move["final_shape"]), after[move["result"]])


def test_the_dump_holds_every_stage(hand: ByHand, path: Path, tmp_path: Path) -> None:
    hand.bug = "row blocks reversed"
    assert main([str(path), "-o", str(tmp_path / "out.onnx"), "--dump-dir", str(tmp_path / "dump")]) == 3
    names = sorted(entry.name for entry in (tmp_path / "dump").iterdir())
    assert names == ["01-canonical.onnx", "02-rep-tran-last.onnx", "G.onnx", "R.onnx", "S.onnx"]
    for name in names:
        assert onnx.load(str(tmp_path / "dump" / name)).graph.node


def test_streams(hand: ByHand, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    payload = plain().SerializeToString()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(payload)))
    assert main(["-", "-o", "-"]) == 0
    captured = capfdbinary.readouterr()
    model = ModelProto.FromString(captured.out)
    assert metadata(model)["reptran.source_sha256"] == hashlib.sha256(payload).hexdigest()
    assert b"verified" in captured.err


def test_json_on_standard_output(hand: ByHand, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(path), "--dry-run", "--json", "-"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["status"] == "dry-run" and document["costs"]["invariant"]
    assert all(row["rearranged"] for row in document["layers"] if row["role"] == "repconv")
    assert "layers" in captured.err


def test_the_table_is_plain_when_piped(hand: ByHand, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(path), "--dry-run", *FLAGS]) == 0
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out and captured.err == ""
    assert re.search(r"one .*rewritten", captured.out) and "verified:" in captured.out
    assert main([str(path), "--dry-run", "-q"]) == 0
    assert capsys.readouterr().out == ""
