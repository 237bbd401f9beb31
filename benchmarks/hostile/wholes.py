"""Mutations of a model as a whole: opsets, versions, functions, subgraphs, training information, nesting."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import GraphProto, ModelProto, TensorProto, helper

from benchmarks.hostile.drawing import NAMES, Change, Nothing, Random, name, node, number, one

_DOMAINS = ("", "ai.onnx", "acme", "com.microsoft", "ai.onnx.ml", "ai.onnx.training", "x\n")


def _change_opset(model: ModelProto, random: Random) -> None:
    draw = random.random()
    if draw < 0.5 and model.opset_import:
        model.opset_import[0].version = one(random, [*range(1, 28), *map(int, (0, -1, 99, 1 << 40))])
    elif draw < 0.75:
        model.opset_import.add(domain=one(random, _DOMAINS), version=one(random, [1, 9, 17, 99]))
    else:
        del model.opset_import[:]


def _change_version(model: ModelProto, random: Random) -> None:
    model.ir_version = one(random, [0, 1, 2, 3, 4, 7, 10, 13, 99, -1, 1 << 40])


def _drop_graph(model: ModelProto, random: Random) -> None:
    field = one(random, ["node", "initializer", "input", "output", "name"])
    if random.random() < 0.3:
        model.ClearField("graph")
    else:
        model.graph.ClearField(field)


def _hide_in_function(model: ModelProto, random: Random) -> None:
    """A node whose operator is a function of the file: a right one, one that calls itself, or one with no body."""
    changed = node(model, random)
    inputs = [f"i{place}" for place in range(len(changed.input))]
    outputs = [f"o{place}" for place in range(len(changed.output))]
    inner = helper.make_node(changed.op_type, inputs, outputs)
    draw = random.random()
    if draw < 0.5:
        inner.attribute.extend(changed.attribute)
    elif draw < 0.8:
        inner.op_type, inner.domain = one(random, ["Hidden", "Other"]), "acme"
    body = [] if draw > 0.95 else [inner]
    opset = model.opset_import[0].version if model.opset_import else 17
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("acme", 1)]
    model.functions.append(helper.make_function("acme", "Hidden", inputs, outputs, body, imports))
    back = helper.make_node("Hidden", inputs, outputs, domain="acme")
    model.functions.append(helper.make_function("acme", "Other", inputs, outputs, [back], imports))
    changed.op_type, changed.domain = "Hidden", "acme"
    del changed.attribute[:]
    model.opset_import.append(helper.make_opsetid("acme", 1))


def _overload_operator(model: ModelProto, random: Random) -> None:
    """A function of the file that has the name of one of ONNX' own operators."""
    changed = node(model, random)
    inputs = [f"i{place}" for place in range(len(changed.input))]
    outputs = [f"o{place}" for place in range(len(changed.output))]
    body = [helper.make_node("Identity", inputs[:1], [each]) for each in outputs]
    imports = [helper.make_opsetid("", model.opset_import[0].version if model.opset_import else 17)]
    model.functions.append(helper.make_function("", changed.op_type, inputs, outputs, body, imports))


def _hide_in_branch(model: ModelProto, random: Random) -> None:
    """A node in both branches of an If, which captures what it reads; sometimes nested, or broken."""
    place = int(random.integers(len(model.graph.node) or 1))
    changed = one(random, model.graph.node[place : place + 1])
    if not changed.output:
        raise Nothing
    inner = type(changed).FromString(changed.SerializeToString())
    depth = int(one(random, [1, 1, 2, 5, 90]))
    for level in range(depth):
        made = [f"{name}~{level}" for name in inner.output]
        inner.output[:] = made
        values = [helper.make_tensor_value_info(each, TensorProto.FLOAT, None) for each in made]
        branch = helper.make_graph([inner], "branch", [], values)
        if random.random() < 0.1:
            branch.ClearField(one(random, ["node", "output", "name"]))
        inner = helper.make_node(
            "If", ["decision"], changed.output, name="choice", then_branch=branch, else_branch=branch
        )
        if depth > 5:  # one branch only: two would double the file with every level
            inner.attribute[1].g.CopyFrom(GraphProto(name="other", output=values))
    changed.CopyFrom(inner)
    model.graph.initializer.append(helper.make_tensor("decision", TensorProto.BOOL, [], [True]))


def _loop(model: ModelProto, random: Random) -> None:
    """A Loop that runs for a number of turns that hurts, behind a tensor."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["state"], ["next"])],
        "body",
        [
            value("turn", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("state", TensorProto.FLOAT, None),
        ],
        [value("on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, None)],
    )
    turns = one(random, [0, 3, 1 << 20, 1 << 62])
    model.graph.initializer.append(helper.make_tensor("turns", TensorProto.INT64, [], [turns]))
    model.graph.node.append(helper.make_node("Loop", ["turns", "", name(model, random)], ["looped"], body=body))
    if random.random() < 0.8:
        model.graph.output.append(value("looped", TensorProto.FLOAT, None))


def _add_metadata(model: ModelProto, random: Random) -> None:
    for _ in range(2):
        key = one(random, ["reptran.beta", "reptran.version", "reptran.layers", *NAMES])
        model.metadata_props.add(key=key, value=one(random, [*NAMES, "2", "-1", "many"]))


def _train(model: ModelProto, random: Random) -> None:
    information = model.training_info.add()
    information.algorithm.CopyFrom(model.graph)
    information.initialization_binding.add(key=name(model, random), value=name(model, random))


def _chain(model: ModelProto, random: Random) -> None:
    """Some thousand nodes in a row behind a tensor, which become an output."""
    read, count = name(model, random), int(one(random, [10, 300, 3000]))
    operator = one(random, ["Identity", "Relu", "Neg"])
    for place in range(count):
        model.graph.node.add(op_type=operator, input=[read], output=[read := f"link {place}"])
    if random.random() < 0.5:
        model.graph.output.add(name=read)


def _add_random_metadata_to_node(model: ModelProto, random: Random) -> None:
    changed = node(model, random)
    changed.doc_string = one(random, NAMES)
    changed.overload = one(random, ["", "x"])
    changed.metadata_props.add(key=one(random, NAMES), value=str(number(random)))


#: Every mutation of a model as a whole, by name.
WHOLES: Mapping[str, Change] = {
    "opsets": _change_opset,
    "the IR version": _change_version,
    "a part of the graph dropped": _drop_graph,
    "a function": _hide_in_function,
    "a function for an operator": _overload_operator,
    "an If": _hide_in_branch,
    "a Loop": _loop,
    "metadata": _add_metadata,
    "training information": _train,
    "a chain": _chain,
    "a node's own metadata": _add_random_metadata_to_node,
}
