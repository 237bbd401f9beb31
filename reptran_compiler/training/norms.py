"""Batch normalisation as a file has it, and with statistics of a narrow map and an affine of the wide one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reptran_compiler.training.holding import Holding


class BatchNorm(Holding, _BatchNorm):
    """Batch normalisation of [N, C, ...], whatever the number of axes behind the channels (ONNX BatchNormalization).

    Args:
        channels: C.
        eps: what is added to the variance.
        momentum: the share that a batch has in the running statistics: 1 less the attribute of ONNX.
        affine: whether it has a weight and a bias.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        _BatchNorm.__init__(self, channels, eps, momentum, affine)
        self.names = {}
        self.num_batches_tracked = None

    def _load_from_state_dict(
        self, state: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *more: Any
    ) -> None:
        # A state without a version would be given the count of batches that older ones lack; there is none here.
        super()._load_from_state_dict(state, prefix, {**local_metadata, "version": 2}, *more)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"a map of {input.dim()} axes has no channels")


class Statistics(BatchNorm):
    """A batch normalisation without an affine, inside of one that says how a file has it."""

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(channels, eps, momentum, affine=False)

    def written(self) -> Mapping[str, Tensor]:
        """Nothing: the module around it writes its statistics."""
        return {}


class RepNorm(nn.Module):
    """Batch normalisation of a map [N, C/times, ...] that is repeated to [N, C, ...], each copy with its own affine.

    Channels that repeat one map have one mean and one variance (THEORY rule 4): `statistics` has C/times of them, and
    `weight` and `bias` have C numbers.

    Attributes:
        statistics: the normalisation of the narrow map, without an affine.
        times: how often the map is repeated.
    """

    statistics: Statistics

    def __init__(self, channels: int, times: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        if channels % times:
            raise ValueError(f"{channels} channels are no {times} copies")
        self.times = times
        self.statistics = Statistics(channels // times, eps, momentum)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        y, rest = self.statistics(x), [1] * (x.dim() - 2)
        # The copies are made by the affine: the map is read once for all of them, and written once.
        weight, bias = (each.reshape(1, self.times, -1, *rest) for each in (self.weight, self.bias))
        return torch.addcmul(bias, y.unsqueeze(1), weight).flatten(1, 2)

    def __repr__(self) -> str:
        copies = f", {self.times} copies" if self.times > 1 else ""
        return f"{type(self).__name__}({len(self.weight)} channels{copies})"


class KeptNorm(RepNorm, Holding):
    """A `RepNorm` that the file has as a wide BatchNormalization: statistics are written once for each copy.

    Its names are those of the file's `weight`, `bias`, `mean` and `variance`.
    """

    def __init__(self, channels: int, times: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(channels, times, eps, momentum)
        self.names = {}

    def written(self) -> Mapping[str, Tensor]:
        """The operands of a BatchNormalization of all channels."""
        mean, variance = self.statistics.names["running_mean"], self.statistics.names["running_var"]
        assert self.statistics.running_mean is not None and self.statistics.running_var is not None
        return {
            self.names["weight"]: self.weight,
            self.names["bias"]: self.bias,
            mean: self.statistics.running_mean.repeat(self.times),
            variance: self.statistics.running_var.repeat(self.times),
        }


@dataclass(frozen=True)
class FoldedNames:
    """How a file stores a scale and an offset: their ONNX names and shapes."""

    scale: str
    offset: str
    scale_shape: tuple[int, ...]
    offset_shape: tuple[int, ...]


class FoldedNorm(RepNorm, Holding):
    """A `RepNorm` that the file has as a scale and an offset per channel, its statistics folded into them.

    A file says nothing of the statistics that were folded.  They begin with mean 0 and with a given variance, and the
    affine so that both together are the file's scale and offset; `calibrate` measures them.

    Args:
        scale, offset: the file's, [C].
        times: how often the narrow map is repeated.
        variance: of each channel of the narrow map, [C/times]; a guess.
        stored: how the file stores the scale and the offset.
    """

    def __init__(self, scale: Tensor, offset: Tensor, times: int, variance: Tensor, stored: FoldedNames) -> None:
        super().__init__(len(scale), times)
        self.stored = stored
        self.statistics.to(scale.dtype)
        assert self.statistics.running_var is not None
        self.statistics.running_var.copy_((variance - self.statistics.eps).clamp(min=0))
        self.weight.data = scale * self._deviation()
        self.bias.data = offset.clone()
        self.names = {"weight": f"{stored.scale}/weight", "bias": f"{stored.offset}/bias"}
        self.statistics.names = {
            "running_mean": f"{stored.scale}/mean",
            "running_var": f"{stored.scale}/variance",
        }

    def _deviation(self) -> Tensor:
        assert self.statistics.running_var is not None
        return torch.sqrt(self.statistics.running_var + self.statistics.eps).repeat(self.times)

    @property
    def scale(self) -> Tensor:
        """What the map is multiplied by in evaluation, [C]."""
        return self.weight / self._deviation()

    @property
    def offset(self) -> Tensor:
        """What is added then, [C]."""
        assert self.statistics.running_mean is not None
        return self.bias - self.scale * self.statistics.running_mean.repeat(self.times)

    def written(self) -> Mapping[str, Tensor]:
        """The scale and the offset, with the statistics folded in."""
        how = self.stored
        return {
            how.scale: self.scale.reshape(how.scale_shape),
            how.offset: self.offset.reshape(how.offset_shape),
        }


class FusedNorm(FoldedNorm):
    """A normalisation that an exporter fused into the weights and the bias of the layer in front of it.

    The layer's weights [Co, ...] stay as the file has them, and what the normalisation multiplies by is multiplied into
    them where they are written.

    Args:
        bias: the file's, [Co].
        variance: of each channel, [Co]; a guess.
        stored: the ONNX name of the bias.
    """

    def __init__(self, bias: Tensor, variance: Tensor, stored: str) -> None:
        names = FoldedNames(stored, stored, tuple(bias.shape), tuple(bias.shape))
        super().__init__(torch.ones_like(bias), bias, 1, variance, names)

    def written(self) -> Mapping[str, Tensor]:
        """The bias; the layer multiplies its weights by the scale itself."""
        return {self.stored.offset: self.offset}
