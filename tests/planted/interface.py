"""Mistakes that users of a result meet first: its inputs and outputs, what it says of itself, its names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from tests.planted.kinds import Kind, Plant, Theme
from tests.planted.result import Places, Result


def first_input(r: Result) -> ValueInfoProto:
    """The first graph input that is fed."""
    stored = {tensor.name for tensor in r.graph.initializer}
    found: ValueInfoProto = next(value for value in r.graph.input if value.name not in stored)
    return found


def on_input(change: Callable[[ValueInfoProto], object]) -> Plant:
    """A change to what is stated of the first graph input."""

    def plant(r: Result) -> Places:
        value = first_input(r)
        name = value.name
        change(value)
        return frozenset({name})

    return plant


def on_output(change: Callable[[ValueInfoProto], object]) -> Plant:
    """A change to what is stated of the first graph output."""

    def plant(r: Result) -> Places:
        value = r.graph.output[0]
        change(value)
        return frozenset({value.name})

    return plant


def renamed(name: str, new: str) -> Plant:
    """A graph input or output that is called otherwise, everywhere."""

    def plant(r: Result) -> Places:
        value = first_input(r) if name == "input" else r.graph.output[0]
        old, value.name = value.name, new
        for node in r.graph.node:
            for names in (node.input, node.output):
                names[:] = [new if each == old else each for each in names]
        return frozenset({old, new})

    return plant


def freeze(value: ValueInfoProto) -> None:
    """A batch of 2."""
    axis = value.type.tensor_type.shape.dim[0]
    if not axis.dim_param:
        raise LookupError("the batch is fixed")
    axis.dim_value = 2


def other_size(value: ValueInfoProto) -> None:
    """One more of what is stated on the last axis."""
    value.type.tensor_type.shape.dim[-1].dim_value += 1


def open_axis(value: ValueInfoProto) -> None:
    """An axis that may have any size."""
    value.type.tensor_type.shape.dim[-1].dim_param = "any"


def other_type(value: ValueInfoProto) -> None:
    """Double precision."""
    value.type.tensor_type.elem_type = TensorProto.DOUBLE


def without_shape(value: ValueInfoProto) -> None:
    """No shape."""
    value.type.tensor_type.ClearField("shape")


def drop_output(r: Result) -> Places:
    """The last graph output is none."""
    if len(r.graph.output) < 2:
        raise LookupError("there is one output")
    name = r.graph.output[-1].name
    del r.graph.output[-1]
    return frozenset({name})


def exchange_outputs(r: Result) -> Places:
    """Graph outputs in another order."""
    values = [ValueInfoProto.FromString(value.SerializeToString()) for value in r.graph.output]
    if len(values) < 2:
        raise LookupError("there is one output")
    del r.graph.output[:]
    r.graph.output.extend(values[::-1])
    return frozenset(value.name for value in values)


def exchange_names(r: Result) -> Places:
    """Two graph outputs that have each other's values."""
    names = [value.name for value in r.graph.output]
    if len(names) < 2:
        raise LookupError("there is one output")
    for node in r.graph.node:
        for field in (node.input, node.output):
            field[:] = [{names[0]: names[1], names[1]: names[0]}.get(each, each) for each in field]
    r.sort()
    return frozenset(names)


def further_output(r: Result) -> Places:
    """A tensor that became a graph output."""
    name = r.layers("repconv")[0].output[0]
    r.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return frozenset({name})


def further_input(r: Result) -> Places:
    """A graph input that there was not."""
    r.graph.input.append(helper.make_tensor_value_info("another", TensorProto.FLOAT, [1]))
    return frozenset({"another"})


def output_as_double(r: Result) -> Places:
    """Values of another type than is stated."""
    name = r.graph.output[0].name
    return r.insert(name, "Cast", to=TensorProto.DOUBLE) | frozenset({name})


def output_transposed(r: Result) -> Places:
    """A graph output with its axes turned round."""
    name = r.graph.output[0].name
    return r.insert(name, "Transpose") | frozenset({name})


