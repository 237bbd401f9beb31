"""What training could change without saying so: shared numbers, names, decisions, what a file cannot hold."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from reptran_compiler import compile_model
from reptran_compiler.errors import BadInput
from reptran_compiler.gate import verify_pair
from reptran_compiler.training import (
    Sign,
    agreement,
    escape,
    rescale,
    spread,
    to_onnx,
    to_torch,
    verified,
)
from reptran_compiler.training.annealing import weights_real
from reptran_compiler.training.layers import Arithmetic, Conv
from reptran_compiler.training.reading import _Reader
from reptran_compiler.verification.protograph import ProtoGraph
from tests.shaken import LIMIT, shaken
from tests.small_networks import if_node, network
from tests.tiny_networks import Net, plain

TINY = Path(__file__).resolve().parent.parent / "models" / "files" / "reactnet-tiny.onnx"
FORMS = [{}, {"bn": "keep"}, {"weights": "binary"}, {"scope": "layer"}, {"fc": "fold", "repeat": "concat"}]


def _one_layer(*between: onnx.NodeProto, latent: Any = None, **stored: Any) -> ModelProto:
    """`small_networks.network`; its layer has latent weights `latent` where they are given."""
    if latent is None:
        return network(*between, **stored)
    model = network(*between, helper.make_node("Sign", ["latent"], ["signs"], name="signs"), latent=latent, **stored)
    next(node for node in model.graph.node if node.name == "layer").input[1] = "signs"
    return model


_NODE = helper.make_node
_COLUMN = np.random.default_rng(7).normal(size=(1, 8, 1, 1))
_WEIGHTS = np.random.default_rng(8).normal(size=(8, 8, 3, 3))


@pytest.mark.parametrize("op", ["PRelu", "Add"])
@pytest.mark.parametrize("rep", [False, True])
def test_numbers_that_an_operator_reads_as_they_are_stay_when_a_parameter_is_stored_with_them(
    op: str, rep: bool
) -> None:
    """Exporters store equal numbers once: here what is trained, and what `Max` compares with."""
    column = _COLUMN[0] if op == "PRelu" else _COLUMN
    nodes = (_NODE(op, ["a", "c"], ["p"], name="p"), _NODE("Max", ["p", "c"], ["q"], name="q"))
    model = _one_layer(*nodes, _NODE("Sign", ["q"], ["s"], name="s"), c=column)
    net = to_torch(compile_model(model, 2, verify=False) if rep else model)
    written = to_onnx(shaken(net))
    assert agreement(net, written).worst < LIMIT
    assert not rep or not verify_pair(model, written, retrained=True).failures


def test_weights_are_shared_in_whatever_order_they_are_read() -> None:
    """A reader of the same numbers that is no layer, in front of both layers, does not part them."""
    behind = [
        _NODE("Relu", ["y"], ["r"], name="r"),
        _NODE("Conv", ["r", "k"], ["one"], name="one", pads=[3, 3, 2, 2]),
        _NODE("Conv", ["one", "k"], ["t"], name="two", pads=[3, 3, 2, 2]),
    ]
    scaled = (_NODE("Mul", ["a", "k"], ["p"], name="p"), _NODE("Sign", ["p"], ["s"], name="s"))
    stored: dict[str, Any] = {"k": np.random.default_rng(0).normal(size=(1, 1, 6, 6)), "fc.w": np.ones((5, 1))}
    net = to_torch(network(*scaled, behind=behind, filters=1, **stored))
    one, two = net.module("one"), net.module("two")
    assert isinstance(one, Conv) and isinstance(two, Conv) and one.weight is two.weight


def test_weights_that_would_be_written_in_two_ways_are_refused_before_they_are_trained() -> None:
    model = _one_layer(_NODE("Sign", ["a"], ["s"], name="s"), latent=np.sign(_WEIGHTS))
    pool = next(node for node in model.graph.node if node.op_type == "GlobalAveragePool")
    pool.input[0] = "t"
    place = list(model.graph.node).index(pool)
    model.graph.node.insert(place, _NODE("Sign", ["y"], ["sy"], name="sy"))
    model.graph.node.insert(place + 1, _NODE("Conv", ["sy", "latent"], ["t"], name="again", pads=[1] * 4))
    with pytest.raises(BadInput, match="'latent' are latent ones in one place and binary ones in another"):
        to_torch(model)
    given = network()
    given.graph.output.append(helper.make_tensor_value_info("stem.w", 1, [8, 3, 3, 3]))
    with pytest.raises(BadInput, match="'stem.w' are also read, or given"):
        to_torch(given)


def test_a_stem_whose_weights_another_layer_has_keeps_its_bias() -> None:
    """Its normalisation cannot be multiplied into weights that the other layer reads as well."""
    net_ = Net()
    weight, bias = net_.store("w", net_.normal(3, 3, 3, 3)), net_.store("b", net_.normal(3))
    x = net_.add("Conv", ["input", weight, bias], "stem", pads=[1] * 4)
    x = net_.add("Conv", [net_.add("Relu", [x], "relu"), weight], "again", pads=[1] * 4)
    net = to_torch(net_.head(net_.binary_conv(x, "conv", (8, 3, 3), pads=[1] * 4), 8))
    assert agreement(shaken(net), to_onnx(net)).worst < LIMIT


@pytest.mark.parametrize("name", ["type", "forward", "_modules", "training"])
def test_nodes_and_tensors_may_be_called_like_what_torch_has(name: str) -> None:
    nodes = (_NODE("Max", ["a", name], ["m"], name=name), _NODE("Sign", ["m"], ["s"], name="s"))
    net = to_torch(_one_layer(*nodes, **dict[str, Any]({name: _COLUMN})))
    assert agreement(shaken(net), to_onnx(net)).worst < LIMIT
    assert net.module(name) is getattr(net.nodes, escape(name))


def test_what_a_file_does_not_have_is_called_like_nothing_in_it() -> None:
    """A node called as the parameter of another one would be, and a tensor as statistics would be."""
    nodes = (
        _NODE("Sign", ["c"], ["signs of c"], name="mx"),
        _NODE("Mul", ["a", "signs of c"], ["m"], name="m"),
        _NODE("Neg", ["m"], ["n"], name="mx/c"),
        _NODE("Mul", ["n", "bn"], ["scaled"], name="scaled"),
        _NODE("Add", ["scaled", "offset"], ["shifted"], name="shifted"),
        _NODE("Add", ["shifted", "bn/mean"], ["more"], name="more"),
        _NODE("Sign", ["more"], ["s"], name="s"),
    )
    stored: dict[str, Any] = {"c": _COLUMN, "bn": _COLUMN, "offset": _COLUMN, "bn/mean": _COLUMN}
    model = network(*nodes, **stored)
    net = _Reader(ProtoGraph(model), "polynomial", "clip").network()
    assert agreement(shaken(net), to_onnx(net)).worst < LIMIT
    held = [*net.parameters(), *(each for name, each in net.named_buffers() if "running" in name)]
    assert len(net.state_dict()) == len(held)
    other = _Reader(ProtoGraph(model), "polynomial", "clip").network()
    other.load_state_dict(net.state_dict())
    assert to_onnx(other).SerializeToString(deterministic=True) == to_onnx(net).SerializeToString(deterministic=True)


def test_a_branch_that_is_always_taken_and_reads_a_map_is_refused() -> None:
    model = network(behind=[if_node("y", "t")], two=np.array(2.0), flag=np.array(True))
    with pytest.raises(BadInput, match="If 'choice' cannot be trained through: it has a body"):
        to_torch(model)


def test_a_single_number_keeps_its_shape() -> None:
    model = _one_layer(
        _NODE("PRelu", ["a", "slope"], ["p"], name="p"), _NODE("Sign", ["p"], ["s"], name="s"), slope=np.array(0.25)
    )
    written = to_onnx(to_torch(compile_model(model, 2, verify=False)))
    assert not verify_pair(model, written, retrained=True).failures


def test_what_the_file_cannot_say_is_not_written() -> None:
    net = to_torch(_one_layer(_NODE("Sign", ["a"], ["s"], name="s"), latent=_WEIGHTS))
    with pytest.raises(ValueError, match="is float in the file and double here: convert the network"):
        to_onnx(copy.deepcopy(net).double())
    weights_real(net, True)
    with pytest.raises(ValueError, match="binary weights are used as real ones"):
        to_onnx(net)
    weights_real(net, False)
    assert agreement(net, to_onnx(net)).worst < LIMIT


def test_numbers_that_are_none_are_not_forgotten_behind_a_binarisation() -> None:
    """What onnxruntime decides on NaN is forced on torch, and all behind it agrees."""
    nodes = (
        _NODE("Mul", ["a", "c"], ["p"], name="p"),
        _NODE("Sub", ["p", "p"], ["q"], name="q"),
        _NODE("GreaterOrEqual", ["q", "zero"], ["ge"], name="ge"),
        _NODE("Where", ["ge", "one", "minus"], ["s"], name="s"),
    )
    model = network(*nodes, c=_COLUMN, zero=np.array(0.0), one=np.array(1.0), minus=np.array(-1.0))
    net = _Reader(ProtoGraph(model), "polynomial", "clip").network()
    scale = net.module("p")
    assert isinstance(scale, Arithmetic)
    scale.parameter.data.fill_(np.inf)
    assert np.isnan(agreement(net, to_onnx(net)).worst)


def test_another_decision_on_the_same_number_is_a_difference() -> None:
    net = to_torch(_one_layer(_NODE("Relu", ["a"], ["r"], name="r"), _NODE("Sign", ["r"], ["s"], name="s")))
    assert agreement(net, net.blueprint.model).worst < LIMIT
    sign = net.module("s")
    assert isinstance(sign, Sign)
    sign.up = True
    found = agreement(net, net.blueprint.model)
    assert found.worst == np.inf and found.tensor == "s"


def test_half_precision_is_verified_with_its_own_limit() -> None:
    model = plain()
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    found = verified(to_torch(model))
    assert {tensor.data_type for tensor in found.graph.initializer} == {TensorProto.FLOAT16}


def test_bringing_latent_weights_to_a_magnitude_changes_no_sign() -> None:
    """However large or small they are, and however far apart."""
    for scale in (1e20, 1e-30, np.where(np.arange(8)[:, None, None, None] == 0, 1e19, 1e-25)):
        net = to_torch(_one_layer(_NODE("Sign", ["a"], ["s"], name="s"), latent=_WEIGHTS * scale))
        layer = net.module("layer")
        assert isinstance(layer, Conv) and layer.weight is not None
        before = torch.sign(layer.weight.detach())
        assert rescale(net) == 1
        assert torch.equal(torch.sign(layer.weight.detach()), before)
        assert float(layer.weight.detach().square().mean().sqrt()) == pytest.approx(0.1)


def test_latent_weights_that_a_real_layer_reads_too_keep_their_magnitude() -> None:
    model = _one_layer(_NODE("Sign", ["a"], ["s"], name="s"), latent=_WEIGHTS)
    pool = next(node for node in model.graph.node if node.op_type == "GlobalAveragePool")
    model.graph.node.insert(
        list(model.graph.node).index(pool), _NODE("Conv", ["y", "latent"], ["t"], name="real", pads=[1] * 4)
    )
    pool.input[0] = "t"
    net = to_torch(model)
    assert rescale(net) == 0
    assert agreement(net, net.blueprint.model).worst < LIMIT


def test_copies_are_shifted_where_there_are_copies() -> None:
    """In `layer` scope a map has its own width, and what is repeated in it are no copies."""
    assert spread(to_torch(compile_model(plain(), 4, verify=False))) == 2
    assert spread(to_torch(compile_model(plain(), 4, verify=False, scope="layer"))) == 0
