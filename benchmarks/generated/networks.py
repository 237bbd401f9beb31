"""A whole network: a stem, a residual block, a handful of constructs, one or two heads; and its file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import ModelProto, helper, numpy_helper

from benchmarks.generated.blocks import BLOCKS, MIXING, Block, residual
from benchmarks.generated.builder import DIMS, Builder, Map, Unsuitable
from benchmarks.generated.choices import Choices
from benchmarks.generated.constructs import FILES, VARIANTS
from benchmarks.generated.control import CONTROL, choice
from benchmarks.generated.frequency import tickets
from benchmarks.generated.heads import head, stem
from benchmarks.generated.mixers import MIXERS
from benchmarks.generated.movers import MOVERS
from benchmarks.generated.operators import OPERATORS

#: What can stand between the stem and the head, by name.
INSERTS: Mapping[str, Block] = {**BLOCKS, **MOVERS, **MIXERS, **OPERATORS, **CONTROL}
#: Names of all that the generator can write.
CONSTRUCTS: tuple[str, ...] = (
    *FILES,
    "If on the image",
    *(f"{kind}: {variant}" for kind, variants in VARIANTS.items() for variant in variants),
    *INSERTS,
)
#: Those that the compiler refuses by design: they are written seldom.
REFUSED = ("If on a wide map",)

#: Groups of opsets, each with its name and its chance in hundredths.
_OPSETS = (
    ("opsets 13 to 17", (13, 14, 15, 16, 17), 20),
    ("opsets 7 and 8", (7, 8), 8),
    ("opsets 9 and 10", (9, 10), 12),
    ("opsets 11 and 12", (11, 12), 12),
    ("opsets 18 to 20", (18, 19, 20), 18),
    ("opsets from 21", (21, 22, 23, 24, 24, 24, 25, 26), 30),
)
#: Maps with more channels than this are made narrower again.
_NARROW = 8


def network(choices: Choices, unit: int) -> Builder:
    """Draw a network; its graph is complete.

    Args:
        choices: where every decision comes from.
        unit: what most numbers of channels are multiples of.
    """
    place = choices.integer(0, 99)
    axes = 2 if place < 84 else 1 if place < 92 else 3
    free = choices.integer(0, 99) >= 88
    batch = None if free or choices.integer(0, 99) < 70 else choices.integer(1, 3)
    group, opset = _opset(choices)
    b = Builder(choices, opset, unit, axes, batch, free)
    b.constructs |= {group, f"{axes} space ax{'is' if axes == 1 else 'es'}"}
    b.constructs.add("fixed batch" if batch else "dynamic batch")
    if free:
        b.constructs.add("dynamic image")
    largest = 9 if axes < 3 else 6
    sizes = tuple(DIMS.values())[:axes] if free else tuple(choices.integer(5, largest) for _ in range(axes))
    x = b.input("image", 3, sizes)
    if b.opset >= 11 and b.noted("If on the image", 0.1):
        x = choice(b, x)
    x = stem(b, x, b.pick([count for count in (4, 6, 8, 9, 12) if count % unit == 0]))
    x = residual(b, x)
    for _ in range(choices.integer(0, 11) + choices.integer(0, 11) if axes < 3 else choices.integer(0, 6)):
        if x.channels > _NARROW and b.chance(0.25):
            x = insert(b, x, ("transition",))
        x = insert(b, x, MIXING if b.chance(0.12) else _TICKETS)
    for _ in range(2 if b.noted("two heads", 0.1) else 1):
        head(b, x)
    if len(b.inputs) > 1:
        b.constructs.add("several inputs")
    if len(b.outputs) > 1:
        b.constructs.add("several outputs")
    return b


_TICKETS = tickets(INSERTS)


def _opset(choices: Choices) -> tuple[str, int]:
    place = choices.integer(0, 99)
    for name, opsets, share in _OPSETS:
        if place < share:
            return name, opsets[choices.integer(0, len(opsets) - 1)]
        place -= share
    raise AssertionError("the chances add up to 100")


def insert(b: Builder, x: Map, names: tuple[str, ...]) -> Map:
    """One of the constructs behind a map; another where it cannot be written there."""
    for _ in range(8):
        name = b.pick(names)
        saved = (len(b.nodes), len(b.inputs), len(b.outputs), len(b.layers), dict(b.stored), set(b.constructs))
        try:
            if min(x.space) < 2:
                raise Unsuitable
            made = INSERTS[name](b, x)
        except Unsuitable:
            nodes, inputs, outputs, layers, b.stored, b.constructs = saved
            del b.nodes[nodes:], b.inputs[inputs:], b.outputs[outputs:], b.layers[layers:]
            continue
        b.constructs.add(name)
        return made
    return x


def file(b: Builder) -> ModelProto:
    """The model of a finished graph, in one of the forms that files have."""
    nodes, stored = list(b.nodes), [numpy_helper.from_array(value, name) for name, value in b.stored.items()]
    if b.noted("dead nodes", 0.1):
        nodes.append(helper.make_node("Neg", [nodes[0].output[0]], ["unread"], name="dead"))
    if b.noted("unread initializers", 0.1):
        stored.append(numpy_helper.from_array(np.arange(3, dtype=np.float32), "unread_initializer"))
    inputs = list(b.inputs)
    if b.noted("initializers as inputs", 0.12):
        inputs += [helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in stored]
    graph = helper.make_graph(nodes, "generated", inputs, b.outputs, stored)
    imports = [helper.make_opsetid("", b.opset), *([helper.make_opsetid("acme", 1)] if b.functions else [])]
    model = helper.make_model(graph, opset_imports=imports, functions=b.functions)
    model.ir_version = max(8, helper.find_min_ir_version_for(imports[:1]))
    if b.noted("metadata and doc strings", 0.1):
        model.metadata_props.add(key="author", value="generator")
        for node in model.graph.node:
            node.doc_string = f"a {node.op_type}"
    if b.noted("shapes stated", 0.5):
        model = onnx.shape_inference.infer_shapes(model)
    return model
