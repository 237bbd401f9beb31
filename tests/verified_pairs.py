"""Pairs of an original and its Rep network, and what training or a mistake makes of the latter."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from everything import everything
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper
from tiny_networks import joined, plain

from reptran_compiler import compile_model

Array = NDArray[Any]
ROOT = Path(__file__).resolve().parent.parent


def _golden(name: str) -> Callable[[], ModelProto]:
    return lambda: onnx.load(str(ROOT / "tests" / "golden" / f"{name}.onnx"))


#: Networks that the options of a test apply to; "fresh" has parameters that prove nothing.
NETWORKS: dict[str, Callable[[], ModelProto]] = {
    "plain": plain,
    "joined": joined,
    "everything": everything,
    "reactnet": lambda: onnx.load(str(ROOT / "models" / "files" / "reactnet-tiny.onnx")),
    "dense": _golden("dense.dynamo"),
    "gated": _golden("se_grouped.torchscript"),
    "shuffled": _golden("split_shuffle.dynamo"),
    "fresh": lambda: fresh(plain()),
}


@cache
def original(name: str) -> ModelProto:
    """An original; not to be changed."""
    return NETWORKS[name]()


@cache
def _compiled(name: str, beta: int, options: tuple[tuple[str, Any], ...]) -> bytes:
    model: ModelProto = compile_model(original(name), beta, **dict(options)).model
    return model.SerializeToString()


def rep(name: str, beta: int = 2, **options: Any) -> ModelProto:
    """Its Rep network, to do with as one likes."""
    return ModelProto.FromString(_compiled(name, beta, tuple(sorted(options.items()))))


def fresh(model: ModelProto) -> ModelProto:
    """The network with BatchNormalizations as they are before training, and slopes that are all equal."""
    values = {1: 1.0, 2: 0.0, 3: 0.0, 4: 1.0}
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if node.op_type == "BatchNormalization" and position in values:
                change(model, name, lambda old, value=values[position]: np.full_like(old, value))
            elif node.op_type == "PRelu" and position == 1:
                change(model, name, lambda old: np.full_like(old, 0.25))
    return model


def stored(model: ModelProto, name: str) -> Array:
    """A stored tensor."""
    return numpy_helper.to_array(next(tensor for tensor in model.graph.initializer if tensor.name == name))


def change(model: ModelProto, name: str, how: Callable[[Array], Array]) -> None:
    """Change a stored tensor in place."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    old = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(how(old.copy()), old.dtype), name))


def node(model: ModelProto, name: str) -> NodeProto:
    """The node of a name."""
    return next(each for each in model.graph.node if each.name == name)


def set_attribute(model: ModelProto, name: str, attribute: str, value: Any) -> None:
    """Set an attribute of a node."""
    found = node(model, name)
    kept = [each for each in found.attribute if each.name != attribute]
    del found.attribute[:]
    found.attribute.extend([*kept, helper.make_attribute(attribute, value)])


def retrained(model: ModelProto) -> ModelProto:
    """The network with other numbers wherever training changes them; weights of +-1 stay such."""
    random = np.random.default_rng(1)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype.kind != "f" or value.size < 2:
            continue
        signs = np.isin(value, (-1, 1)).all()
        new = random.choice([-1, 1], value.shape) if signs else value + random.uniform(0.01, 0.1, value.shape)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(new, value.dtype), tensor.name))
    return model


def without_names(model: ModelProto) -> ModelProto:
    """The network as a tool writes it that gives new names to everything but graph inputs and outputs."""
    kept = {value.name for value in (*model.graph.input, *model.graph.output)} | {""}
    new: dict[str, str] = {}

    def named(name: str) -> str:
        return name if name in kept else new.setdefault(name, f"t{len(new)}")

    for number, each in enumerate(model.graph.node):
        each.name = f"n{number}"
        each.input[:] = [named(name) for name in each.input]
        each.output[:] = [named(name) for name in each.output]
    for tensor in model.graph.initializer:
        tensor.name = named(tensor.name)
    del model.graph.value_info[:], model.metadata_props[:]
    return model
