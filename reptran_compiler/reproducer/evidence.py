"""The folder that shows a broken law: both sides, what they are fed, and a script that compares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from reptran_compiler.model.writing import write_model
from reptran_compiler.outputs import PathLike
from reptran_compiler.reproducer.place import FAULT, INPUTS, SCRIPT, versions, whole_folder, write_json
from reptran_compiler.verification import Evidence

_SIDES = ("expected", "found")
_TEXT = '''"""Shows where a Rep network breaks the law: ends with 1 where found.onnx is not as expected.onnx.

    python reproduce.py

expected.onnx computes each copy as the specification has it, found.onnx is the same part of the Rep network, and both
are fed the same numbers. It takes numpy and onnxruntime."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent
FAULT = json.loads((HERE / "fault.json").read_text(encoding="utf-8"))
ARRAYS = np.load(HERE / "inputs.npz")


def run(side):
    """What a side computes, in order."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    model = str(HERE / f"{side}.onnx")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {name: ARRAYS[key] for name, key in FAULT["inputs"][side].items()}
    return session.run(FAULT["outputs"][side], feeds)


def wide(copies):
    """The copies side by side, as they lie in the Rep network's tensor."""
    axis, blocks = FAULT["axis"], FAULT["blocks"]
    if axis is None:
        return copies[0]
    shape = copies[0].shape
    parts = [copy.reshape(*shape[:axis], blocks, shape[axis] // blocks, *shape[axis + 1 :]) for copy in copies]
    joined = np.stack(parts, axis + 1)
    return joined.reshape(*shape[:axis], len(copies) * shape[axis], *shape[axis + 1 :])


def main():
    """Compare the two sides, and say where they differ most."""
    expected = wide(run("expected"))
    found = run("found")[0]
    if found.shape != expected.shape:
        print(f"{FAULT['tensor']}: shape {list(found.shape)} instead of {list(expected.shape)}")
        return 1
    with np.errstate(all="ignore"):
        a, b = found.astype(np.float64), expected.astype(np.float64)
        alike = (a == b) | (np.isnan(a) & np.isnan(b))
        excess = np.where(alike, 0.0, np.abs(a - b) - ARRAYS["allowed"])
        excess[~alike & ~np.isfinite(excess)] = np.inf
    wrong = int((excess > 0).sum())
    if not wrong:
        print(f"{FAULT['tensor']}: as it has to be")
        return 0
    at = np.unravel_index(int(np.argmax(excess)), excess.shape)
    where = [int(place) for place in at]
    print(f"{FAULT['tensor']}: {wrong} of {excess.size} numbers are wrong: {a[at]} instead of {b[at]} at {where}")
    return 1


sys.exit(main())
'''


def write_evidence(evidence: Evidence, message: str, settings: dict[str, Any], folder: PathLike) -> Path:
    """Write what shows that a law is broken, to a folder that appears whole.

    Args:
        evidence: what to write.
        message: what the judge says of it.
        settings: of the verification, for whoever reads `fault.json`.
        folder: a new or empty folder.

    Returns:
        The folder.

    Raises:
        BadInput: the folder cannot be written.
    """
    sides = dict(zip(_SIDES, (evidence.expected, evidence.found), strict=True))
    keys = {side: {name: f"{side}-{i}" for i, name in enumerate(part.feeds)} for side, part in sides.items()}
    arrays = {keys[side][name]: array for side, part in sides.items() for name, array in part.feeds.items()}
    with whole_folder(folder) as half:
        for side, part in sides.items():
            write_model(part.model, half / f"{side}.onnx")
        with (half / INPUTS).open("wb") as file:
            np.savez(file, allowed=evidence.allowed, **arrays)  # type: ignore[arg-type,unused-ignore]
        fault = {
            "message": message,
            "tensor": evidence.tensor,
            "inputs": keys,
            "outputs": {"expected": list(evidence.copies.names), "found": list(evidence.found.outputs)},
            "axis": evidence.copies.axis,
            "blocks": evidence.copies.blocks,
            "settings": settings,
            "versions": versions(),
        }
        write_json(fault, half / FAULT)
        (half / SCRIPT).write_text(_TEXT, encoding="utf-8")
    return Path(folder)
