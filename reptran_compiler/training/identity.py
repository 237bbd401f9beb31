"""What a run depends on besides its recipe, as far as a checkpoint can tell."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
from torch import nn

from reptran_compiler.training.data import Dataset, Examples, Files, Stored
from reptran_compiler.training.network import Network
from reptran_compiler.training.teachers import Teacher


def told_of(network: nn.Module, dataset: Dataset, teacher: Teacher | None) -> Mapping[str, str]:
    """Digests of the images and of the network's graph, and whether there is a teacher, by what they are called."""
    told = {"its images": _digest(dataset.train), "its teacher": "none" if teacher is None else "one"}
    if isinstance(network, Network):
        nodes = (node.SerializeToString(deterministic=True) for node in network.blueprint.model.graph.node)
        told["its graph"] = f"{zlib.crc32(b''.join(nodes)):08x}"
    return told


def _digest(examples: Examples) -> str:
    """Of labels, and of images in memory; of images in files, of their names."""
    code = zlib.crc32(np.ascontiguousarray(examples.labels).data)
    if isinstance(examples, Stored):
        code = zlib.crc32(np.ascontiguousarray(examples.images).data, code)
    if isinstance(examples, Files):
        code = zlib.crc32("\n".join(f"{path.parent.name}/{path.name}" for path in examples.paths).encode(), code)
    return f"{code:08x}"
