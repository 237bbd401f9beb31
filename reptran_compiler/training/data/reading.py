"""Which layout a data set on disk has."""

from __future__ import annotations

import os
from pathlib import Path

from onnx import ModelProto

from reptran_compiler.errors import BadInput
from reptran_compiler.training.data.cifar import is_cifar, read_cifar
from reptran_compiler.training.data.dataset import Dataset
from reptran_compiler.training.data.folders import is_class_folders, read_class_folders
from reptran_compiler.training.data.idx import is_idx, read_idx_folder
from reptran_compiler.training.data.npz import read_npz

#: Where the usual archives and torchvision put the files below the folder that people name.
_BELOW = (".", "cifar-10-batches-py", "cifar-10-batches-bin", "MNIST/raw", "FashionMNIST/raw", "raw")


def read_dataset(path: str | os.PathLike[str], *, size: int = 224) -> Dataset:
    """A data set from disk, whatever layout it has.

    Args:
        path: an .npz file; a folder with MNIST's IDX files, with CIFAR-10's batches, or with folders train and val
            that hold a folder for each class; or the folder above, as the usual archives unpack.
        size: the height and width that images in class folders are resized to, in pixels.

    Raises:
        BadInput: there is none, or its files are missing, truncated or malformed.
    """
    place = Path(path)
    if not place.exists():
        raise BadInput(f"there is no data set at {place}: nothing is downloaded")
    if not place.is_dir():
        if place.suffix != ".npz":
            raise BadInput(f"{place} is no data set: give an .npz file or a folder")
        return read_npz(place)
    try:
        for below in (place / name for name in _BELOW):
            if is_idx(below):
                return read_idx_folder(below)
            if is_cifar(below):
                return read_cifar(below)
        if is_class_folders(place):
            return read_class_folders(place, size)
    except OSError as error:
        raise BadInput(f"cannot read {error.filename or place}: {error.strerror or error}") from None
    layouts = "MNIST's IDX files, CIFAR-10's batches, or folders train and val of classes"
    raise BadInput(f"{place} holds no data set that is known: {layouts} are looked for")


def image_size(model: ModelProto) -> dict[str, int]:
    """The height of the images that a model reads, as the argument `size` of `read_dataset`; none where it is open."""
    shape = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim] if model.graph.input else []
    return {"size": shape[-1]} if shape and shape[-1] > 0 else {}