def frozen_reshape(r: Result) -> Places:
    """A Reshape with the batch of one run."""
    for node in r.nodes("Reshape"):
        target = r.value(node.input[1])
        shape = r.facts.result.get(node.output[0])
        if shape is None or shape.shape[0] != 2 or r.facts.result[node.input[0]].shape[0] != 2:
            continue
        places = r.around(node)
        kept = [-1 if axis == 1 else size for axis, size in enumerate(shape.shape)]
        if target is not None and target[0] > 0:
            raise LookupError("the batch is fixed")
        node.input[1] = r.store(np.array(kept))
        return places
    raise LookupError("there is no Reshape of images")


def frozen_expand(r: Result) -> Places:
    """An offset expanded to the batch of one run."""
    node, place, _ = r.per_channel("Add")
    shape = r.facts.result.get(node.output[0])
    if shape is None or not first_input(r).type.tensor_type.shape.dim[0].dim_param:
        raise LookupError("the batch is fixed")
    return r.change(
        node,
        place,
        lambda value: np.broadcast_to(value, (2, *np.broadcast_shapes(value.shape, (1,) * len(shape.shape))[1:])),
    )


def state(change: Callable[[list[int | str]], list[int | str]], kind: int = TensorProto.FLOAT) -> Plant:
    """A shape or type that is stated of a wide map, and wrong."""

    def plant(r: Result) -> Places:
        for node in r.graph.node:
            name = node.output[0]
            if name in r.facts.source and r.facts.source[name].shape != r.facts.result[name].shape:
                shape: list[int | str] = ["N", *r.facts.source[name].shape[1:]]
                wide: list[int | str] = ["N", *r.facts.result[name].shape[1:]]
                stated = change(shape) if kind == TensorProto.FLOAT else wide
                r.graph.value_info.append(helper.make_tensor_value_info(name, kind, stated))
                return r.around(node)
        raise LookupError("no map is wide")

    return plant


def stated_nowhere(r: Result) -> Places:
    """A shape that is stated of a tensor that is not there."""
    r.graph.value_info.append(helper.make_tensor_value_info("nowhere", TensorProto.FLOAT, ["N", 3]))
    return frozenset({"nowhere"})


def stated_no_more(r: Result) -> Places:
    """A shape that the source states, and the result does not, though it is true."""
    if not r.graph.value_info:
        raise LookupError("nothing is stated")
    name = r.graph.value_info[0].name
    del r.graph.value_info[0]
    return frozenset({name})


THEME = Theme(
    "Inputs, outputs and stated shapes",
    (
        Kind("an input renamed", renamed("input", "picture"), promise=True),
        Kind("an output renamed", renamed("output", "scores"), promise=True),
        Kind("an output dropped", drop_output, promise=True),
        Kind("outputs reordered", exchange_outputs, promise=True),
        Kind("outputs with each other's values", exchange_names),
        Kind("a further output", further_output, promise=True),
        Kind("a further input", further_input, promise=True),
        Kind("input's batch frozen", on_input(freeze), promise=True),
        Kind("output's batch frozen", on_output(freeze), promise=True),
        Kind("a frozen batch in a Reshape", frozen_reshape),
        Kind("a frozen batch in an expanded offset", frozen_expand),
        Kind("another size stated of an input", on_input(other_size), promise=True),
        Kind("a fixed axis of an input opened", on_input(open_axis), promise=True),
        Kind("another type stated of an input", on_input(other_type), promise=True),
        Kind("wrong dtype stated of an output", on_output(other_type), promise=True),
        Kind("an output's shape no longer stated", on_output(without_shape), promise=True),
        Kind("wrong dtype of an output", output_as_double),
        Kind("an output transposed", output_transposed),
        Kind("stale value_info", state(lambda shape: shape), promise=True),
        Kind("value_info of another rank", state(lambda shape: shape[:-1]), promise=True),
        Kind("value_info of another type", state(lambda shape: shape, TensorProto.INT64), promise=True),
        Kind("value_info of no tensor", stated_nowhere, promise=True),
        Kind("value_info lost", stated_no_more, promise=True),
    ),
)
