"""Generated networks on the way to torch and back: they compute the same, trained or not, or are refused by name.

A larger sweep is `SEEDS = range(5000, 7000)`: whatever is refused has an operator that torch has no form of here.
"""

from __future__ import annotations

import re

import pytest
import torch

from benchmarks.generated import draw_case
from benchmarks.generated.checks import compiled
from reptran_compiler.errors import BadInput
from reptran_compiler.gate import verify_pair
from reptran_compiler.training import agreement, to_onnx, to_torch
from tests.shaken import shaken

#: Of networks that can be trained, and one whose numbers are large in front of a Tanh.
SEEDS = (5010, 5013, 5017, 5032, 5183, 6237, 6790)
#: One for each reason for which a network cannot be trained.
REFUSED = (5000, 5001, 5009, 5020, 5031, 5072)
REASONS = "no torch form|has a body|training mode|is computed|is transposed"


@pytest.mark.parametrize("rep", [False, True], ids=["original", "rep"])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_drawn_is_the_same_in_torch_and_as_it_is_written(seed: int, rep: bool) -> None:
    case = draw_case(seed)
    net = to_torch(compiled(case, verify=False).model if rep else case.model)
    assert agreement(net, net.blueprint.model).share < 1
    written = to_onnx(shaken(net))
    assert agreement(net, written).share < 1
    assert agreement(to_torch(written), written).share < 1
    if rep:
        assert not verify_pair(case.model, written, retrained=True, dims=case.dims).failures


@pytest.mark.parametrize("seed", REFUSED)
def test_what_is_refused_is_named(seed: int) -> None:
    with pytest.raises(BadInput) as refusal:
        to_torch(draw_case(seed).model)
    assert re.search(f"' cannot be trained through: .*({REASONS})", str(refusal.value)), refusal.value


def test_a_step_of_training_is_what_is_written() -> None:
    """Statistics move, affines change their signs: all that a file has of them is written."""
    net = to_torch(compiled(draw_case(5010), verify=False).model)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
    (shape,) = [each.type.tensor_type.shape for each in net.blueprint.model.graph.input]
    images = torch.randn([8, *(axis.dim_value for axis in shape.dim[1:])], generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        optimiser.zero_grad()
        net.train()(images).square().mean().backward()
        optimiser.step()
    assert agreement(net, to_onnx(net)).share < 1
