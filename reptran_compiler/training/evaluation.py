"""How well a network does on the test images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reptran_compiler.training.fitting import float_type
from reptran_compiler.training.processes import Processes


@dataclass
class Tally:
    """Sums over images: losses, right answers, and how many there were.

    Attributes:
        sums: float64 [3], on the device that is trained on.
    """

    sums: Tensor

    @classmethod
    def on(cls, device: torch.device) -> Tally:
        """Of no images yet."""
        return cls(torch.zeros(3, dtype=torch.float64, device=device))

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count n images with a mean loss, logits [n, K] and labels [n]. The device is not waited for."""
        right = (logits.argmax(1) == labels).sum()
        self.sums += torch.stack([loss.detach().double() * len(labels), right.double(), right.new_tensor(len(labels))])

    def means(self, processes: Processes) -> tuple[float, float]:
        """Mean loss and share of right answers, over all processes."""
        loss, right, count = processes.total(self.sums).tolist()
        return loss / count, right / count


def measure(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device, processes: Processes
) -> tuple[float, float]:
    """Cross entropy and accuracy (0 to 1) of a network in eval mode; its mode is as before afterwards.

    Args:
        network: images to logits.
        batches: this process' share of the images, with labels.
        device: where the network is.
        processes: who counts.
    """
    mode, tally, dtype = network.training, Tally.on(device), float_type(network)
    network.eval()
    with torch.no_grad():
        for images, labels in batches:
            images, labels = images.to(device, dtype), labels.to(device)
            logits = network(images)
            tally.add(F.cross_entropy(logits, labels), logits, labels)
    network.train(mode)
    return tally.means(processes)
