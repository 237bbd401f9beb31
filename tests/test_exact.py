"""Which sums the judge wants to the bit: those of signs times integers."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, helper
from small_networks import network

from reptran_compiler.runtime import random_feeds, tensor_facts
from reptran_compiler.verification.cutpoints import data_tensors, find_cuts
from reptran_compiler.verification.exact import sums_of_signs
from reptran_compiler.verification.layers import LayerRole, Role
from reptran_compiler.verification.protograph import ProtoGraph

PADDED = (
    helper.make_node("Sign", ["a"], ["p"], name="sign"),
    helper.make_node("Pad", ["p", "pads"], ["s"], name="pad"),
)
RESIDUE = (
    helper.make_node("Sign", ["a"], ["p"], name="sign"),
    helper.make_node("Sub", ["p", "a"], ["d"], name="less"),
    helper.make_node("Add", ["d", "a"], ["s"], name="more"),
)


@pytest.mark.parametrize(
    ("model", "exact"),
    [
        (network(), {"y"}),
        (network(*PADDED, pads=np.array([0, 0, 1, 1, 0, 0, 1, 1])), {"y"}),
        (network(*RESIDUE), set()),
        (network(w=np.random.default_rng(0).normal(size=(8, 8, 3, 3)) * 1e-40), set()),
    ],
    ids=["signs", "padded signs", "signs with a rounding error", "real weights"],
)
def test_sums_of_signs(model: ModelProto, exact: set[str]) -> None:
    graph = ProtoGraph(model)
    cuts = find_cuts(graph, tensor_facts(model, random_feeds(model)), data_tensors(graph))
    layer = LayerRole("layer", "Conv", Role.REPCONV, "", "y", "w", ("y",))
    assert sums_of_signs(graph, cuts, [layer]) == exact
