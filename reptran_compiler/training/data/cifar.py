"""CIFAR-10 as its authors distribute it (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009;
https://www.cs.toronto.edu/~kriz/cifar.html): pickled batches, or binary ones.

An image is 3,072 bytes: 32 x 32 of red, then of green, then of blue.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.errors import BadInput
from reptran_compiler.training.data.augmentation import Augmentation
from reptran_compiler.training.data.dataset import CIFAR10, Dataset
from reptran_compiler.training.data.examples import Stored
from reptran_compiler.training.data.payloads import opened
from reptran_compiler.training.data.pickles import read_pickle

_IMAGE = (3, 32, 32)
_BYTES = 3 * 32 * 32
_CLASSES = 10
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = ("test_batch",)
#: RandomCrop(32, padding=4) and RandomHorizontalFlip, as in ReCU's published code.
_AUGMENTATION = Augmentation(padding=4, flip=True)

_Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


def is_cifar(folder: Path) -> bool:
    """Whether a folder holds CIFAR-10's batches, or some of them."""
    return any((folder / f"{name}{ending}").is_file() for name in _TRAIN + _TEST for ending in ("", ".bin"))


def read_cifar(folder: Path) -> Dataset:
    """CIFAR-10 from a folder with its six batches, pickled or binary.

    Raises:
        BadInput: a batch is missing, truncated or malformed.
    """
    train, test = _read_split(folder, _TRAIN), _read_split(folder, _TEST)
    return Dataset("CIFAR-10", train, test, _CLASSES, CIFAR10)


def _read_split(folder: Path, names: tuple[str, ...]) -> Stored:
    batches = [_read_batch(folder, name) for name in names]
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return Stored(images, labels, _AUGMENTATION)


def _read_batch(folder: Path, name: str) -> _Arrays:
    pickled, binary = folder / name, folder / f"{name}.bin"
    if pickled.is_file():
        path, (images, labels) = pickled, _pickled(pickled)
    elif binary.is_file():
        path, (images, labels) = binary, _binary(binary)
    else:
        raise BadInput(f"{folder} has no {name} and no {name}.bin: CIFAR-10's six batches belong together")
    if labels.size and not (0 <= labels.min() and labels.max() < _CLASSES):
        raise BadInput(f"{path} is malformed: it holds labels from {labels.min()} to {labels.max()}, not 0 to 9")
    return images.reshape(-1, *_IMAGE), labels


def _pickled(path: Path) -> _Arrays:
    content = {
        key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in read_pickle(path).items()
    }
    if not {"data", "labels"} <= content.keys():
        there = ", ".join(sorted(map(str, content))) or "nothing"
        raise BadInput(f"{path} is no batch of CIFAR-10: it holds {there}, where data and labels are expected")
    images = content["data"]
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (_BYTES,):
        raise BadInput(f"{path} is malformed: its data are no bytes [N, {_BYTES}]")
    try:
        labels = np.array(content["labels"], np.int64)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(f"{path} is malformed: its labels are no integers") from None
    if labels.shape != images.shape[:1]:
        raise BadInput(f"{path} is malformed: {len(images):,} images, and labels of shape {list(labels.shape)}")
    return images, labels


def _binary(path: Path) -> _Arrays:
    with opened(path) as file:
        payload = file.read()
    if not payload or len(payload) % (1 + _BYTES):
        raise BadInput(f"{path} is truncated: {len(payload):,} bytes are no whole number of {1 + _BYTES:,} each")
    records = np.frombuffer(payload, np.uint8).reshape(-1, 1 + _BYTES)
    return records[:, 1:], records[:, 0].astype(np.int64)
