"""The file checks, and the recipe for degenerate parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper
from tiny_networks import joined, plain, replicate

from reptran_compiler.verification import SpecOptions, check_law, check_well_formed, find_degenerate


def test_a_good_file_is_well_formed() -> None:
    report = check_well_formed(replicate(plain(), 2), plain())
    assert report.ok, [str(failure) for failure in report.failures]
    assert set(report.checks) >= {
        "names",
        "order",
        "versions",
        "interface",
        "checker",
        "shape inference",
        "stated shapes",
    }


def _state(model: ModelProto, name: str, *sizes: int | str) -> None:
    model.graph.value_info.append(helper.make_tensor_value_info(name, 1, sizes))


def _swap(model: ModelProto) -> None:
    nodes = list(model.graph.node)
    nodes[3], nodes[4] = nodes[4], nodes[3]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _rename_node(model: ModelProto) -> None:
    model.graph.node[3].name = model.graph.node[4].name


def _fix_batch(model: ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2


SPOILS: dict[str, Callable[[ModelProto], object]] = {
    "stale shape": lambda model: _state(model, "one", "N", 12, 8, 8),
    "stale rank": lambda model: _state(model, "one", "N", 24, 8),
    "axis with another name's size": lambda model: _state(model, "pool", "N", "N", 1, 1),
    "unknown tensor": lambda model: _state(model, "nowhere", "N", 12),
    "wrong order": _swap,
    "node names": _rename_node,
    "fixed batch": _fix_batch,
    "opset": lambda model: setattr(model.opset_import[0], "version", 18),
    "ir": lambda model: setattr(model, "ir_version", 9),
    "input renamed": lambda model: setattr(model.graph.input[0], "name", "x"),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_spoilt_file_is_refused(spoil: str) -> None:
    result = replicate(plain(), 2)
    _state(result, "one", "N", 24, 8, 8)
    assert check_well_formed(result, plain()).ok
    del result.graph.value_info[:]
    SPOILS[spoil](result)
    assert not check_well_formed(result, plain()).ok


def _fresh(model: ModelProto) -> ModelProto:
    """The model as if freshly initialised: parameters that are equal in value are one tensor."""
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        part = tensor.name.rsplit(".", 1)[-1]
        fixed = {"0": 1.0, "1": 0.0, "2": 0.0, "3": 1.0, "a": 0.25}
        if part in fixed:
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(value, fixed[part]), tensor.name))
        elif part == "w" and tensor.name != "stem.w":
            tensor.CopyFrom(numpy_helper.from_array(np.abs(value), tensor.name))
    names = {
        f"{name}.{twin}": f"{name}.{kept}" for name in ("one.bn", "two.bn") for twin, kept in (("3", "0"), ("2", "1"))
    }
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in names]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def test_nothing_is_degenerate_in_random_parameters() -> None:
    assert not find_degenerate(plain())
    assert not find_degenerate(joined())


def test_fresh_parameters_are_redrawn_and_then_show_mistakes() -> None:
    source = _fresh(plain())
    recipe = find_degenerate(source)
    assert "BatchNormalization statistics are fresh" in recipe.reasons
    assert "weights are all equal" in recipe.reasons
    assert "slopes are equal in all channels" in recipe.reasons
    model = recipe.apply(source, seed=5)
    assert model.SerializeToString() == recipe.apply(source, seed=5).SerializeToString()
    assert model.SerializeToString() != recipe.apply(source, seed=6).SerializeToString()
    assert not find_degenerate(model)
    assert check_law(model, replicate(model, 2), SpecOptions(2)).ok
    assert check_law(source, replicate(source, 2, "neighbour's slope in one copy"), SpecOptions(2)).ok
    for bug in ("neighbour's slope in one copy", "row blocks reversed", "epsilon forgotten"):
        assert not check_law(model, replicate(model, 2, bug), SpecOptions(2)).ok
