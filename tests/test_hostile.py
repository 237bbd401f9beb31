"""Models that nobody exports: each is refused in one line that names the culprit, or compiled and verified."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import hostile_models as hostile
import numpy as np
import onnx
import pytest
from command import compile_file
from hostile_models import Make, changed, found, stored
from onnx import TensorProto, helper
from small_networks import network
from spelled import spelled

from reptran_compiler.compiler import BadInput, compile_model
from reptran_compiler.runtime import session
from reptran_compiler.validation import MOST_NODES, MOST_TURNS

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

REFUSED: dict[str, tuple[Make, Sequence[str]]] = {
    "a circle": (hostile.circle, ("node 'sign' depends on itself",)),
    "a circle that no output needs": (hostile.circle_beside, ("node 'add' depends on itself",)),
    "a circle through a Constant": (lambda: hostile.constant_in_a_circle("t"), ("node 'constant' depends on itself",)),
    "a Constant of what there is not": (lambda: hostile.constant_in_a_circle("lost"), ("'constant' reads 'lost'",)),
    "a tensor made twice": (hostile.made_twice, ("'t' is made twice", "'neg'")),
    "a Constant made twice": (hostile.constant_made_twice, ("'c' is made twice", "'constant'")),
    "an output twice": (hostile.output_twice, ("graph output 'o'", "twice")),
    "an input twice": (hostile.input_twice, ("graph input 'x'", "twice")),
    "a tensor stored twice": (hostile.stored_twice, ("initializer 'w'", "twice")),
    "a tensor stored and made": (hostile.stored_and_made, ("'t' is made twice", "'relu'")),
    "nodes of one name": (hostile.nodes_of_one_name, ("two nodes", "(same)")),
    "a dangling input": (lambda: changed(lambda m: found(m, "layer").input.__setitem__(0, "lost")), ("'lost'",)),
    "no node": (lambda: changed(lambda m: m.graph.ClearField("node")), ("no node",)),
    "no output": (lambda: changed(lambda m: m.graph.ClearField("output")), ("no output",)),
    "no input": (lambda: changed(lambda m: m.graph.ClearField("input")), ("'stem' reads 'x'", "nothing makes")),
    "an output that nothing makes": (
        lambda: changed(lambda m: setattr(m.graph.output[0], "name", "lost")),
        ("Graph output (lost) does not exist",),
    ),
    "an output of another shape than stated": (
        lambda: changed(lambda m: m.graph.output[0].type.tensor_type.shape.dim.pop()),
        ("graph output 'o'", "float[N]", "[1, 5]"),
    ),
    "a type that there is not": (
        lambda: changed(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 99)),
        ("tensor 'x'", "does not know"),
    ),
    "more sizes than data": (lambda: hostile.resized(8, 8, 3, 4), ("'w'", "[8, 8, 3, 4]")),
    "no data": (lambda: changed(lambda m: stored(m, "w").ClearField("raw_data")), ("'w'", "size 0")),
    "sizes of 2^62": (lambda: hostile.resized(1 << 62, 1 << 62), ("'w'", "4611686018427387904")),
    "a negative size": (lambda: hostile.resized(-1, 8, 3, 3), ("'w'", "negative", "[-1, 8, 3, 3]")),
    "a sparse tensor": (hostile.sparse, ("'few' is sparse", "dense")),
    "a name of a node in Latin-1": (lambda: hostile.in_latin1("layer"), ("no UTF-8", "b'l\\xe4yer'")),
    "an operator in Latin-1": (lambda: hostile.in_latin1("Conv"), ("no UTF-8", "b'C\\xe4nv'")),
    "a tensor in Latin-1": (lambda: hostile.in_latin1("stem.w"), ("no UTF-8", "b's\\xe4em.w'")),
    "documentation in Latin-1": (lambda: hostile.in_latin1("written"), ("no UTF-8", "b'w\\xe4itten'")),
    "NaN in weights": (lambda: hostile.filled(np.nan), ("'w'", "NaN")),
    "infinity in weights": (lambda: hostile.filled(-np.inf, "stem.w"), ("'stem.w'", "infinite")),
    "NaN in an attribute": (lambda: hostile.attribute_filled(np.nan), ("attribute 'alpha' of Gemm 'fc'", "NaN")),
    "infinity in an attribute": (lambda: hostile.attribute_filled(-np.inf), ("attribute 'alpha'", "infinite")),
    "infinity in a Constant": (lambda: hostile.constant_factor(np.inf), ("'value_float' of Constant", "infinite")),
    "a sparse Constant": (hostile.constant_sparse, ("'sparse_value' of Constant", "dense")),
    "a layer that overflows": (lambda: hostile.overflowing("w"), ("Conv 'layer' gives", "inf", "overflows")),
    "a classifier that overflows": (lambda: hostile.overflowing("fc.w"), ("Gemm 'fc' gives", "e+38", "overflows")),
    "an image of 2^62 pixels": (lambda: hostile.huge_image(1 << 62), ("graph input 'x'", "bytes")),
    "an image of negative size": (lambda: hostile.huge_image(-5), ("graph input 'x'", "negative", "-5")),
    "an image without pixels": (lambda: hostile.huge_image(0), ("does not run", "'stem'", "{0,6}")),
    "a function that calls itself": (lambda: hostile.recursive("A"), ("'acme:A' calls itself",)),
    "functions in a circle": (lambda: hostile.recursive("A", "B", "C"), ("'acme:A' calls itself",)),
    "2^20 turns": (lambda: hostile.looping(1 << 20), ("Loop 'loop' makes 1,048,576 turns", f"{MOST_TURNS:,}")),
    "a Loop of Constants without an end": (
        lambda: hostile.looping(None, hostile.truth(True)),
        ("Loop 'loop' does not end",),
    ),
    "200 turns of 200 turns": (lambda: hostile.loop_in_loop(200), ("Loop 'inner' makes 40,000 turns",)),
    "2^30 calls of functions": (lambda: hostile.doubling(30), (f"more than {MOST_NODES:,} nodes",)),
    "a function for an operator of ONNX": (lambda: hostile.with_function("ai.onnx"), ("'ai.onnx:Twice'", "own domain")),
    "an attribute twice": (hostile.attribute_twice, ("attribute 'pads' of Conv 'layer'", "twice")),
    "a divisor that is denormal": (
        lambda: network(behind=[helper.make_node("Div", ["y", "d"], ["t"])], d=np.float32(1e-40)),
        ("initializer 'd' divides by a denormal number", "verified"),
    ),
    "a window without numbers": (hostile.without_strides, ("'strides' of Conv 'layer' is empty",)),
    "a padding that there is not": (lambda: hostile.padded_by(""), ("'auto_pad' of Conv 'layer' is ''",)),
    "a flag that is no flag": (lambda: hostile.flagged(-(1 << 31)), ("'transB' of Gemm 'fc' is -2147483648", "nor 1")),
    "an attribute by reference": (
        lambda: changed(lambda m: setattr(found(m, "layer").attribute[0], "ref_attr_name", "p")),
        ("attribute 'pads' of Conv 'layer'", "refers"),
    ),
    "an opset before 7": (lambda: hostile.opset(6), ("opset 6", "from 7 on")),
    "an opset to come": (lambda: hostile.opset(999), ("opset 999", "update onnx")),
    "an IR version to come": (
        lambda: changed(lambda m: setattr(m, "ir_version", 999)),
        ("Unsupported model IR version: 999",),
    ),
    "no opset": (lambda: changed(lambda m: m.ClearField("opset_import")), ("does not say which opset",)),
    "a batch of one refused": (hostile.squeezed, ("does not run with every batch", "Unsqueeze")),
    "strings for an input": (hostile.string_input, ("cannot be fed", "string")),
    "an image without a batch": (lambda: hostile.batch(-1), ("graph input 'x'", "negative")),
    **{
        f"2^40 elements and more, {op}": (lambda op=op: hostile.huge(op), ("tensor 'z'", "bytes"))
        for op in ("ConstantOfShape", "Expand", "Tile", "Reshape", "Pad", "Resize", "Range", "OneHot")
    },
}

COMPILED: dict[str, Make] = {
    "no names of nodes": hostile.without_names,
    "a batch of one": lambda: hostile.batch(1),
    "a batch of none": lambda: hostile.batch(0),
    "strings stored": hostile.stored_strings,
    "training information": hostile.trained,
    "a custom operator with a body": hostile.with_function,
    "functions that call functions": lambda: hostile.doubling(4),
    "an operator of another domain": lambda: network(
        behind=[helper.make_node("Gelu", ["y"], ["t"], domain="com.microsoft", name="gelu")], domains=["com.microsoft"]
    ),
    "30 subgraphs in one another": lambda: hostile.nested(30),
    "500 turns": lambda: hostile.looping(500),
    "30 turns of 30 turns": lambda: hostile.loop_in_loop(30),
    "2^20 turns, of which one is made": lambda: hostile.looping(1 << 20, hostile.truth(False)),
    "300 nodes in a row": lambda: hostile.chain(300),
    "large weights": lambda: hostile.filled(3e38),
    "a negative variance": hostile.negative_variance,
    "two fields of data": lambda: changed(lambda m: stored(m, "w").float_data.extend([1.0] * 576)),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, words = REFUSED[kind]
    done = compile_file(make(), tmp_path, capsys)
    assert done.code == 2, done.err
    assert done.err.startswith("reptran-compile: ") and done.err.count("\n") == 1 and done.err[:-1].isprintable()
    for word in words:
        assert word in done.err
    assert done.written == () and done.out == ""


@pytest.mark.parametrize("kind", COMPILED)
def test_what_is_odd_and_compiles(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = compile_file(COMPILED[kind](), tmp_path, capsys)
    assert done.code == 0, done.err
    assert "verified: " in done.out and done.written == ("out.onnx",)


@pytest.mark.parametrize("version", [7, 8, 9, 10, 11, 12, *range(13, onnx.defs.onnx_opset_version() + 1, 4)])
def test_opsets_from_7_on(version: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = compile_file(spelled(version), tmp_path, capsys)
    assert done.code == 0, done.err
    assert done.model.opset_import[0].version == version


NAMES = [
    "a/b/../c",
    "a\nb",
    "\r\x1b[31mred\x1b[2J",
    "\x07\x7f",
    "\u202egnp.exe",
    "ü漢字🙂",
    "'\"`$(x)",
    "\0",
    "%s{}",
    "[bold]",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_do_not_act_on_terminals(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are kept in the file; in what is printed, escapes stand for what a terminal would obey."""
    done = compile_file(hostile.named(name), tmp_path, capsys)
    assert done.code == 0, done.err
    assert {f"{name}x", f"{name}o"} == {v.name for v in (*done.model.graph.input, *done.model.graph.output)}
    assert all(line.isprintable() for line in done.out.splitlines())
    assert done.out.count("\n") == compile_lines(tmp_path, capsys), "a name adds no line"
    broken = hostile.named(name)
    found(broken, f"{name}layer").input[0] = f"{name}lost"
    refused = compile_file(broken, tmp_path, capsys)
    assert refused.code == 2 and refused.err.count("\n") == 1 and refused.err[:-1].isprintable()


