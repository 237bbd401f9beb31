"""Networks that other toolchains exported: what is stored of them, and what becomes of it here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import frameworks
from benchmarks.spellings import spellings
from models.toolchains.fixtures import FILES, fixtures, load
from models.toolchains.recording import recorder
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


@pytest.mark.parametrize("name", fixtures())
def test_no_file_tells_of_the_machine_that_wrote_it(name: str) -> None:
    """torch's dynamo notes for each node the stack that made it."""
    assert b"site-packages" not in load(name).model.SerializeToString()


def test_an_export_script_refuses_a_network_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which there are, and writes those of them that were asked for."""
    there = ("resnet", "vgg")
    monkeypatch.setattr("sys.argv", ["export_x.py", "--only", "vgg"])
    with recorder("x", ()) as record:
        assert [name for name in there if record.wants(name)] == ["vgg"]
    monkeypatch.setattr("sys.argv", ["export_x.py", "--only", "vgg,resnt"])
    refused = pytest.raises(SystemExit, match="no network 'resnt': choose from resnet, vgg")
    with refused, recorder("x", ()) as record:
        assert [name for name in there if record.wants(name)] == ["vgg"]


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


@pytest.fixture
def altered(tmp_path: Path) -> Path:
    """A folder with one fixture, which says of its framework what is not so."""
    (tmp_path / "paddle").mkdir()
    for file in ("paddle.json", "paddle/vgg.onnx.xz", "paddle/vgg.npz"):
        shutil.copy(FILES / file, tmp_path / file)
    return tmp_path


def test_a_wrong_output_fails_its_row(altered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table names the output and both values, and the program ends with 1."""
    with np.load(altered / "paddle/vgg.npz") as stored:
        arrays = {name: values + 1e-3 * name.startswith("out:") for name, values in stored.items()}
    np.savez(altered / "paddle/vgg.npz", **arrays)
    table = altered / "table.md"
    assert frameworks.main(["--folder", str(altered), "--betas", "2", "-o", str(table)]) == 1
    assert "1 compilations, 0 pass, 1 fail. Made by `python -m benchmarks.frameworks --folder" in table.read_text()
    assert "output" in table.read_text() and "instead of" in table.read_text()
    assert "about 0.0 min left" in capsys.readouterr().err


def test_a_layer_that_is_not_found_fails_its_row(altered: Path) -> None:
    """The framework's own count is what counts."""
    noted = json.loads((altered / "paddle.json").read_text())
    noted["networks"]["vgg"]["binary_layers"] += 1
    (altered / "paddle.json").write_text(json.dumps(noted))
    (row,) = frameworks.perform(frameworks.Task("paddle/vgg", altered, (2,)))
    assert row.failure == "4 binary layers found, the framework has 5"


def test_spellings_are_read_off_the_file() -> None:
    """Chains of operators from a decision on, and stored weights of one magnitude a filter."""
    assert spellings(load("jax/resnet").model) == ["6 x Sign Sub Identity Add"]
    assert spellings(load("larq/xnornet").model) == ["6 x Sign Add Sign", "6 x stored +-alpha"]
    assert spellings(load("brevitas/tfc-dynamo").model) == ["8 x BipolarQuant"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in fixtures() if name not in SMALL])
def test_the_other_networks_are_compiled_too(name: str) -> None:
    """The larger ones."""
    (row,) = frameworks.perform(frameworks.Task(name, FILES, (2,)))
    assert row.failure == "" and not row.boundaries
