"""The rows of the original's weights in those of a RepConv (THEORY rule 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reptran_compiler import provenance
from reptran_compiler.training.layers import Conv, Layer, Linear
from reptran_compiler.training.network import Network


@dataclass(frozen=True)
class Blocks:
    """How a RepConv's weights W'[Co/beta, beta*Ci/groups, ...] consist of the original's rows W[Co, Ci/groups, ...].

    Attributes:
        beta: how many blocks of rows lie side by side along the input channels of each group.
    """

    beta: int

    def original(self, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
        """What the original's layer would make of the copies that a RepConv reads, each block of rows of its own copy.

        Args:
            layer: the RepConv; its normalisation and repetition take no part.
            inputs: what it reads: the map [N, beta*Ci, ...] first.

        Returns:
            [N, Co, ...], in the order of the original's channels.
        """
        x = inputs[0]
        weight = layer.effective() if layer.weight is not None else inputs[1]
        groups = layer.windows.groups if isinstance(layer, Conv) else 1
        turned = isinstance(layer, Linear) and not layer.product.turned and not layer.product.left
        rows = weight.transpose(0, 1) if turned else weight
        parts = _cut(_cut(rows, 0, groups), 2, self.beta)
        copies = _cut(_cut(x, 1, groups), 2, self.beta)
        made = []
        for block in range(self.beta):
            part = parts[:, :, block].flatten(0, 1)
            copy = copies[:, :, block].flatten(1, 2)
            y = layer.operate(copy, part.transpose(0, 1) if turned else part, None)
            made.append(_cut(y, 1, groups))
        return torch.stack(made, 2).flatten(1, 3)


def _cut(x: Tensor, axis: int, parts: int) -> Tensor:
    """One axis as two: parts, and what is in each."""
    return x.reshape(*x.shape[:axis], parts, -1, *x.shape[axis + 1 :])


def blocks_of(network: Network) -> dict[str, Blocks]:
    """The layers of a network that are RepConvs as they were compiled, by node name.

    There are none in a network that was not compiled, nor in one that was trained or calibrated since.

    Raises:
        BadInput: what its file says of its compilation makes no sense.
    """
    model = network.blueprint.model
    if not network.as_read or provenance.was_trained(model):
        return {}
    return {name: Blocks(beta) for name, beta in provenance.recorded_repconvs(model).items()}
