"""Labelled images, asked for by index."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.training.data.augmentation import CROP_NUMBERS, Augmentation, augmented
from reptran_compiler.training.data.drawing import Draw

Indices = NDArray[np.int64]


class Examples(Protocol):
    """Labelled images, in memory or in files."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class of each example, int64 [N]."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """What `take` gives of one image: (channels, height, width)."""

    @property
    def varied(self) -> str:
        """How they are augmented, in words."""

    def take(self, indices: Indices, draw: Draw | None) -> NDArray[Any]:
        """The images of n indices, [n, C, H, W]: uint8 of 0 to 255, or float32 as they are.

        Args:
            indices: int64 [n].
            draw: what they are augmented with; None for images as they are.

        Raises:
            BadInput: one cannot be read.
        """


@dataclass(frozen=True)
class Stored:
    """Images in memory.

    Attributes:
        images: uint8 or float32 [N, C, H, W].
        labels: int64 [N].
        augmentation: how they are varied in training.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image: (channels, height, width)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def varied(self) -> str:
        """How they are augmented, in words."""
        return str(self.augmentation)

    def take(self, indices: Indices, draw: Draw | None) -> NDArray[Any]:
        """As `Examples.take`."""
        images: NDArray[Any] = self.images[indices]
        if draw is None:
            return images
        return augmented(images, self.augmentation, draw.uniform(indices, CROP_NUMBERS))
