"""Networks that other toolchains exported, with what the toolchain itself computed: none of them is needed here.

from models.toolchains.fixtures import fixtures, load
for name in fixtures():                          # "larq/quicknet", ...
    fixture = load(name)
    fixture.model, fixture.inputs, fixture.outputs
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[Any]

#: Where fixtures lie: DIR/TOOLCHAIN/NAME.onnx.xz and NAME.npz, DIR/TOOLCHAIN.json.
FILES = Path(__file__).resolve().parent / "files"


@dataclass(frozen=True)
class Fixture:
    """A network as a toolchain exported it.

    Attributes:
        name: the network's.
        toolchain: what made it.
        about: a sentence on the network.
        binary_layers: how many of its layers binarise both their input and their weights, as the framework knows
            it; a stem that does is not counted.
        model: the file, unchanged.
        inputs: by name of a graph input.
        outputs: what the toolchain's own framework computes of them, by name of a graph output.
        python: the version of Python that ran the toolchain.
        versions: its packages and their versions.
    """

    name: str
    toolchain: str
    about: str
    binary_layers: int
    model: onnx.ModelProto
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    python: str
    versions: Mapping[str, str]


def fixtures(folder: Path = FILES) -> list[str]:
    """The names of all fixtures, as TOOLCHAIN/NAME, sorted."""
    return sorted(f"{file.parent.name}/{file.name.removesuffix('.onnx.xz')}" for file in folder.glob("*/*.onnx.xz"))


def load(name: str, folder: Path = FILES) -> Fixture:
    """A fixture by its name, TOOLCHAIN/NAME.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in fixtures(folder):
        raise ValueError(f"there is no fixture {name!r}: choose from {', '.join(fixtures(folder))}")
    toolchain, _, network = name.partition("/")
    noted = json.loads((folder / f"{toolchain}.json").read_text())
    stored = lzma.decompress((folder / toolchain / f"{network}.onnx.xz").read_bytes())
    with np.load(folder / toolchain / f"{network}.npz") as arrays:
        known = {key: arrays[key] for key in arrays.files}
    return Fixture(
        name=network,
        toolchain=toolchain,
        about=noted["networks"][network]["about"],
        binary_layers=noted["networks"][network]["binary_layers"],
        model=onnx.load_model_from_string(stored),
        inputs={key.removeprefix("in:"): value for key, value in known.items() if key.startswith("in:")},
        outputs={key.removeprefix("out:"): value for key, value in known.items() if key.startswith("out:")},
        python=noted["python"],
        versions=noted["versions"],
    )
