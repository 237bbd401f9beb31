"""The worked examples of the specification, compiled: onnxruntime agrees with an independent implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from reptran_compiler.pipeline import Options, transform
from reptran_compiler.runtime import run
from reptran_compiler.verification import SpecOptions, check_equivalent, check_law

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(path.stem for path in GOLDEN.glob("*.onnx"))

#: Scope `layer` of the two fused exports of `negative_gamma`: the stored logits apply the fused downsampling
#: BatchNormalization a second time. All copies are equal in this network, so that both scopes give one output, as
#: the unfused export's stored logits do: these files are compared with their `repN`.
TWICE_NORMALISED = {"negative_gamma.dynamo", "negative_gamma.torchscript"}


def cases() -> list[tuple[str, str]]:
    """Every file with every one of its outputs."""
    found = []
    for name in FILES:
        with np.load(GOLDEN / f"{name}.npz") as stored:
            keys = [key for key in stored if key[:3] in ("rep", "lay") and "." not in key]
        found += [(name, key) for key in keys]
    return found


@pytest.mark.parametrize("bn", ["fold", "keep"])
@pytest.mark.parametrize(("name", "key"), cases())
def test_compiled_file_agrees_with_the_worked_example(name: str, key: str, bn: str) -> None:
    model = onnx.load(GOLDEN / f"{name}.onnx")
    scope = "layer" if key.startswith("layer") else "network"
    made = transform(model, Options(beta=int(key[-1]), scope=scope, bn=bn))
    with np.load(GOLDEN / f"{name}.npz") as stored:
        twice = name in TWICE_NORMALISED
        images, expected = stored["input"], stored[key.replace("layer", "rep") if twice else key]
    got = run(made.result, {"input": images})["logits"]
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("fc", ["widen", "fold"])
@pytest.mark.parametrize("weights", ["latent", "binary"])
@pytest.mark.parametrize("name", FILES)
def test_the_judge_accepts_every_form(name: str, weights: str, fc: str) -> None:
    model = onnx.load(GOLDEN / f"{name}.onnx")
    made = transform(model, Options(beta=2, weights=weights, fc=fc))
    law = check_law(made.canonical, made.result, SpecOptions(2, fc=fc))
    assert law.ok, [str(failure) for failure in law.failures]
    same = check_equivalent(model, made.canonical)
    assert same.ok, [str(failure) for failure in same.failures]
