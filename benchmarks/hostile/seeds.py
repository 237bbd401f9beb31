"""The files that mutants descend from: small networks of every spelling, which compile in a fraction of a second."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import onnx

from benchmarks.generated.cases import draw_case

_ROOT = Path(__file__).parents[2]
_GENERATED = 160
_LARGEST = 40_000
_MOST_NODES = 60


def seeds() -> dict[str, bytes]:
    """Files by name: networks of the tests, worked examples, generated networks; all of them small."""
    importlib.import_module("onnxruntime")  # here, once, and not in the process of every file
    if str(_ROOT / "tests") not in sys.path:
        sys.path.append(str(_ROOT / "tests"))
    small, tiny, spelled = _tests("small_networks"), _tests("tiny_networks"), _tests("spelled")
    node = onnx.helper.make_node
    flag = onnx.helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, [])
    models = {
        "network": small.network(),
        "network, opset 22": small.network(opset=22),
        "norm": small.network(
            behind=[node("BatchNormalization", ["y", *small.norm_values()], ["t"])], **small.norm_values()
        ),
        "if": small.network(behind=[small.if_node("y", "z"), node("Mul", ["z", "two"], ["t"])], inputs=[flag], two=2.0),
        "loop": small.network(behind=[small.loop_node("y", "t")], trips=small.np.array(2)),
        "function": small.network(
            behind=[small.custom_operator("y", "t")], functions=[small.local_function()], domains=["acme"]
        ),
        "plain": tiny.plain(),
        "joined": tiny.joined(),
        **{f"opset {opset}": spelled.spelled(opset) for opset in (7, 11, 13, 18)},
    }
    models.update({f"generated {seed}": draw_case(seed).model for seed in range(_GENERATED)})
    found = {name: model.SerializeToString() for name, model in models.items() if len(model.graph.node) <= _MOST_NODES}
    for file in sorted((_ROOT / "tests" / "golden").glob("*.onnx")):
        if file.stat().st_size <= _LARGEST:
            found[file.stem] = file.read_bytes()
    return found


def _tests(module: str) -> Any:
    return importlib.import_module(module)
