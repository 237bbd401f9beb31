"""Models that are held by reference, as large ones are: the same results, and memory that is bounded."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper
from small_networks import network

from benchmarks import large
from reptran_compiler import compilation
from reptran_compiler.compilation import Compilation, CompileResult
from reptran_compiler.errors import BadInput, VerificationFailed
from reptran_compiler.model import referred as by_reference
from reptran_compiler.model.io import read_model, tensor_bytes
from reptran_compiler.model.referred import Scratch, array_of, embedded, referred
from reptran_compiler.model.retyping import retyped
from reptran_compiler.model.wire import serialised, skeleton
from reptran_compiler.model.writing import Writing
from reptran_compiler.outputs import Outputs
from reptran_compiler.pipeline import Options
from reptran_compiler.runtime import Session, random_feeds
from reptran_compiler.verification import batch, equivalence, law
from reptran_compiler.verification.portions import portions

MEGABYTES = 6


@pytest.fixture(scope="module", params=list(large.FORMS))
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("large") / "in.onnx"
    size = large.build(made, MEGABYTES / 1000, request.param)
    assert size > 0.9e6 * MEGABYTES
    return made


def compiled(model: Path | ModelProto, folder: Path, **how: object) -> CompileResult:
    """A compilation that holds models above one megabyte by reference."""
    outputs = Outputs(folder / "out.onnx", folder / "map.json", external_data=True)
    return replace(Compilation(model, Options(beta=2), outputs, large=1_000_000), **how).run()


@pytest.fixture(params=["large", "vast"])
def _held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether values of a model's weights may be held in memory beside what refers to them."""
    if request.param == "vast":
        monkeypatch.setattr(by_reference, "MOST_HELD", 1_000_000)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("_held")
def test_the_files_are_those_of_a_compilation_in_memory(path: Path, tmp_path: Path) -> None:
    for name, limit in (("referred", 1_000_000), ("embedded", 1 << 40)):
        (tmp_path / name).mkdir()
        result = compiled(path, tmp_path / name, large=limit)
        assert result.verified
        assert not any(referred(result.model)), "what is given back needs no files"
        assert read_model(tmp_path / name / "out.onnx").model == result.model
    assert files(tmp_path / "referred") == files(tmp_path / "embedded")


@pytest.mark.parametrize("external", [True, False])
def test_the_files_are_the_same_without_verification(path: Path, tmp_path: Path, external: bool) -> None:
    """Weights that lie in the model's own file, or beside it, are those of a compilation in memory."""
    source = path
    if not external:
        source = tmp_path / "whole.onnx"
        source.write_bytes(read_model(path).model.SerializeToString())
    for name, limit in (("referred", 1_000_000), ("embedded", 1 << 40)):
        (tmp_path / name).mkdir()
        outputs = Outputs(tmp_path / name / "out.onnx", tmp_path / name / "map.json", external_data=external)
        assert not compiled(source, tmp_path, large=limit, verify=False, outputs=outputs).verified
    assert files(tmp_path / "referred") == files(tmp_path / "embedded")


