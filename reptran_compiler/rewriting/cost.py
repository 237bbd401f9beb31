"""What a rule declares of costs, and what its region costs."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import ModelProto

_RELATIONS: Mapping[str, Callable[[int, int], bool]] = {"==": operator.eq, "<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Cost:
    """How the numbers after relate to those before: `"=="`, `"<="`, `">="`, or None where nothing is declared.

    Attributes:
        weights: elements of the constants that Conv, Gemm and MatMul contract with.
        macs: their multiply-accumulates.

    Raises:
        ValueError: another relation.
    """

    weights: str | None = None
    macs: str | None = None

    def __post_init__(self) -> None:
        for relation in (self.weights, self.macs):
            if relation is not None and relation not in _RELATIONS:
                raise ValueError(f"{relation!r} is no relation; there are {', '.join(_RELATIONS)}")

    def violation(self, before: Counted, after: Counted) -> str | None:
        """What of the declaration does not hold, in words; None where all does."""
        for what, relation in (("weights", self.weights), ("macs", self.macs)):
            old, new = getattr(before, what), getattr(after, what)
            if relation is not None and not _RELATIONS[relation](new, old):
                return f"declares {what} {relation}, but {old} became {new}"
        return None

    def __str__(self) -> str:
        parts = (("weights", self.weights), ("macs", self.macs))
        return ", ".join(f"{what} {relation}" for what, relation in parts if relation)


@dataclass(frozen=True)
class Counted:
    """Weights and multiply-accumulates of a region."""

    weights: int
    macs: int


def count_region(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> Counted:
    """Count the layers of a region.

    Args:
        model: the region.
        shapes: the shape of each of its tensors.
    """
    fixed = {tensor.name for tensor in model.graph.initializer} | {""}
    for node in model.graph.node:
        if all(name in fixed for name in node.input):
            fixed.update(node.output)
    weights = macs = 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.output[0] in fixed:
            continue
        second = shapes[node.input[1]]
        stored = next((shapes[name] for name in node.input[:2] if name in fixed), None)
        weights += 0 if stored is None else math.prod(stored)
        macs += math.prod(shapes[node.output[0]]) * _terms(node, second)
    return Counted(weights, macs)


def _terms(node: onnx.NodeProto, second: Sequence[int]) -> int:
    """How many products each output element sums."""
    if node.op_type == "Conv":
        return math.prod(second[1:])
    turned = any(a.name == "transB" and a.i for a in node.attribute)
    return int(second[-1] if turned else second[-2] if len(second) > 1 else second[0])
