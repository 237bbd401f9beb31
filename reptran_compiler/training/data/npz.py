"""Arrays in one .npz file: train_images, train_labels, test_images and test_labels, or Keras' x_train and so on."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from reptran_compiler.errors import BadInput
from reptran_compiler.training.data.augmentation import Augmentation
from reptran_compiler.training.data.dataset import Dataset, Normalisation
from reptran_compiler.training.data.examples import Stored

_NAMES = {
    "train_images": "x_train",
    "train_labels": "y_train",
    "test_images": "x_test",
    "test_labels": "y_test",
}
#: What nothing is known of is not varied.
_AUGMENTATION = Augmentation(padding=0, flip=False)


def read_npz(path: Path) -> Dataset:
    """Images uint8 (divided by 255) or floats (as they are), [N, C, H, W] or [N, H, W]; labels integers [N].

    Raises:
        BadInput: the file cannot be read, or an array is missing or is not as said.
    """
    try:
        with _opened(path) as file:
            arrays = {name: _array(file, name, other, path) for name, other in _NAMES.items()}
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise BadInput(f"cannot read {path}: {reason}") from None
    train, test = (_examples(arrays[f"{each}_images"], arrays[f"{each}_labels"], path) for each in ("train", "test"))
    if train.shape != test.shape:
        raise BadInput(f"{path} has images of {train.shape} to train on and of {test.shape} to test with")
    classes = 1 + int(max(train.labels.max(), test.labels.max()))
    return Dataset(path.name, train, test, classes, Normalisation())


def _opened(path: Path) -> NpzFile:
    found = np.load(path, allow_pickle=False)
    if not isinstance(found, NpzFile):
        raise ValueError("it holds one array without a name (an .npy file?)")
    return found


def _array(file: Any, name: str, other: str, path: Path) -> NDArray[Any]:
    for key in (name, other):
        if key in file.files:
            array: NDArray[Any] = file[key]
            return array
    raise BadInput(f"{path} has no array {name} (or {other}); it has {', '.join(file.files) or 'none'}")


def _examples(images: NDArray[Any], labels: NDArray[Any], path: Path) -> Stored:
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.floating):
            raise BadInput(f"{path} holds images of {images.dtype}, where uint8 or floats are expected")
        images = images.astype(np.float32)
        if not np.isfinite(images).all():
            raise BadInput(f"{path} holds images with NaN or infinite numbers")
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or not images.size:
        shape = list(images.shape)
        raise BadInput(f"{path} holds images of shape {shape}, where [N, C, H, W] or [N, H, W] is expected")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1] or labels.min() < 0:
        said = f"{labels.dtype} {list(labels.shape)}"
        raise BadInput(f"{path} holds labels {said}, where integers from 0 on, [{len(images)}], are expected")
    return Stored(images, labels.astype(np.int64), _AUGMENTATION)
