"""Images to train on and to test with, and how their pixels become numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.training.data.examples import Examples


@dataclass(frozen=True)
class Normalisation:
    """Pixels become (pixel / 255 - mean) / std, floats (float - mean) / std.

    Attributes:
        mean, std: for each channel, or one for all.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Images [n, C, H, W] of uint8 or float32 as float32 of the same shape."""
        scale = 255.0 if images.dtype == np.uint8 else 1.0
        mean, std = (np.array(each, np.float32).reshape(1, -1, 1, 1) for each in (self.mean, self.std))
        normal: NDArray[np.float32] = (images.astype(np.float32) / np.float32(scale) - mean) / std
        return normal

    def __str__(self) -> str:
        mean, std = (", ".join(f"{number:.4f}" for number in each) for each in (self.mean, self.std))
        return f"mean {mean}, std {std}"


#: Of the 60,000 training images of Fashion-MNIST.
FASHION_MNIST = Normalisation((0.2860,), (0.3530,))
#: Of the 50,000 training images of CIFAR-10, as usual. ReCU's published code takes ImageNet's.
CIFAR10 = Normalisation((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
#: As in the train.py of ReActNet and AdamBNN.
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Dataset:
    """What a network is trained on and tested with.

    Attributes:
        name: for people.
        train, test: labelled images.
        classes: how many there are; labels are 0 to classes - 1.
        normalisation: of both.
    """

    name: str
    train: Examples
    test: Examples
    classes: int
    normalisation: Normalisation

    def __str__(self) -> str:
        trained, tested = (f"{len(each.labels):,}" for each in (self.train, self.test))
        shape = " x ".join(map(str, self.train.shape))
        images = f"{trained} images {shape} ({self.train.varied}; {tested} to test with)"
        return f"{images} of {self.name}, normalised by {self.normalisation}"
