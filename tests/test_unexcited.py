"""What random inputs never reach is judged all the same: far bounds, one-sided slopes, dead channels, branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper
from small_networks import SIGN, if_node, network
from tiny_networks import Net

from reptran_compiler import compile_model
from reptran_compiler.pipeline import Options, Transformation, transform
from reptran_compiler.verification import SpecOptions, check_equivalent, check_law

Array = NDArray[Any]
CHANNEL = 3


def far_clip(net: Net, x: str) -> str:
    """Bounds that no value comes near."""
    return net.add("Clip", [x, net.store("low", np.float32(-50)), net.store("high", np.float32(60))], "bent")


def leaky(net: Net, x: str) -> str:
    """One slope for all, on values that are all positive."""
    net.stored["one.bn.1"][:] = 100
    return net.add("LeakyRelu", [x], "bent", alpha=0.25)


def one_sided(net: Net, x: str) -> str:
    """Slopes per channel that no value meets."""
    net.stored["one.bn.1"][:] = 100
    return net.prelu(x, "bent", 12)


def dead(net: Net, x: str) -> str:
    """A channel that is always 0 for what reads it."""
    net.stored["one.bn.1"][CHANNEL] = -1000
    return net.add("Relu", [x], "bent")


def dead_before_a_scale(net: Net, x: str) -> str:
    """A channel that is always 0 for the scale behind it."""
    shape = (1, 12, 1, 1)
    x = net.add("Mul", [dead(net, x), net.store("scale", net.normal(*shape))], "rescaled")
    return net.prelu(net.add("Add", [x, net.store("shift", net.normal(*shape))], "shifted"), "last", 12)


def build(bend: Callable[[Net, str], str]) -> ModelProto:
    """A binary layer, something that bends, a classifier."""
    net = Net(1)
    x = net.norm(net.real_conv("input", "stem", (12, 3, 3), pads=[1] * 4), "stem.bn", 12)
    y = net.norm(net.binary_conv(x, "one", (12, 12, 3), pads=[1] * 4), "one.bn", 12)
    return net.head(bend(net, y), 12)


def edited(model: ModelProto, op: str, place: int | str, change: Callable[[Array], Array]) -> ModelProto:
    """A copy in which a constant (or attribute) of the first operator of a type is another."""
    made = ModelProto.FromString(model.SerializeToString())
    node = next(node for node in made.graph.node if op in (node.op_type, node.name))
    if isinstance(place, str):
        attribute = next(attribute for attribute in node.attribute if attribute.name == place)
        attribute.f = float(change(np.array(attribute.f)))
        return made
    tensor = next(tensor for tensor in made.graph.initializer if tensor.name == node.input[place])
    value = change(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor.name))
    return made


def one_channel(value: Array) -> Array:
    """Doubled for one channel: [C, 1, 1] or a column of [K, C]."""
    if value.ndim == 2:
        value[:, CHANNEL] *= 2
    else:
        value.reshape(-1)[CHANNEL] *= 2
    return value


MISTAKES = {
    "upper bound": (far_clip, "Clip", 2, lambda value: value + 1),
    "lower bound": (far_clip, "Clip", 1, lambda value: value * 1.1),
    "common slope": (leaky, "LeakyRelu", "alpha", lambda value: value + 0.1),
    "slope of a channel": (one_sided, "PRelu", 1, one_channel),
    "scale of a dead channel": (dead_before_a_scale, "rescaled", 1, one_channel),
    "weights on a dead channel": (dead, "Gemm", 1, one_channel),
}


def _judged(made: Transformation, result: ModelProto) -> list[str]:
    return [failure.tensor for failure in check_law(made.canonical, result, SpecOptions(2)).failures]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_that_no_random_input_shows_is_seen(mistake: str) -> None:
    bend, op, place, change = MISTAKES[mistake]
    model = build(bend)
    made = transform(model, Options(2))
    assert not _judged(made, made.result)
    where = {"Gemm": "logits", "rescaled": "rescaled"}.get(op, "bent")
    assert _judged(made, edited(made.result, op, place, change))[:1] == [where]
    report = check_equivalent(model, edited(made.canonical, op, place, change))
    assert [failure.tensor for failure in report.failures][:1] == [where]


def test_both_branches_are_taken() -> None:
    """The two batch sizes take one each."""
    flag = helper.make_tensor_value_info("flag", 9, [])
    model = network(SIGN, behind=[if_node("y", "t")], inputs=[flag], two=2.0)
    for branch in (0, 1):
        wrong = ModelProto.FromString(model.SerializeToString())
        choice = next(node for node in wrong.graph.node if node.op_type == "If")
        choice.attribute[branch].g.node[0].op_type = "Abs"
        del choice.attribute[branch].g.node[0].input[1:]
        assert check_equivalent(model, model).ok
        assert not check_equivalent(model, wrong).ok


def test_another_seed_judges_with_other_numbers_and_changes_no_result() -> None:
    one, other = (compile_model(build(dead), 2, seed=seed) for seed in (1, 2))
    assert one.model == other.model
    assert one.summary.verification.worst_error != other.summary.verification.worst_error
