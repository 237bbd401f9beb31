"""`--repeat`: replication is written in another way, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import compile_file
from onnx import ModelProto, helper
from small_networks import SIGN, network
from spelled import spelled

from reptran_compiler.cli.verify import main as verify_main
from reptran_compiler.compiler import NothingToDo, Refusal, compile_model
from reptran_compiler.runtime import random_feeds, run

WAYS = {"concat": "Concat", "expand": "Expand"}


def open_size() -> ModelProto:
    """Height and width of the image are dynamic."""
    model = network()
    for axis, name in ((2, "H"), (3, "W")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    return model


def without_batch() -> ModelProto:
    """The batch is 1."""
    model = network()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return model


def upsampled() -> ModelProto:
    """The image is repeated along its height and width by a Tile of the source's own."""
    repeat = helper.make_node("Tile", ["a", "twice"], ["b"], name="upsample")
    return network(repeat, helper.make_node("Sign", ["b"], ["s"], name="sign"), twice=np.array([1, 1, 2, 2]))


NETWORKS: dict[str, tuple[Callable[[], ModelProto], dict[str, int]]] = {
    "reactnet-tiny": (lambda: onnx.load("models/files/reactnet-tiny.onnx"), {}),
    "open size": (open_size, {"H": 7, "W": 9}),
    "batch of one": (without_batch, {}),
    "opset 9": (lambda: spelled(9), {}),
    "opset 22": (lambda: spelled(22), {}),
    "a Tile of its own": (upsampled, {}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_numbers_are_those_of_tile(kind: str, way: str) -> None:
    """To the bit, at sizes that the compilation did not run with; and the graph has no Tile that the source had not."""
    make, dims = NETWORKS[kind]
    source = make()
    tiled, other = (compile_model(source, 2, repeat=each, dims=dims) for each in ("tile", way))
    assert other.verified
    batch = 1 if kind == "batch of one" else 5
    sizes = {name: size + 4 for name, size in dims.items()}
    feeds = random_feeds(source, batch=batch, dims=sizes)
    before, after = (run(each.model, feeds) for each in (tiled, other))
    assert all(np.array_equal(before[name], after[name]) for name in before)
    own = [node.name for node in source.graph.node if node.op_type == "Tile"]
    kinds = [node.op_type for node in other.model.graph.node]
    assert [node.name for node in other.model.graph.node if node.op_type == "Tile"] == own
    assert kinds.count(WAYS[way]) >= 2


def test_dynamic_axes_stay_dynamic() -> None:
    """One open size is inferred, two are computed; where none is, the shape is stored."""
    for make, dims, computed in ((open_size, {"H": 7, "W": 9}, True), (network, {}, False)):
        made = compile_model(make(), 2, repeat="expand", dims=dims).model
        assert any(node.op_type == "Shape" for node in made.graph.node) == computed


@pytest.mark.parametrize("way", WAYS)
def test_the_gate_takes_it_from_the_metadata(way: str, tmp_path: Path) -> None:
    """reptran-verify compares the form that was asked for, retrained too."""
    source, rep = str(tmp_path / "in.onnx"), str(tmp_path / "rep.onnx")
    onnx.save(network(), source)
    compile_model(source, 2, repeat=way, output=rep)
    assert verify_main([source, rep, "--retrained"]) == 0
    assert verify_main([source, rep, "--repeat", "tile"]) == 2, "the metadata says something else"


@pytest.mark.parametrize("way", WAYS)
def test_a_result_is_not_replicated_again(way: str) -> None:
    """Also where the metadata is lost."""
    made = compile_model(network(), 2, repeat=way).model
    del made.metadata_props[:]
    with pytest.raises(NothingToDo, match="'layer'"):
        compile_model(made, 2)


def test_a_map_beside_itself_is_no_repetition_of_a_layer() -> None:
    """Channels are doubled so in shortcuts."""
    shortcut = [
        helper.make_node("Add", ["y", "a"], ["sum"], name="add"),
        helper.make_node("Concat", ["sum", "sum"], ["t"], axis=1, name="double"),
    ]
    model = network(SIGN, behind=shortcut, **{"fc.w": np.ones((5, 16))})
    assert compile_model(model, 2).verified


def test_what_an_opset_cannot_say_is_refused() -> None:
    """Expand came with opset 8."""
    with pytest.raises(Refusal, match="cannot be written with --repeat expand: it needs opset 8"):
        compile_model(spelled(7), 2, repeat="expand")


def test_the_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is recorded, and listed among the passes."""
    done = compile_file(network(), tmp_path, capsys, "--repeat", "concat")
    assert done.code == 0 and any(node.op_type == "Concat" for node in done.model.graph.node)
    recorded = {entry.key: entry.value for entry in done.model.metadata_props}
    assert '"repeat": "concat"' in recorded["reptran.options"].replace('":"', '": "')


@pytest.mark.parametrize("way", ["tile", *WAYS])
def test_shapes_that_only_a_run_tells_are_found(way: str) -> None:
    """Shape inference does not follow every operator that onnxruntime runs."""
    norm = helper.make_node("GroupNormalization", ["y", "ones", "zeros"], ["n"], name="norm", num_groups=2)
    more = [norm, helper.make_node("Sign", ["n"], ["p"], name="again"), helper.make_node("Conv", ["p", "v"], ["t"])]
    weights = np.sign(np.random.default_rng(2).normal(size=(8, 8, 1, 1)))
    model = network(behind=more, opset=21, ones=np.ones(8), zeros=np.zeros(8), v=weights)
    assert compile_model(model, 2, repeat=way).verified