def compile_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """How many lines the report of the plain network has."""
    return compile_file(network(), folder, capsys).out.count("\n")


def test_names_of_files_may_hold_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / os.fsdecode(b"\xff\x1b[1m \n")
    folder.mkdir()
    done = compile_file(network(), folder, capsys)
    assert done.code == 0, done.err
    assert all(line.isprintable() for line in done.out.splitlines())


def test_a_loop_without_an_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LONGEST_LOOPING", 0.2)
    waited: list[float] = []
    timer = session.threading.Timer
    monkeypatch.setattr(session.threading, "Timer", lambda *given: waited.append(given[0]) or timer(*given))
    done = compile_file(hostile.looping(1 << 62, *hostile.COMPUTED), tmp_path, capsys)
    assert done.code == 2 and "a Loop of it did not end" in done.err and done.written == ()
    assert waited == [0.2], "one size is tried, not every one"


def test_subgraphs_500_deep() -> None:
    """No file holds them, protobuf reads a hundred messages in one another; a model in memory does."""
    model = network(inputs=[hostile.FLAG])
    graph = model.graph
    for level in range(500):
        node = graph.node.add(op_type="If", input=["flag"], output=[f"deep {level}"])
        node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
        graph = node.attribute[0].g
    with pytest.raises(BadInput, match="nested"):
        compile_model(model)


