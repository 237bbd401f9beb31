"""Changes that are no mistakes: the gate must let each of them pass, in every network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import helper

from tests.planted.result import Result

Harmless = Callable[[Result], object]


def nothing(r: Result) -> None:
    """The result as it is."""


def pass_through(r: Result) -> None:
    """An Identity behind every layer and repetition."""
    for node in list(r.nodes("Conv", "Gemm", "MatMul", "Tile")):
        r.insert(node.output[0], "Identity")


def tile_by_concat(r: Result) -> None:
    """Concat for Tile."""
    for tile in list(r.nodes("Tile")):
        repeats = r.stored(tile, 1)
        times = int(repeats.max())
        r.becomes(tile, "Concat", [tile.input[0]] * times, axis=int(repeats.argmax()))


def commute(r: Result) -> None:
    """The operands of sums and products exchanged."""
    for node in r.nodes("Add", "Mul"):
        node.input.reverse()


def store_in_nodes(r: Result) -> None:
    """Stored tensors that only nodes of the graph itself read, in Constant nodes."""
    read = {name for node in r.graph.node for name in node.input}
    for tensor in [each for each in r.graph.initializer if each.name in read and not each.doc_string]:
        node = helper.make_node("Constant", [], [tensor.name], name=f"stored {tensor.name}", value=tensor)
        r.graph.node.append(node)
        r.graph.initializer.remove(tensor)
    r.sort()


def rename_new_nodes(r: Result) -> None:
    """Nodes that the source has not, by other names."""
    known = {node.name for node in r.canonical.graph.node}
    for place, node in enumerate(r.graph.node):
        if node.name not in known:
            node.name = f"new {place}"


def rename_new_tensors(r: Result) -> None:
    """Tensors that the source has not, by other names."""
    known = set(r.facts.source)
    made = {name for node in r.graph.node for name in node.output}
    other = {name: f"new {name}" for name in made if name not in known and not name.endswith(("/mean", "/wide"))}
    for node in r.graph.node:
        for names in (node.input, node.output):
            names[:] = [other.get(name, name) for name in names]


def rename_stored(r: Result) -> None:
    """Stored tensors that only nodes of the graph itself read, by other names."""
    kept = {note.value for each in r.graph.quantization_annotation for note in each.quant_parameter_tensor_names}
    read = {name for node in r.graph.node for name in node.input} - kept
    for tensor in r.graph.initializer:
        if tensor.name in read:
            for node in r.graph.node:
                node.input[:] = [f"new {name}" if name == tensor.name else name for name in node.input]
            tensor.name = f"new {tensor.name}"


def reorder_nodes(r: Result) -> None:
    """Nodes as late as what reads them allows."""
    nodes = list(r.graph.node)
    depth: dict[str, int] = {}
    for node in reversed(nodes):
        here = max((depth.get(name, 0) for name in node.output), default=0)
        for name in node.input:
            depth[name] = max(depth.get(name, 0), here + 1)
    place = {id(node): -max((depth.get(name, 0) for name in node.output), default=0) for node in nodes}
    r.graph.node.sort(key=lambda node: place[id(node)])
    r.sort()


def duplicate_stored(r: Result) -> None:
    """A stored tensor of its own for every reader."""
    for node in list(r.graph.node):
        for place, name in enumerate(node.input):
            value = r.value(name)
            if value is not None:
                node.input[place] = r.store(value)


def scale_by_powers(r: Result) -> None:
    """A power of two that is multiplied in and divided out again."""
    node = r.layers("classifier")[0]
    name = node.input[0]
    r.insert(name, "Mul", r.store(np.float32(4)), only=node)
    r.insert(f"{name} planted", "Mul", r.store(np.float32(0.25)), only=node)


HARMLESS: dict[str, Harmless] = {
    "nothing": nothing,
    "Identity behind nodes": pass_through,
    "Concat for Tile": tile_by_concat,
    "operands exchanged": commute,
    "constants in nodes": store_in_nodes,
    "new nodes by other names": rename_new_nodes,
    "new tensors by other names": rename_new_tensors,
    "stored tensors by other names": rename_stored,
    "independent nodes in another order": reorder_nodes,
    "a stored tensor for every reader": duplicate_stored,
    "a power of two in and out": scale_by_powers,
}
