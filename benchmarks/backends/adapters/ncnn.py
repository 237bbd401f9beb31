"""ncnn behind its converter pnnx. A network of ncnn has no batch axis: samples are run one by one."""

from __future__ import annotations

import shutil
from pathlib import Path

import ncnn
import numpy as np
import pnnx

from benchmarks.backends.calling import Array, Arrays, Refused, Run, call


def prepare(file: Path, inputs: Arrays) -> Run:
    """Convert a model, and load the result."""
    folder = file.with_suffix("")
    folder.mkdir(exist_ok=True)
    shutil.copy(file, folder / "m.onnx")
    (value,) = inputs.values()
    shape = ",".join(map(str, (1, *value.shape[1:])))
    said = call([pnnx.EXEC_PATH, "m.onnx", f"inputshape=[{shape}]", "fp16=0"], folder)
    ignored = [line for line in said.splitlines() if line.startswith("ignore")]
    if ignored:
        raise Refused(f"{ignored[0]} (pnnx leaves {len(ignored)} operators out)")
    net = ncnn.Net()
    net.opt.num_threads = 1
    for option in ("fp16_storage", "fp16_packed", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{option}", False)
    if net.load_param(str(folder / "m.ncnn.param")) or net.load_model(str(folder / "m.ncnn.bin")):
        raise Refused("ncnn does not load what pnnx wrote")

    def run(given: Arrays) -> list[Array]:
        found = []
        for sample in next(iter(given.values())):
            extractor = net.create_extractor()
            extractor.input("in0", ncnn.Mat(np.ascontiguousarray(sample)).clone())
            found.append(np.array(extractor.extract("out0")[1]))
        return [np.stack(found)]

    return run