def test_a_million_nodes_are_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = hostile.chain(1_000_000)
    begin = time.process_time()
    done = compile_file(model, tmp_path, capsys)
    assert done.code == 2 and "1,000,006 nodes" in done.err and done.written == ()
    assert time.process_time() - begin < 10


# -- external data -------------------------------------------------------------------------------------------


def external(folder: Path, **entries: str) -> None:
    """`in.onnx` in a folder, whose layer's weights are where the entries say; `w.bin` holds them."""
    model = network()
    weights = stored(model, "w")
    (folder / "w.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", **entries}.items():
        weights.external_data.add(key=key, value=value)
    (folder / "in.onnx").write_bytes(model.SerializeToString())


def link_to_itself(folder: Path) -> None:
    (folder / "odd").symlink_to("odd")


def link_outside(folder: Path) -> None:
    (folder.parent / "secret.bin").write_bytes(bytes(8 * 8 * 9 * 4))
    (folder / "odd").symlink_to("../secret.bin")


def folder_outside(folder: Path) -> None:
    (folder.parent / "secrets").mkdir()
    (folder.parent / "secrets" / "w.bin").write_bytes(bytes(8 * 8 * 9 * 4))
    (folder / "odd").symlink_to("../secrets")


def nothing(folder: Path) -> None:
    """Nothing beside the model but its weights."""