def test_a_skeleton_is_the_model_and_is_written_as_protobuf_writes_it(path: Path, tmp_path: Path) -> None:
    whole = read_model(path)
    payload = whole.model.SerializeToString()
    (tmp_path / "whole.onnx").write_bytes(payload)
    light = read_model(tmp_path / "whole.onnx", refer_above=1_000_000)
    assert light.model.ByteSize() < 200_000 < len(payload)
    assert light.digest == read_model(tmp_path / "whole.onnx").digest
    assert embedded(light.model) == whole.model
    assert b"".join(serialised(light.model)) == payload
    for cut in (payload[:-1], payload + payload, payload[: len(payload) // 2]):  # protobuf says what these are
        assert skeleton(memoryview(cut)) is None


def test_a_model_in_memory_gives_the_same(path: Path, tmp_path: Path) -> None:
    model = onnx.load(str(path))
    from_memory = compiled(model, tmp_path).model
    assert model == onnx.load(str(path)), "it is not changed"
    from_file = compiled(path, tmp_path).model
    for some in (from_memory, from_file):  # where it came from is said in the metadata
        del some.metadata_props[:]
    assert from_memory == from_file


@pytest.mark.usefixtures("_held")
def test_a_wrong_weight_is_found(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last number of a large tensor of the result: no other look than the judge's sees it."""
    transform = compilation.transform

    def wrong(model: ModelProto, options: Options, scratch: Scratch | None) -> object:
        made = transform(model, options, scratch)
        assert scratch is not None
        tensor = max(referred(made.result), key=lambda tensor: tensor.name)
        values = array_of(tensor).copy()
        values[-1, -1, -1, -1] *= -1
        tensor.CopyFrom(scratch.store(values, tensor.name))
        return made

    monkeypatch.setattr(compilation, "transform", wrong)
    with pytest.raises(VerificationFailed, match="weights"):
        compiled(path, tmp_path)
    assert not list(tmp_path.iterdir())


def test_memory_is_bounded_by_the_size_of_the_model(tmp_path: Path) -> None:
    """Above what a small model of the same nodes takes: onnxruntime has the signs of all weights beside the weights."""
    program = (
        "from reptran_compiler.model import referred; referred.MOST_HELD = 1_000_000; "
        "from reptran_compiler.compilation import *; from reptran_compiler.pipeline import Options; "
        "assert Compilation('in.onnx', Options(beta=2), Outputs('out.onnx', external_data=True), "
        "large=1_000_000, embed=False).run().verified"
    )
    peaks = []
    for gigabytes in (0.002, 0.05):
        folder = tmp_path / str(gigabytes)
        folder.mkdir()
        size = large.build(folder / "in.onnx", gigabytes, "latent weights")
        found = large.measure([sys.executable, "-c", program], folder)
        assert found.code == 0, found.said
        peaks.append(found.peak)
    assert peaks[1] - peaks[0] < 2.5 * size


def test_a_session_runs_what_is_referred_to(path: Path, tmp_path: Path) -> None:
    source = read_model(path, refer_above=1_000_000).model
    assert tensor_bytes(source) == tensor_bytes(embedded(source)) > 0.9e6 * MEGABYTES
    assert source.ByteSize() < 200_000
    feeds = random_feeds(source, batch=2)
    (found,) = Session(source).run(feeds).values()
    (expected,) = Session(embedded(source)).run(feeds).values()
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()  # stored matrices are packed before they run


def test_the_test_mode_for_rules_accepts_what_is_stored_twice(path: Path, tmp_path: Path) -> None:
    """It compares what a rule writes when it is called a second time: large tensors lie in a scratch file by then."""
    assert compiled(path, tmp_path, options=Options(beta=2, paranoid=True)).verified


def test_what_is_given_back_needs_no_files(path: Path, tmp_path: Path) -> None:
    shutil.copytree(path.parent, tmp_path / "in")
    made = compiled(tmp_path / "in" / "in.onnx", tmp_path).transformation
    shutil.rmtree(tmp_path / "in")
    assert made is not None
    for model in (made.canonical, made.result):
        onnx.checker.check_model(model)
        assert Session(model).run(random_feeds(model, batch=2))


def test_float16_is_compared_in_float32_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large.build(tmp_path / "in.onnx", 0.002, "latent weights")
    model = retyped(read_model(tmp_path / "in.onnx").model, TensorProto.FLOAT, TensorProto.FLOAT16)
    wider = []
    monkeypatch.setattr(law, "retyped", lambda *words: wider.append(words) or retyped(*words))
    assert compiled(model, tmp_path, large=100_000).verified
    assert len(wider) == 2


@pytest.mark.parametrize("lacking", ["room", "folder"])
def test_without_room_on_the_disk_what_fits_into_memory_is_held_there(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    (tmp_path / "usual").mkdir()
    (tmp_path / "lacking").mkdir()
    compiled(path, tmp_path / "usual")
    if lacking == "room":
        monkeypatch.setattr(Scratch, "room", 10_000_000)
    else:
        monkeypatch.setattr(Outputs, "scratch", _nothing)
    monkeypatch.setattr(Scratch, "store", _nothing)
    assert compiled(path, tmp_path / "lacking").verified
    assert files(tmp_path / "lacking") == files(tmp_path / "usual")
    monkeypatch.setattr(by_reference, "MOST_HELD", 1_000_000)
    monkeypatch.setattr(compilation, "MOST_HELD", 1_000_000)
    with pytest.raises(BadInput, match="no room"):
        compiled(path, tmp_path / "lacking")


def _nothing(*_: object, **__: object) -> None:
    raise BadInput("no room")


def test_a_file_whose_name_is_no_text_is_read_whole(tmp_path: Path) -> None:
    """Names of files that tensors lie in are UTF-8."""
    folder = tmp_path / "\udcff"
    folder.mkdir()
    large.build(folder / "in.onnx", 0.002, "latent weights")
    model = read_model(folder / "in.onnx", refer_above=1_000).model
    (folder / "whole.onnx").write_bytes(model.SerializeToString())
    assert not any(referred(model)) and read_model(folder / "whole.onnx", refer_above=1_000).model == model


def test_equal_arrays_are_stored_once(tmp_path: Path) -> None:
    values = np.arange(1 << 16, dtype=np.float32).reshape(256, 256)
    scratch = Scratch(tmp_path)
    one, other, turned = scratch.store(values, "w"), scratch.store(values.copy(), "w"), scratch.store(values.T, "w")
    assert one == other != turned
    assert np.array_equal(array_of(turned), values.T)


def test_what_protobuf_cannot_copy_is_held_in_memory(tmp_path: Path) -> None:
    model = network(helper.make_node("Sign", ["a"], ["r"]))
    text = b"documented"
    model.doc_string = text.decode()
    spoiled = ModelProto.FromString(model.SerializeToString().replace(text, b"docum\xe4nted"))
    assert Scratch(tmp_path).hold(spoiled) is spoiled


def test_a_scratch_file_leaves_nothing_behind(tmp_path: Path) -> None:
    values = np.arange(1 << 16, dtype=np.float32).reshape(256, 256)
    scratch = Scratch(tmp_path)
    tensor = scratch.store(values, "w")
    assert not scratch.keeps(values[:1]) and scratch.keeps(values)
    assert np.array_equal(array_of(tensor), values) and tensor.name == "w"
    assert tensor.data_type == TensorProto.FLOAT and tensor.ByteSize() < 200
    del scratch
    assert not list(tmp_path.iterdir())


def test_what_may_not_be_embedded_is_written_apart(tmp_path: Path) -> None:
    size = large.build(tmp_path / "in.onnx", 0.002, "latent weights")
    model = read_model(tmp_path / "in.onnx").model
    with Writing(limit=size // 2) as writing:
        writing.add_model(model, tmp_path / "out.onnx")
        writing.commit()
    assert len(list(tmp_path.glob("out.onnx.*.data"))) == 1
    assert read_model(tmp_path / "out.onnx").model == model


def test_the_benchmark_fails_where_a_result_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "_LOADING", "raise SystemExit('not this one')")
    words = ["--gigabytes", "0.002", "--forms", "latent weights", "-o", str(tmp_path / "table.md")]
    assert large.main(words) == 1
    assert (tmp_path / "table.md").read_text().count("not this one") == len(large.WAYS)


def test_tensors_compared_one_at_a_time_are_those_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(helper.make_node("Tanh", ["a"], ["r"]), helper.make_node("Sign", ["r"], ["s"]))
    at_once = Compilation(model, Options(beta=2)).run().judgement
    for module in (batch, equivalence):
        monkeypatch.setattr(module, "portions", partial(portions, most=1))
    one_by_one = Compilation(model, Options(beta=2)).run().judgement
    assert at_once is not None and one_by_one is not None and one_by_one.ok
    for here, there in zip(at_once.reports, one_by_one.reports, strict=True):
        assert here.coverage == there.coverage and here.coverage.compared > 1
        assert here.worst == there.worst


def test_portions_are_full_but_not_too_full() -> None:
    assert list(portions([3, 3, 3, 9, 1, 2, 4], lambda size: size, most=6)) == [[3, 3], [3], [9], [1, 2], [4]]
    assert list(portions([], lambda size: 1, most=6)) == []


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    large.build(tmp_path / "in.onnx", 0.002, "stored binary weights")
    program = (
        "import resource; from reptran_compiler.cli import options; from reptran_compiler.cli.main import main; "
        "from functools import partial; options.Compilation = partial(options.Compilation, large=1_000_000); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
        "raise SystemExit(main(['in.onnx', '-o', 'out.onnx']))"
    )
    found = large.measure([sys.executable, "-c", program], tmp_path)
    assert found.code == 2
    assert found.said.startswith("reptran-compile: cannot keep large tensors in a file: File too large")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.onnx", "in.onnx.weights"]


def test_data_that_does_not_fit_its_shape_is_refused(tmp_path: Path) -> None:
    large.build(tmp_path / "in.onnx", 0.002, "latent weights")
    model = onnx.load(str(tmp_path / "in.onnx"), load_external_data=False)
    model.graph.initializer[-1].dims[0] += 1
    (tmp_path / "in.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BadInput, match="classifier"):
        compiled(tmp_path / "in.onnx", tmp_path)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("set_back", [True, False])
def test_a_file_that_changes_while_it_is_compiled_is_refused(
    path: Path, tmp_path: Path, verify: bool, set_back: bool
) -> None:
    """Its tensors are read as they are needed: a result would be of both the old file and the new one."""
    place = tmp_path / "in" / "in.onnx"
    shutil.copytree(path.parent, place.parent)
    weights = max(place.parent.iterdir(), key=lambda each: each.stat().st_size)
    times = weights.stat().st_atime_ns, weights.stat().st_mtime_ns

    def step(what: str, done: int, total: int | None) -> None:
        if what != "reading":
            with weights.open("r+b") as file:
                file.seek(weights.stat().st_size - 8)
                file.write(bytes(8))
            if set_back:
                os.utime(weights, ns=times)

    (tmp_path / "out").mkdir()
    with pytest.raises(BadInput, match="was changed while it was read"):
        compiled(place, tmp_path / "out", step=step, verify=verify)
    assert not files(tmp_path / "out")


def test_a_file_that_changes_before_the_result_is_given_back_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is given back holds what files are only referred to for until then."""
    shutil.copytree(path.parent, tmp_path / "in")
    weights = max((tmp_path / "in").iterdir(), key=lambda each: each.stat().st_size)
    given = Compilation._given

    def late(compilation: Compilation, model: ModelProto) -> ModelProto:
        with weights.open("r+b") as file:
            file.write(bytes(8))
        return given(compilation, model)

    monkeypatch.setattr(Compilation, "_given", late)
    monkeypatch.setattr(compilation, "MOST_HELD", 1_000_000)
    for how in ({}, {"options": Options(beta=1)}):
        with pytest.raises(BadInput, match="was changed while it was read"):
            compiled(tmp_path / "in" / "in.onnx", tmp_path, **how)
        shutil.copytree(path.parent, tmp_path / "in", dirs_exist_ok=True)


def test_a_transformation_is_whole_without_its_result(path: Path, tmp_path: Path) -> None:
    """What its models refer to is there for as long as it is."""
    made = compiled(path, tmp_path, verify=False).transformation
    gc.collect()
    assert made is not None and any(referred(made.result))
    assert embedded(made.result).SerializeToString()
