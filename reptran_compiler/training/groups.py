"""Which parameters decay, and the optimiser of a step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from reptran_compiler.errors import BadInput
from reptran_compiler.training.recipe import Recipe, Step


@dataclass(frozen=True)
class Groups:
    """The parameters of a network that are trained, in its order.

    Attributes:
        weights: those of layers, which have at least two axes longer than 1.
        others: biases, slopes, scales, and what belongs to normalisation.
    """

    weights: tuple[nn.Parameter, ...]
    others: tuple[nn.Parameter, ...]


def parameter_groups(network: nn.Module) -> Groups:
    """The trained parameters of a network, each once.

    Raises:
        BadInput: there are none.
    """
    trained = [each for each in network.parameters() if each.requires_grad]
    if not trained:
        raise BadInput("the network has no parameters to train")
    of_layers = [sum(size > 1 for size in each.shape) >= 2 for each in trained]
    weights = tuple(each for each, is_weight in zip(trained, of_layers, strict=True) if is_weight)
    others = tuple(each for each, is_weight in zip(trained, of_layers, strict=True) if not is_weight)
    return Groups(weights, others)


def make_optimiser(network: nn.Module, recipe: Recipe, step: Step) -> Optimizer:
    """The optimiser of a step: weights decay, others do not.

    Raises:
        BadInput: there is nothing to train.
    """
    groups = parameter_groups(network)
    parameters = [
        {"params": list(groups.weights), "weight_decay": step.weight_decay},
        {"params": list(groups.others), "weight_decay": 0.0},
    ]
    if recipe.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=recipe.rate)
    return torch.optim.SGD(parameters, lr=recipe.rate, momentum=recipe.momentum)


def set_rate(optimiser: Optimizer, rate: float) -> None:
    """Give every parameter a learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate
