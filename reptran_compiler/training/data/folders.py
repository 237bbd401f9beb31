"""Images in files, in a folder for each class: ImageNet, and whatever is laid out as it is.

DATA/train/CLASS/FILE and DATA/val/CLASS/FILE; classes are numbered by name, as torchvision's ImageFolder does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.errors import BadInput
from reptran_compiler.extras import need
from reptran_compiler.training.data.augmentation import BOX_NUMBERS, central_box, resized_box
from reptran_compiler.training.data.dataset import IMAGENET, Dataset
from reptran_compiler.training.data.drawing import Draw
from reptran_compiler.training.data.examples import Indices

_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".webp", ".ppm"})
_TEST = ("val", "test")


@dataclass(frozen=True)
class Files:
    """Images in files, decoded when asked for.

    Attributes:
        paths: one file for each example.
        labels: int64 [N].
        size: the height and width that images are resized to, in pixels.
    """

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    size: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image, resized: (channels, height, width)."""
        return 3, self.size, self.size

    @property
    def varied(self) -> str:
        """How they are augmented, in words."""
        return "cropped and resized, mirrored"

    def take(self, indices: Indices, draw: Draw | None) -> NDArray[Any]:
        """As `Examples.take`: a random resized crop that is mirrored every other time, or the middle of the image."""
        images = np.empty((len(indices), *self.shape), np.uint8)
        numbers = None if draw is None else draw.uniform(indices, 1 + BOX_NUMBERS)
        for row, index in enumerate(indices):
            image = self._decoded(self.paths[index], None if numbers is None else numbers[row, 1:])
            if numbers is not None and numbers[row, 0] < 0.5:
                image = image[:, ::-1]
            images[row] = image.transpose(2, 0, 1)
        return images

    def _decoded(self, path: Path, numbers: NDArray[np.float64] | None) -> NDArray[np.uint8]:
        """The part of an image that is shown, uint8 [size, size, 3]."""
        from PIL import Image

        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except Exception as error:  # noqa: BLE001 - decoders raise what they like on damaged files
            raise BadInput(f"cannot decode {path} (truncated?): {' '.join(str(error).split())}") from None
        width, height = image.size
        box = central_box(width, height) if numbers is None else resized_box(width, height, numbers)
        return np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR, box))


def is_class_folders(folder: Path) -> bool:
    """Whether a folder is laid out as ImageNet is."""
    return (folder / "train").is_dir()


def read_class_folders(folder: Path, size: int = 224) -> Dataset:
    """Images in DATA/train and DATA/val (or DATA/test), with a folder for each class.

    Raises:
        BadInput: Pillow is not installed, a folder is missing or empty, or classes differ between the two.
    """
    need("PIL", "decoding images")
    names = sorted(entry.name for entry in (folder / "train").iterdir() if entry.is_dir())
    if not names:
        raise BadInput(f"{folder / 'train'} has no folders: images lie in a folder for each class")
    place = next((folder / name for name in _TEST if (folder / name).is_dir()), None)
    if place is None:
        raise BadInput(f"{folder} has no folder val (or test) beside train")
    train, test = _split(folder / "train", names, size), _split(place, names, size)
    return Dataset("class folders", train, test, len(names), IMAGENET)


def _split(folder: Path, names: list[str], size: int) -> Files:
    strange = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name not in names)
    if strange:
        raise BadInput(f"{folder} has a class {strange[0]!r}, which train has not")
    paths, labels = [], []
    for label, name in enumerate(names):
        found = sorted(each for each in folder.glob(f"{_literal(name)}/*") if each.suffix.lower() in _SUFFIXES)
        paths += found
        labels += [label] * len(found)
    if not paths:
        loose = any(each.suffix.lower() in _SUFFIXES for each in folder.iterdir())
        hint = ": sort its images into a folder for each class" if loose else ""
        raise BadInput(f"{folder} has no images in folders of classes{hint}")
    return Files(tuple(paths), np.array(labels, np.int64), size)


def _literal(name: str) -> str:
    """A name in which nothing is a wildcard."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
