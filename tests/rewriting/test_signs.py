"""Spellings of binarisations, one at a time, on values of both signs and on zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto
from workbench import model_of, node

from reptran_compiler.canonicalisation import canonicalise
from reptran_compiler.model import import_model
from reptran_compiler.pipeline import Options, available_rules
from reptran_compiler.replication import binarised, is_sign
from reptran_compiler.runtime import run

UP = [node("GreaterOrEqual", "x zero", "mask"), node("Where", "mask one minus", "b")]
NUMBERS: dict[str, Any] = {"zero": np.zeros(()), "one": np.ones(()), "minus": -np.ones(())}


def _canonical(model: ModelProto) -> ModelProto:
    options = Options()
    return canonicalise(model, options, [r for r in available_rules(options) if r.phase == "canonicalise"]).model


def _select(one: Any = 1.0, minus: Any = -1.0) -> list[NodeProto]:
    """What tf2onnx makes of a `where` of tensors: products with both conditions, and their sum."""
    return [
        node("GreaterOrEqual", "x zero", "mask"),
        node("Not", "mask", "other"),
        node("Cast", "mask", "cast", to=1),
        node("Cast", "other", "cast2", to=1),
        node("Mul", "cast one", "p"),
        node("Mul", "minus cast2", "q"),
        node("Add", "p q", "b"),
    ]


@pytest.mark.parametrize(
    ("nodes", "at_zero"),
    [
        (_select(), 1.0),
        ([node("Sign", "x", "s"), node("Sign", "s", "b")], 0.0),
        ([*UP[:1], node("Where", "mask one minus", "s"), node("Sign", "s", "b")], 1.0),
        ([node("Sign", "x", "s"), node("GreaterOrEqual", "s zero", "mask"), UP[1]], 1.0),
        (
            [
                node("Transpose", "x", "turned", perm=[0, 2, 3, 1]),
                node("Sign", "turned", "s"),
                node("Transpose", "s", "b", perm=[0, 3, 1, 2]),
            ],
            0.0,
        ),
    ],
    ids=["select", "sign of sign", "sign of where", "where of sign", "between Transposes"],
)
def test_one_binarisation_remains(nodes: list[NodeProto], at_zero: float) -> None:
    """The canonical form is one binarisation of x, with the value at 0 that the file has."""
    model = model_of(*nodes, node("Relu", "b", "y"), **NUMBERS)
    canonical = _canonical(model)
    b = import_model(canonical).nodes[-1].inputs[0]
    x = binarised(b)
    assert x is not None and x.name == "x"
    assert is_sign(b) == (at_zero == 0.0)
    values = np.array([-2.0, -0.0, 0.0, 3.0] * 18, np.float32).reshape(2, 4, 3, 3)
    assert np.array_equal(run(canonical, {"x": values})["y"], run(model, {"x": values})["y"])


@pytest.mark.parametrize(
    "nodes",
    [
        [
            node("Transpose", "x", "turned", perm=[0, 2, 3, 1]),
            node("Sign", "turned", "s"),
            node("Transpose", "s", "b", perm=[0, 2, 3, 1]),
        ],
        [node("Transpose", "x", "turned"), node("Sign", "turned", "b")],
    ],
    ids=["another permutation", "one Transpose"],
)
def test_a_transpose_that_is_not_undone_stays(nodes: list[NodeProto]) -> None:
    """Axes that really move still do."""
    canonical = _canonical(model_of(*nodes, node("Relu", "b", "y"), **NUMBERS))
    count = sum(each.op_type == "Transpose" for each in nodes)
    assert sum(each.op_type == "Transpose" for each in canonical.graph.node) == count


def test_a_select_between_other_numbers_is_no_binarisation() -> None:
    """2 and -1 are no signs."""
    canonical = _canonical(model_of(*_select(), node("Relu", "b", "y"), **{**NUMBERS, "one": 2 * np.ones(())}))
    assert binarised(import_model(canonical).nodes[-1].inputs[0]) is None
