"""What is minimised."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from reptran_compiler.training.recipe import Recipe


@dataclass(frozen=True)
class Criterion:
    """(1 - d) * cross entropy with the smoothed labels + d * T^2 * cross entropy with the teacher's probabilities.

    Both probabilities of the second term are those at temperature T; d is 0 where nobody teaches. With d = 1 and T = 1
    it is the loss of ReActNet and AdamBNN (their utils/KD_loss.py).

    Attributes:
        smoothing, distillation, temperature: as in `Recipe`.
    """

    smoothing: float = 0.0
    distillation: float = 1.0
    temperature: float = 1.0

    @classmethod
    def of(cls, recipe: Recipe) -> Criterion:
        """The loss of a recipe."""
        return cls(recipe.smoothing, recipe.distillation, recipe.temperature)

    def __call__(self, logits: Tensor, labels: Tensor, taught: Tensor | None = None) -> Tensor:
        """The mean loss of n images, a scalar.

        Args:
            logits: of the network, floats [n, K].
            labels: int64 [n].
            taught: the teacher's logits, floats [n, K]; None where there is no teacher.
        """
        share = 0.0 if taught is None else self.distillation
        loss = torch.zeros((), dtype=logits.dtype, device=logits.device)
        if share < 1:
            loss = loss + (1 - share) * F.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        if taught is not None and share > 0:
            target = torch.softmax(taught.to(logits.dtype) / self.temperature, 1)
            loss = loss + share * self.temperature**2 * F.cross_entropy(logits / self.temperature, target)
        return loss
