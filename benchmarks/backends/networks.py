"""Compiled networks, written in each way, for a static and a dynamic batch, and inputs on which no sign is close."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.backends.calling import Array, save
from models.toolchains.fixtures import load
from reptran_compiler.compiler import compile_model
from reptran_compiler.model.writing import write_bytes
from reptran_compiler.runtime import input_specs, run

WAYS = ("tile", "concat", "expand")
REACTNET = Path(__file__).resolve().parents[2] / "models" / "files" / "reactnet-tiny.onnx"

#: The networks: one binarises by Sign, the other by `x >= 0`, and has binary linear layers, too.
SOURCES: dict[str, Path | None] = {"reactnet-tiny": REACTNET, "paddle/vgg": None}

#: Batch sizes that a file is run at, in this order, the model prepared once.
BATCHES = {"static": (1,), "dynamic": (2, 3)}


@dataclass(frozen=True)
class Network:
    """A compiled network.

    Attributes:
        name: the source's.
        files: its files, by batch ("static", "dynamic") and way.
        inputs: the files of its inputs, by batch.
        outputs: what onnxruntime computes of them, by batch.
        margin: how close the arguments of its signs come to zero: the smallest, of the largest in its tensor.
    """

    name: str
    files: dict[str, dict[str, str]]
    inputs: dict[str, list[str]]
    outputs: dict[str, list[Array]]
    margin: float


def networks(folder: Path) -> Iterator[Network]:
    """Compile the networks, and write their files into a folder."""
    for name, source in SOURCES.items():
        model = load(name).model if source is None else onnx.load(source)
        written = {way: compile_model(model, 2, weights="binary", repeat=way).model for way in WAYS}
        stem = name.replace("/", "-")
        files: dict[str, dict[str, str]] = {batch: {} for batch in BATCHES}
        for way, result in written.items():
            for batch, form in (("dynamic", result), ("static", fixed(result))):
                files[batch][way] = f"{stem}-{way}-{batch}.onnx"
                write_bytes(form.SerializeToString(), str(folder / files[batch][way]))
        (spec,) = input_specs(written["tile"])
        samples, margin = decided(
            written["tile"], spec.name, [size for size in spec.shape[1:] if isinstance(size, int)]
        )
        inputs: dict[str, list[str]] = {batch: [] for batch in BATCHES}
        outputs: dict[str, list[Array]] = {batch: [] for batch in BATCHES}
        for batch, size in ((batch, size) for batch, sizes in BATCHES.items() for size in sizes):
            inputs[batch].append(f"{stem}-{size}.npz")
            save(folder / inputs[batch][-1], {spec.name: samples[:size]})
            outputs[batch] += run(written["tile"], {spec.name: samples[:size]}).values()
        yield Network(name, files, inputs, outputs, margin)


def fixed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model for a batch of one."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.value_info[:]
    for value in (*result.graph.input, *result.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return onnx.shape_inference.infer_shapes(result)


def decided(model: onnx.ModelProto, name: str, shape: list[int], tries: int = 200) -> tuple[Array, float]:
    """Of random samples the three whose sign arguments stay farthest from zero, and how far that is."""
    drawn = np.random.default_rng(0).standard_normal((tries, *shape)).astype(np.float32)
    wanted = [node.input[0] for node in model.graph.node if node.op_type in ("Sign", "GreaterOrEqual")]
    margins = np.full(tries, np.inf)
    for value in run(model, {name: drawn}, wanted).values():
        size = np.abs(value).reshape(tries, -1)
        margins = np.minimum(margins, size.min(axis=1) / size.max(axis=1))
    best = np.argsort(-margins)[: max(max(sizes) for sizes in BATCHES.values())]
    return drawn[best], float(margins[best[-1]])
