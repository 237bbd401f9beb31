"""An average of a network over batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

Average = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]


def averaging(keep: float) -> Average:
    """What brings averages on, for `AveragedModel`: they keep a share of themselves.

    Numbers that are no floats, such as indices, are those of the network: an average would round them to others.
    """
    floats: Average = get_ema_multi_avg_fn(keep)  # type: ignore[no-untyped-call]

    def average(mine: Sequence[Tensor], theirs: Sequence[Tensor], count: Tensor | int) -> None:
        if mine[0].is_floating_point():
            floats(mine, theirs, count)
            return
        for own, other in zip(mine, theirs, strict=True):
            own.copy_(other)

    return average