EXTERNAL: dict[str, tuple[dict[str, str], Callable[[Path], object], str]] = {
    "above": ({"location": "../w.bin"}, nothing, "only files beside the model"),
    "above by a detour": ({"location": "a/../../w.bin"}, nothing, "only files beside the model"),
    "absolute": ({"location": "/etc/passwd"}, nothing, "only files beside the model"),
    "endless": ({"location": "/dev/zero"}, nothing, "only files beside the model"),
    "of the process": ({"location": "/proc/self/mem"}, nothing, "only files beside the model"),
    "nameless": ({"location": ""}, nothing, "has no location"),
    "the folder": ({"location": "."}, nothing, "'.'"),
    "with NUL": ({"location": "w.bin\0"}, nothing, "only files beside the model"),
    "with a name that is too long": ({"location": "w" * 5000}, nothing, "cannot be read"),
    "of Windows": ({"location": "..\\w.bin"}, nothing, "missing"),
    "missing": ({"location": "w.bim"}, nothing, "missing"),
    "a folder": ({"location": "odd"}, lambda folder: (folder / "odd").mkdir(), "no regular file"),
    "a pipe": ({"location": "odd"}, lambda folder: os.mkfifo(folder / "odd"), "no regular file"),
    "a link to itself": ({"location": "odd"}, link_to_itself, "'odd'"),
    "a link to outside": ({"location": "odd"}, link_outside, "outside of the model's folder"),
    "in a folder outside": ({"location": "odd/w.bin"}, folder_outside, "outside of the model's folder"),
    "of an absurd offset": ({"offset": str(1 << 62)}, nothing, "too short"),
    "of a negative offset": ({"offset": "-8"}, nothing, "too short"),
    "of a negative length": ({"length": "-1"}, nothing, "too short"),
    "of another length": ({"length": "8"}, nothing, "8 bytes where its shape [8, 8, 3, 3] asks for 2,304"),
    "of no length": ({"length": "9" * 5000}, nothing, "no number"),
}


@pytest.mark.parametrize("kind", EXTERNAL)
def test_external_data_that_is_refused(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries, prepare, words = EXTERNAL[kind]
    folder = tmp_path / "folder"
    folder.mkdir()
    external(folder, **entries)
    prepare(folder)
    done = compile_file(None, folder, capsys)
    assert done.code == 2 and done.written == (), done.err
    assert "external data of tensor 'w'" in done.err and words in done.err
    assert done.err.count("\n") == 1 and done.err[:-1].isprintable()


def test_external_data_that_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through a link that stays in the folder, without a length, from a folder below."""
    external(tmp_path, location="below/link.bin")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "link.bin").symlink_to("../w.bin")
    assert compile_file(None, tmp_path, capsys).code == 0


def test_devices_are_no_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = compile_file(None, tmp_path, capsys)
    assert done.code == 2
    with pytest.raises(BadInput, match="device"):
        compile_model("/dev/zero")


def test_a_pipe_may_be_a_model(tmp_path: Path) -> None:
    """As in `reptran-compile <(download) -o out.onnx`; in a process of its own, since a mistake here hangs."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "reptran_compiler", str(pipe), "-o", str(tmp_path / "out.onnx"), "-q"]
    with subprocess.Popen(command) as process:
        pipe.write_bytes(network().SerializeToString())
        assert process.wait(60) == 0
    assert (tmp_path / "out.onnx").is_file()
