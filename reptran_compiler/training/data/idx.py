"""IDX files, as MNIST and Fashion-MNIST come in (http://yann.lecun.com/exdb/mnist): plain or packed with gzip.

A file begins with two zero bytes, a type (8: unsigned bytes), the number of axes, and each axis' size as a big-endian
32-bit integer.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.errors import BadInput
from reptran_compiler.training.data.augmentation import Augmentation
from reptran_compiler.training.data.dataset import FASHION_MNIST, Dataset
from reptran_compiler.training.data.examples import Stored
from reptran_compiler.training.data.payloads import exactly, opened

_UNSIGNED_BYTES = 8
#: The most that is read of one file: what a header claims is no reason to fill the memory.
_LIMIT = 1 << 34
_SPLITS = ("train", "t10k")
#: Digits must not be mirrored, and no name tells digits from clothes.
_AUGMENTATION = Augmentation(padding=2, flip=False)


def is_idx(folder: Path) -> bool:
    """Whether a folder holds MNIST's files, or some of them."""
    return any(_found(folder, split, kind) is not None for split in _SPLITS for kind in ("images", "labels"))


def read_idx_folder(folder: Path) -> Dataset:
    """MNIST or Fashion-MNIST, from the four files that they consist of.

    Raises:
        BadInput: a file is missing, truncated or malformed.
    """
    train, test = (_read_split(folder, split) for split in _SPLITS)
    classes = 1 + int(max(train.labels.max(), test.labels.max()))
    return Dataset("IDX", train, test, classes, FASHION_MNIST)


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes, of that many axes.

    Raises:
        BadInput: it is truncated, malformed or of another kind.
    """
    with opened(path) as file:
        head = file.read(4 + 4 * axes)
        if head[:2] != b"\0\0":
            raise BadInput(f"{path} is no IDX file: it does not begin with two zero bytes")
        if len(head) < 4 + 4 * axes:
            raise BadInput(f"{path} is truncated: it ends in its header")
        if head[2] != _UNSIGNED_BYTES or head[3] != axes:
            asked = f"unsigned bytes (type 8) on {axes} axes"
            raise BadInput(f"{path} holds type {head[2]} on {head[3]} axes, where {asked} are expected")
        shape = struct.unpack(f">{axes}I", head[4:])
        if 0 in shape or math.prod(shape) > _LIMIT:
            raise BadInput(f"{path} is malformed: its header says {' x '.join(map(str, shape))}")
        payload = exactly(file, math.prod(shape), path, f"{' x '.join(map(str, shape))} numbers")
    return np.frombuffer(payload, np.uint8).reshape(shape)


def _read_split(folder: Path, split: str) -> Stored:
    images, labels = read_idx(_file(folder, split, "images"), 3), read_idx(_file(folder, split, "labels"), 1)
    if len(images) != len(labels):
        raise BadInput(f"{folder} holds {len(images):,} {split} images and {len(labels):,} labels")
    return Stored(images[:, None], labels.astype(np.int64), _AUGMENTATION)


def _file(folder: Path, split: str, kind: str) -> Path:
    found = _found(folder, split, kind)
    if found is None:
        raise BadInput(f"{folder} has no {_name(split, kind)}, plain or .gz: MNIST's four files belong together")
    return found


def _found(folder: Path, split: str, kind: str) -> Path | None:
    name = _name(split, kind)
    spellings = (name, name.replace("-idx", ".idx"))
    places = (folder / f"{each}{ending}" for each in spellings for ending in ("", ".gz"))
    return next((place for place in places if place.is_file()), None)


def _name(split: str, kind: str) -> str:
    return f"{split}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
