"""From ONNX to torch and back: what a user relies on when a network is trained elsewhere than it was written."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import nn

from models.toolchains.fixtures import load
from reptran_compiler import compile_model
from reptran_compiler.costs import count
from reptran_compiler.errors import BadInput
from reptran_compiler.gate import verify_pair
from reptran_compiler.rewriting import preserves, rule
from reptran_compiler.training import (
    WeightSign,
    agreement,
    escape,
    sources,
    to_onnx,
    to_torch,
    unescape,
    verified,
)
from reptran_compiler.training.layers import Conv
from reptran_compiler.training.norms import BatchNorm, FoldedNorm, FusedNorm, KeptNorm, Statistics
from reptran_compiler.training.reading import _Reader
from reptran_compiler.verification.protograph import ProtoGraph
from tests.shaken import LIMIT, shaken
from tests.small_networks import custom_operator, if_node, local_function, network
from tests.tiny_networks import Net, joined, plain

TINY = Path(__file__).resolve().parent.parent / "models" / "files" / "reactnet-tiny.onnx"
FORMS = [{}, {"bn": "keep"}, {"weights": "binary"}, {"scope": "layer"}, {"fc": "fold", "repeat": "concat"}]


def _source(name: str) -> ModelProto:
    if name == "plain":
        return plain()
    if name == "joined":
        return joined()
    return onnx.load(str(TINY)) if name == "reactnet-tiny" else load(name).model


@pytest.mark.parametrize(
    "name", ["plain", "joined", "reactnet-tiny", "larq/quicknet", "brevitas/tfc-dynamo", "jax/vgg"]
)
def test_an_original_computes_the_same_in_torch_and_when_it_is_written_again(name: str) -> None:
    net = to_torch(_source(name))
    assert agreement(net, net.blueprint.model).worst < LIMIT
    written = to_onnx(net)
    onnx.checker.check_model(written, full_check=True)
    assert agreement(net, written).worst < LIMIT
    assert count(written) == count(net.blueprint.model)


@pytest.mark.parametrize(
    ("name", "options"),
    [*(("plain", form) for form in FORMS), ("reactnet-tiny", {}), ("brevitas/scaled-dynamo", {"bn": "keep"})],
    ids=str,
)
def test_a_rep_network_passes_the_gate_when_it_is_written_again(name: str, options: dict[str, str]) -> None:
    source = _source(name)
    rep = compile_model(source, 2, verify=False, **options).model  # type: ignore[arg-type]
    net = to_torch(rep)
    assert agreement(net, rep).worst < LIMIT
    written = to_onnx(net)
    assert count(written) == count(rep)
    assert [node.name for node in written.graph.node] == [node.name for node in rep.graph.node]
    assert list(written.graph.input) == list(rep.graph.input) and list(written.graph.output) == list(rep.graph.output)
    for retrained in (False, True):
        checked = verify_pair(source, written, retrained=retrained)
        assert checked.passed, checked.failures


@pytest.mark.parametrize(("name", "options"), [*(("plain", form) for form in FORMS), ("reactnet-tiny", {})], ids=str)
def test_what_training_changed_is_what_the_file_computes(name: str, options: dict[str, str]) -> None:
    source = _source(name)
    net = shaken(to_torch(compile_model(source, 2, verify=False, **options)))  # type: ignore[arg-type]
    written = to_onnx(net)
    assert agreement(net, written).worst < LIMIT
    assert agreement(net, net.blueprint.model).worst > 0.01
    checked = verify_pair(source, written, retrained=True)
    assert checked.passed, checked.failures
    assert not verify_pair(source, written).passed
    entries = {entry.key: entry.value for entry in written.metadata_props}
    assert entries["reptran.verified"] == "false" and entries["reptran.trained"] == "true"


def test_a_network_that_was_written_is_read_again() -> None:
    net = shaken(to_torch(compile_model(str(TINY), 2, verify=False)))
    written = to_onnx(net)
    again = to_torch(written)
    assert agreement(again, written).worst < LIMIT
    assert to_onnx(again).SerializeToString(deterministic=True) is not None


def test_keys_of_the_state_are_the_names_of_the_file() -> None:
    net = to_torch(str(TINY))
    stored = {tensor.name for tensor in net.blueprint.model.graph.initializer}
    keys = set(net.state_dict())
    folded = [module for module in net.modules() if isinstance(module, FoldedNorm)]
    assert folded and len(keys - stored) == 4 * len(folded)
    other = to_torch(str(TINY))
    shaken(other)
    missing, unexpected = other.load_state_dict(net.state_dict())
    assert not missing and not unexpected
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    other.load_state_dict(dict(net.state_dict()))
    outer = nn.Sequential(copy.deepcopy(net))
    assert {key.removeprefix("0.") for key in outer.state_dict()} == keys
    outer.load_state_dict(outer.state_dict())


@given(st.text())
def test_names_of_modules_are_escaped_in_a_way_that_can_be_undone(name: str) -> None:
    assert unescape(escape(name)) == name
    assert "." not in escape(name) and escape(name)


def test_a_printed_network_is_a_program() -> None:
    shown = repr(to_torch(compile_model(str(TINY), 2, verify=False)))
    lines = shown.splitlines()
    assert lines[0] == "Network(input -> logits)"
    assert any("RepConv" in line for line in lines) and any("PRelu" in line for line in lines)
    assert "WeightSign(clip)" in shown and "Sign(polynomial)" in shown


def test_a_normalisation_that_was_folded_is_there_again_with_narrow_statistics() -> None:
    net = to_torch(compile_model(plain(), 2, verify=False))
    layers = [module for module in net.modules() if isinstance(module, Conv) and isinstance(module.norm, FoldedNorm)]
    assert layers
    for layer in layers:
        assert layer.norm is not None and layer.weight is not None
        assert layer.norm.statistics.num_features * layer.times == len(layer.norm.weight)
        assert layer.norm.statistics.num_features == len(layer.weight)


def test_a_normalisation_that_was_kept_has_narrow_statistics_too() -> None:
    net_ = Net()
    x = net_.real_conv("input", "stem", (8, 3, 3), pads=[1] * 4)
    signs = net_.sign(x, "sign")
    weight = net_.store("w", np.sign(net_.normal(8, 8, 3, 3)))
    y = net_.norm(net_.add("Conv", [signs, weight], "conv", pads=[1] * 4), "norm", 8)
    source = net_.head(y, 8)
    for tensor in source.graph.initializer:
        if tensor.name in ("norm.2", "norm.3"):  # of trained Rep networks, the statistics of copies are equal
            tensor.CopyFrom(numpy_helper.from_array(np.full(8, 0.3, np.float32), tensor.name))
    rep = compile_model(source, 2, bn="keep").model
    net = to_torch(rep)
    (kept,) = [module for module in net.modules() if isinstance(module, KeptNorm)]
    assert (kept.statistics.num_features, len(kept.weight)) == (4, 16)
    shaken(net)
    written = to_onnx(net)
    assert agreement(net, written).worst < LIMIT
    checked = verify_pair(source, written, retrained=True)
    assert checked.passed, checked.failures
    wide = BatchNorm(16, kept.statistics.eps)
    wide.weight, wide.bias = kept.weight, kept.bias
    narrow = torch.randn(8, 4, 6, 6)
    torch.testing.assert_close(kept.train()(narrow), wide.train()(narrow.repeat(1, 4, 1, 1)))


def test_the_stem_that_an_exporter_fused_is_normalised_again() -> None:
    net = to_torch(str(TINY))
    fused = [module for module in net.modules() if isinstance(module, FusedNorm)]
    assert len(fused) == 1
    assert agreement(shaken(net), to_onnx(net)).worst < LIMIT


def test_numbers_that_are_equal_by_accident_are_trained_apart_and_weights_that_are_shared_together() -> None:
    net_ = Net()
    x = net_.real_conv("input", "stem", (8, 3, 3), pads=[1] * 4)
    latent, ones, zeros = (
        net_.store("latent", net_.normal(8, 8, 3, 3)),
        net_.store("ones", np.ones(8, np.float32)),
        net_.store("zeros", np.zeros(8, np.float32)),
    )
    for number in range(2):
        weight = net_.add("Sign", [latent], f"sign{number}.w")
        y = net_.add("Conv", [net_.sign(x, f"sign{number}"), weight], f"conv{number}", pads=[1] * 4)
        x = net_.add("BatchNormalization", [y, ones, zeros, zeros, ones], f"norm{number}")
    net = to_torch(net_.head(x, 8))
    convs = [module for module in net.modules() if isinstance(module, Conv) and module.binarise is not None]
    assert len(convs) == 2 and convs[0].weight is convs[1].weight
    norms = [module for module in net.modules() if isinstance(module, BatchNorm) and not isinstance(module, Statistics)]
    apart = {id(each) for norm in norms for each in (norm.weight, norm.bias, norm.running_mean, norm.running_var)}
    assert len(apart) == 8
    given = net.blueprint.model
    again = to_onnx(net)
    assert count(again) == count(given), "what training has not made differ is stored once"
    assert {tensor.name for tensor in again.graph.initializer} == {tensor.name for tensor in given.graph.initializer}
    assert agreement(shaken(net), to_onnx(net)).worst < LIMIT
    assert count(to_onnx(net)).trainable > count(given).trainable


def test_all_that_is_trained_gets_a_gradient() -> None:
    for source in (str(TINY), compile_model(str(TINY), 2, verify=False)):
        net = to_torch(source).train()
        net(torch.randn(4, 3, 32, 32)).square().sum().backward()
        without = [name for name, each in net.named_parameters() if each.grad is None or not each.grad.abs().sum() > 0]
        assert not without


def test_reading_does_not_touch_what_is_read() -> None:
    model = onnx.load(str(TINY))
    before = model.SerializeToString(deterministic=True)
    shaken(to_torch(model))
    assert model.SerializeToString(deterministic=True) == before


def test_writing_is_deterministic_and_does_not_touch_the_network() -> None:
    net = to_torch(compile_model(str(TINY), 2, verify=False))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert to_onnx(net).SerializeToString(deterministic=True) == to_onnx(net).SerializeToString(deterministic=True)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("options", [{"optimize": "float"}, {"weights": "packed"}, {"classifier": "int8"}], ids=str)
def test_what_was_lowered_is_refused(options: dict[str, str]) -> None:
    made = compile_model(str(TINY), 2, verify=False, **options)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="compiled for deployment"):
        to_torch(made)


def test_what_cannot_be_trained_through_is_named() -> None:
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    with pytest.raises(BadInput, match="If 'choice' cannot be trained through: it has a body"):
        to_torch(network(behind=[if_node("y", "t")], inputs=[flag], two=np.array(2.0)))
    custom = network(behind=[custom_operator("y", "t")], functions=[local_function()], domains=["acme"])
    with pytest.raises(BadInput, match="acme.* cannot be trained through: there is no torch form of it"):
        to_torch(custom)


def test_a_module_without_a_network_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="holds no networks"):
        to_onnx(nn.Linear(2, 2))


def test_metadata_of_an_original_stays() -> None:
    model = onnx.load(str(TINY))
    model.metadata_props.add(key="author", value="someone")
    written = to_onnx(to_torch(model))
    assert {entry.key: entry.value for entry in written.metadata_props} == {"author": "someone"}
    assert json.dumps([value.name for value in written.graph.input]) == '["input"]'
    assert numpy_helper.to_array(written.graph.initializer[0]).size


def test_weights_that_a_formula_makes_are_trained_through() -> None:
    """Not as the canonical form has them: their Sign is one of weights all the same, and what it reads a parameter."""
    net_ = Net()
    x = net_.real_conv("input", "stem", (8, 3, 3), pads=[1] * 4)
    signs = net_.add("Sign", [net_.store("latent", net_.normal(8, 8, 3, 3))], "signs")
    weight = net_.add("Mul", [signs, net_.store("scale", net_.normal(8, 1, 1, 1))], "weight")
    y = net_.add("Conv", [net_.sign(x, "sign"), weight], "conv", pads=[1] * 4)
    model = net_.head(y, 8)
    net = _Reader(ProtoGraph(model), "polynomial", "clip").network()
    assert isinstance(net.module("signs"), WeightSign)
    assert agreement(net, model).worst < LIMIT
    net.train()(torch.randn(4, 3, 8, 8)).square().sum().backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in net.parameters())
    assert agreement(shaken(net), to_onnx(net)).worst < LIMIT


def test_a_careless_rule_does_not_change_what_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules from elsewhere are executed before and after: torch and what is written of it would agree all the same."""

    @rule("forget-prelu", effect=preserves(), phase="canonicalise", order=99)
    class ForgetPRelu:
        """PRelu becomes Relu."""

        def pattern(p: Any, x: Any) -> Any:  # type: ignore[misc]
            return p.PRelu(x, p.const("slope"))

        def rewrite(m: Any, g: Any) -> Any:  # type: ignore[misc]
            return g.node("Relu", [m.x], like=m.root).outputs[0]

    known = sources.available_rules
    monkeypatch.setattr(sources, "available_rules", lambda options: (*known(options), ForgetPRelu))
    with pytest.raises(BadInput, match="forget-prelu"):
        to_torch(plain())


def test_images_of_any_size_are_trained_on() -> None:
    """What is written is verified with sizes that it runs with."""
    source = plain()
    for axis, name in ((2, "H"), (3, "W")):
        source.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    for each in (source, compile_model(source, 2, verify=False)):
        net = to_torch(each)
        written = verified(net)
        assert [axis.dim_param for axis in written.graph.input[0].type.tensor_type.shape.dim] == ["N", "", "H", "W"]
        assert net(torch.randn(2, 3, 12, 20)).shape == (2, 5)
