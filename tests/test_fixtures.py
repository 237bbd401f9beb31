"""Networks that other toolchains exported: what is stored of them, and what becomes of it here."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import frameworks
from models.toolchains.fixtures import FILES, fixtures, load
from reptran_compiler.runtime import run
from reptran_compiler.runtime.tolerance import compare

#: One or two of each toolchain, among the small ones, that have all of its spellings.
SMALL = [
    "bitorch/lenet-dynamo",
    "bnn/preact-torchscript",
    "brevitas/scaled-torchscript",
    "brevitas/tfc-cleaned",
    "brevitas/tfc-dynamo",
    "jax/resnet",
    "jax/vgg",
    "keras/resnet",
    "keras/vgg",
    "larq/binaryalexnet",
    "paddle/resnet",
    "paddle/vgg-static",
]


def test_each_toolchain_has_two_networks_and_says_what_made_them() -> None:
    """Files, arrays and notes belong together, and nothing is left of what is no more."""
    toolchains = {name.partition("/")[0] for name in fixtures()}
    assert toolchains == {"bitorch", "bnn", "brevitas", "jax", "keras", "larq", "paddle"}
    for toolchain in toolchains:
        noted = json.loads((FILES / f"{toolchain}.json").read_text())
        names = [name.partition("/")[2] for name in fixtures() if name.startswith(f"{toolchain}/")]
        assert sorted(noted["networks"]) == names and len(names) >= 2
        assert noted["python"] and "onnx" in noted["versions"]
        assert sorted(file.stem for file in (FILES / toolchain).glob("*.npz")) == names


def test_an_unknown_fixture_is_refused() -> None:
    """The message says which there are."""
    with pytest.raises(ValueError, match="there is no fixture 'larq/quiknet': choose from bitorch/"):
        load("larq/quiknet")


@pytest.mark.parametrize("name", [name for name in fixtures() if not name.startswith("brevitas/")])
def test_the_file_computes_what_its_framework_computed(name: str) -> None:
    """In onnxruntime, on the stored inputs, which are not all alike."""
    fixture = load(name)
    found = run(fixture.model, fixture.inputs, list(fixture.outputs))
    for output, expected in fixture.outputs.items():
        assert compare(found[output], expected, "float32").relative < 1e-5
        assert np.ptp(expected, axis=0).max() > 0


@pytest.mark.parametrize("name", SMALL)
def test_a_network_is_compiled_and_agrees_with_its_framework(name: str) -> None:
    """All of its binary layers are rewritten, the law holds, the canonical form computes the framework's outputs."""
    (row,) = frameworks.perform(frameworks.Task(name, FILES, (2,)))
    assert row.failure == ""
    assert not row.boundaries and row.rewritten == row.expected > 0
    assert row.agreement is not None and row.agreement < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in fixtures() if name not in SMALL])
def test_the_other_networks_are_compiled_too(name: str) -> None:
    """The larger ones."""
    (row,) = frameworks.perform(frameworks.Task(name, FILES, (2,)))
    assert row.failure == "" and not row.boundaries
