"""Modules whose tensors have a place in an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class Holding(nn.Module):
    """A module that holds tensors of a file.

    Attributes:
        names: the key of each of its parameters and buffers in the network's `state_dict`, by its own name for it: the
            ONNX name of the tensor, where the file has it as it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, str] = {}

    def written(self) -> Mapping[str, Tensor]:
        """What a file stores of it, by the ONNX names of the tensors."""
        return {name: getattr(self, mine) for mine, name in self.names.items()}


def repeated(x: Tensor, times: int) -> Tensor:
    """[N, C, ...] as [N, times * C, ...]: copies beside each other along the channels."""
    return x if times == 1 else x.repeat(1, times, *[1] * (x.dim() - 2))


def per_channel(p: Tensor, rank: int) -> Tensor:
    """[C] shaped to meet a map of `rank` axes, whose axis 1 is the channels."""
    return p.reshape(1, -1, *[1] * (rank - 2))
