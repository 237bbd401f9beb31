"""Gradients: straight-through estimators against their definitions, a RepConv against its form in S."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reptran_compiler.training import ESTIMATORS, Sign, WeightSign
from reptran_compiler.training.layers import Conv, Linear, Product, Windows
from reptran_compiler.training.straight_through import Round

POINTS = (-2.0, -1.0, -0.75, -0.25, 0.0, 0.25, 0.75, 1.0, 2.0)
DEFINED = {
    ("identity", 0.0): (1, 1, 1, 1, 1, 1, 1, 1, 1),
    ("clip", 0.0): (0, 1, 1, 1, 1, 1, 1, 1, 0),
    ("polynomial", 0.0): (0, 0, 0.5, 1.5, 2, 1.5, 0.5, 0, 0),
    ("tanh", 0.0): tuple(1 - math.tanh(0.1 * x) ** 2 for x in POINTS),
    ("tanh", 0.5): tuple(1 - math.tanh(x) ** 2 for x in POINTS),
    ("tanh", 1.0): tuple(10 * (1 - math.tanh(10 * x) ** 2) for x in POINTS),
    # mean |x| is 8/9; tau 0.85 and 0.99
    ("recu", 0.0): tuple(float(abs(x) <= -math.log(0.3) * 8 / 9) for x in POINTS),
    ("recu", 1.0): tuple(float(abs(x) <= -math.log(0.02) * 8 / 9) for x in POINTS),
}


def test_every_estimator_has_a_definition() -> None:
    assert {name for name, _ in DEFINED} == set(ESTIMATORS)


@pytest.mark.parametrize(("name", "progress"), DEFINED)
def test_the_gradient_is_that_of_the_definition(name: str, progress: float) -> None:
    x = torch.tensor(POINTS, dtype=torch.float64, requires_grad=True)
    sign = Sign(name)
    sign.anneal(progress)
    above = torch.arange(1.0, len(POINTS) + 1, dtype=torch.float64)
    (sign(x) * above).sum().backward()
    wanted = above * torch.tensor(DEFINED[name, progress], dtype=torch.float64)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, wanted)


@pytest.mark.parametrize(("up", "at_zero"), [(False, 0.0), (True, 1.0)])
def test_the_sign_is_what_the_file_has(up: bool, at_zero: float) -> None:
    made = Sign("clip", up)(torch.tensor([-3.0, -1e-38, 0.0, -0.0, 1e-38, 3.0]))
    assert made.tolist() == [-1, -1, at_zero, at_zero, 1, 1]


def test_real_weights_are_used_as_they_are() -> None:
    sign = WeightSign()
    w = torch.tensor([0.3, -0.2])
    assert sign(w).tolist() == [1, -1]
    sign.real = True
    assert sign(w) is w


def test_rounding_passes_gradients_on() -> None:
    x = torch.tensor([0.5, 1.5, -0.6], requires_grad=True)
    y = Round()(x)
    assert y.tolist() == [0, 2, -1]
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1, 1, 1]


def test_progress_out_of_its_range_and_unknown_estimators_are_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        Sign("tanh").anneal(1.5)
    with pytest.raises(ValueError, match="there is no estimator 'step'"):
        Sign("step")


@pytest.mark.parametrize(("beta", "groups", "binary"), [(2, 1, True), (4, 1, True), (2, 2, True), (2, 1, False)])
def test_a_repconv_has_the_gradients_of_the_specification(beta: int, groups: int, binary: bool) -> None:
    """THEORY section 2: y' is the sum over copies of Conv(x(r); W(r)), group by group, repeated beta^2 times."""
    torch.manual_seed(0)
    inputs, outputs = 4 * groups, 8 * groups
    weight = torch.randn(outputs, inputs // groups, 3, 3, dtype=torch.float64)
    x = torch.randn(2, beta * inputs, 5, 5, dtype=torch.float64)
    above = torch.randn(2, beta * outputs, 5, 5, dtype=torch.float64)

    theirs, theirs_x = weight.clone().requires_grad_(), x.clone().requires_grad_()
    specified = _specified(theirs_x, WeightSign()(theirs) if binary else theirs, beta, groups)
    (specified * above).sum().backward()

    layer = Conv(_side_by_side(weight, beta, groups), None, Windows((3, 3), (1, 1), (1,) * 4, (1, 1), groups=groups))
    layer.times = beta**2
    layer.binarise = WeightSign() if binary else None
    mine_x = x.clone().requires_grad_()
    made = layer(mine_x)
    (made * above).sum().backward()

    torch.testing.assert_close(made, specified)
    assert layer.weight is not None and layer.weight.grad is not None and theirs.grad is not None
    torch.testing.assert_close(layer.weight.grad, _side_by_side(theirs.grad, beta, groups))
    torch.testing.assert_close(mine_x.grad, theirs_x.grad)


@pytest.mark.parametrize("turned", [True, False])
def test_a_hidden_linear_layer_is_a_repconv(turned: bool) -> None:
    torch.manual_seed(0)
    beta, weight = 2, torch.randn(6, 4, dtype=torch.float64)
    x, above = torch.randn(3, 8, dtype=torch.float64), torch.randn(3, 12, dtype=torch.float64)
    theirs = weight.clone().requires_grad_()
    specified = _specified(x[..., None, None], theirs[..., None, None], beta, 1)[..., 0, 0]
    (specified * above).sum().backward()
    moved = _side_by_side(weight[..., None, None], beta, 1)[..., 0, 0]
    layer = Linear(moved if turned else moved.T.contiguous(), None, Product(turned=turned))
    layer.times = beta**2
    made = layer(x)
    (made * above).sum().backward()
    torch.testing.assert_close(made, specified)
    assert layer.weight is not None and layer.weight.grad is not None and theirs.grad is not None
    mine = layer.weight.grad if turned else layer.weight.grad.T
    torch.testing.assert_close(mine, _side_by_side(theirs.grad[..., None, None], beta, 1)[..., 0, 0])


def _specified(x: Tensor, weight: Tensor, beta: int, groups: int) -> Tensor:
    """What the specification says, from W in the original's shape."""
    parts = []
    for rows, maps in zip(weight.chunk(groups, 0), x.chunk(groups, 1), strict=True):
        blocks = zip(rows.chunk(beta, 0), maps.chunk(beta, 1), strict=True)
        parts.append(sum(F.conv2d(copy, block, padding=block.shape[-1] // 2) for block, copy in blocks))
    return torch.cat([torch.cat(parts, 1)] * beta**2, 1)


def _side_by_side(weight: Tensor, beta: int, groups: int) -> Tensor:
    """W'[k, r*Ci + i] = W[r*Co/beta + k, i], inside each group (THEORY rule 1)."""
    return torch.cat([torch.cat(rows.chunk(beta, 0), 1) for rows in weight.chunk(groups, 0)], 0)
