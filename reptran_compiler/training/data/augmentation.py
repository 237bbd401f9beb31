"""What training does to an image of its own before it sees it: the usual crop and flip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: How many numbers `augmented` takes for each image.
CROP_NUMBERS = 3
_ATTEMPTS = 10
#: How many numbers `resized_box` takes: four an attempt.
BOX_NUMBERS = 4 * _ATTEMPTS
#: RandomResizedCrop(224, scale=(0.08, 1.0)) of ReActNet's and AdamBNN's train.py, with torchvision's aspect ratios.
_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Augmentation:
    """How stored images are varied.

    Attributes:
        padding: zeros on each side, in pixels, before a crop of the image's own size is taken at random.
        flip: whether every other image is mirrored, left to right.
    """

    padding: int = 4
    flip: bool = True

    def __str__(self) -> str:
        crops = [f"cropped with padding {self.padding}"] if self.padding else []
        return ", ".join([*crops, *["mirrored"] * self.flip]) or "not augmented"


def augmented(images: NDArray[Any], how: Augmentation, numbers: NDArray[np.float64]) -> NDArray[Any]:
    """Images [n, C, H, W], each cropped and flipped by its own numbers in [0, 1), float64 [n, CROP_NUMBERS].

    Shape and dtype stay.
    """
    count, channels, height, width = images.shape
    places = 2 * how.padding + 1
    top, left = ((numbers[:, axis] * places).astype(np.int64)[:, None] for axis in (0, 1))
    rows, columns = top + np.arange(height), left + np.arange(width)
    if how.flip:
        columns = np.where(numbers[:, 2:3] < 0.5, columns[:, ::-1], columns)
    side = (how.padding, how.padding)
    padded = np.pad(images, ((0, 0), (0, 0), side, side))
    here, channel = np.arange(count)[:, None, None, None], np.arange(channels)[:, None, None]
    result: NDArray[Any] = padded[here, channel, rows[:, None, :, None], columns[:, None, None, :]]
    return result


def resized_box(width: int, height: int, numbers: NDArray[np.float64]) -> Box:
    """The part of an image that a random resized crop shows: (left, top, right, bottom) in pixels.

    Its area and its ratio are drawn until it fits, ten times at most; then it is the largest part in the middle whose
    ratio is allowed (torchvision's RandomResizedCrop).

    Args:
        width, height: of the image.
        numbers: in [0, 1), float64 [BOX_NUMBERS].
    """
    low, high = (math.log(ratio) for ratio in _RATIO)
    for area, ratio, right, below in numbers.reshape(_ATTEMPTS, 4):
        size = width * height * (_AREA[0] + area * (_AREA[1] - _AREA[0]))
        aspect = math.exp(low + ratio * (high - low))
        w, h = round(math.sqrt(size * aspect)), round(math.sqrt(size / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(right * (width - w + 1)), int(below * (height - h + 1))
            return left, top, left + w, top + h
    across, down = min(width, height * _RATIO[1]), min(height, width / _RATIO[0])
    return (width - across) / 2, (height - down) / 2, (width + across) / 2, (height + down) / 2


def central_box(width: int, height: int, share: float = 224 / 256) -> Box:
    """The square in the middle whose side is a share of the shorter side: (left, top, right, bottom) in pixels.

    Resized to 224 it is what the published Resize(256), CenterCrop(224) show, but for rounding.
    """
    side = share * min(width, height)
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2
