"""Mistakes with the order and the number of copies and of channels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import NodeProto, helper

from reptran_compiler.pipeline import Options
from tests.planted.changes import blocks, columns, interleaved, reversed_blocks, rolled, transposed_columns
from tests.planted.kinds import Kind, Theme
from tests.planted.result import Array, Change, Places, Result


def network_scope(options: Options) -> bool:
    """Whether feature maps are wide."""
    return options.scope == "network"


def weights(change: Callable[[Array, int], Array]) -> Callable[[Result], Places]:
    """A change to a RepConv's stored weights [Co/beta, beta*Ci, ...], given the number of blocks of columns."""

    def plant(r: Result) -> Places:
        for node in r.layers("repconv"):
            if r.has(node, "group") in (None, 1):
                return r.change(node, 1, columns(r, node, lambda weight: change(weight, r.beta)))
        raise LookupError("every RepConv has groups")

    return plant


def tile_of(*roles: str, order: Callable[[Result, Array], Array]) -> Callable[[Result], Places]:
    """Another order of the channels behind the node that repeats a layer's output."""

    def plant(r: Result) -> Places:
        for layer in r.layers(*roles):
            if r.has(layer, "group") in (None, 1):
                out = r.tile(layer).output[0]
                rank = len(r.facts.result[out].shape)
                axis = 1 if layer.op_type == "Conv" else rank - 1
                return r.reorder(out, lambda index: order(r, index), axis)
        raise LookupError("every such layer has groups")

    return plant


def in_front(op: str, order: Callable[[Result, Array], Array]) -> Callable[[Result], Places]:
    """Another order of the channels that one operator reads."""

    def plant(r: Result) -> Places:
        for node in r.nodes(op):
            name = node.input[0]
            axis = r.wide(name)
            if axis is not None:
                return r.reorder(name, lambda index: order(r, index), axis, only=node)
        raise LookupError(f"no {op} reads a wide map")

    return plant


def repeated_less_often(r: Result) -> Places:
    """A RepConv's output is repeated beta times."""
    tile = r.tile(r.layers("repconv")[0])
    return r.change(tile, 1, lambda times: np.where(times > 1, r.beta, times))


def behind_each_other(r: Result) -> Places:
    """A Concat of channels whose operands' copies alternate: [a(0) b(0) a(1) b(1)]."""
    node = _channel_concat(r)
    sizes = [r.copies(name) for name in node.input]
    starts = np.cumsum([0, *(size * r.beta for size in sizes)])
    index = [
        np.arange(size) + start + copy * size
        for copy in range(r.beta)
        for size, start in zip(sizes, starts[:-1], strict=True)
    ]
    return r.reorder(node.output[0], lambda _: np.concatenate(index), 1)


def operands_exchanged(r: Result) -> Places:
    """The operands of a Concat in another order."""
    node = r.find("Concat", having=lambda node: len(set(node.input)) > 1 and r.value(node.input[0]) is None)
    node.input.reverse()
    return r.around(node)


def each_copy_sliced(r: Result) -> Places:
    """A Slice with step 1 that takes its channels from each copy."""
    for node in r.nodes("Slice"):
        if r.value(node.input[1]) is None or r.stored(node, 3).tolist() != [1] or r.wide(node.input[0]) != 1:
            continue
        if len(node.input) > 4 and r.stored(node, 4).tolist() != [1]:
            continue
        count, start = r.copies(node.input[0]), int(r.stored(node, 1)[0]) // r.beta
        taken = r.copies(node.output[0])
        index = np.concatenate([np.arange(taken) + start + copy * count for copy in range(r.beta)])
        return r.becomes(node, "Gather", [node.input[0], r.store(index)], axis=1)
    raise LookupError("there is no Slice of channels")


def each_copy_split(r: Result) -> Places:
    """A Split that cuts each copy."""
    node = r.find(
        "Split", having=lambda node: r.has(node, "axis") == 1 and r.wide(node.input[0]) == 1 and _kept(r, node)
    )
    places, count = r.around(node), r.copies(node.input[0])
    sizes = [r.copies(name) for name in node.output]
    starts = np.cumsum([0, *sizes])
    for name, size, start in zip(node.output, sizes, starts, strict=False):
        index = np.concatenate([np.arange(size) + start + copy * count for copy in range(r.beta)])
        made = helper.make_node("Gather", [node.input[0], r.store(index)], [name], name=f"{name} picked", axis=1)
        r.graph.node.append(made)
    r.graph.node.remove(node)
    r.sort()
    return places


def each_copy_padded(r: Result) -> Places:
    """A Pad of channels whose zeros stand in each copy."""
    node = r.find("Pad", having=lambda node: r.wide(node.output[0]) == 1 and _pads_channels(r, node))
    low, count = int(r.stored(node, 1)[1]) // r.beta, r.copies(node.input[0])
    whole = r.copies(node.output[0])

    def order(index: Array) -> Array:
        before, inner, after = np.split(index, [low * r.beta, low * r.beta + count * r.beta])
        parts = [blocks(each, r.beta) for each in (before, inner, after)]
        return np.concatenate([np.concatenate(part) for part in zip(*parts, strict=True)])

    assert low <= whole
    return r.reorder(node.output[0], order, 1)


def groups_of_beta(r: Result) -> Places:
    """A channel shuffle of beta times the groups."""
    for turn in r.nodes("Transpose"):
        cut = r.maker(turn.input[0])
        if cut.op_type == "Reshape" and r.value(cut.input[1]) is not None and r.wide(cut.input[0]) == 1:
            target = r.stored(cut, 1)
            if target.size == 5 and target[2] > 1 and target[2] % r.beta == 0 and target[1] * r.beta > 1:
                return r.change(cut, 1, lambda t: np.r_[t[0], t[1] * r.beta, t[2] // r.beta, t[3:]])
    raise LookupError("there is no shuffle")


def shuffle_lost(r: Result) -> Places:
    """A channel shuffle that leaves channels where they are."""
    for turn in r.nodes("Transpose"):
        cut = r.maker(turn.input[0])
        if cut.op_type == "Reshape" and r.wide(cut.input[0]) == 1 and r.has(turn, "perm") == [0, 2, 1, 3, 4]:
            return r.becomes(turn, "Identity") | {cut.name}
    raise LookupError("there is no shuffle")


def flattened_copy_by_copy(r: Result) -> Places:
    """A Flatten of (H, W, C) whose result holds the copies as blocks."""
    for turn in r.nodes("Transpose"):
        if r.has(turn, "perm") != [0, 2, 3, 1] or r.wide(turn.output[0]) != 3:
            continue
        flat = r.reader(turn.output[0], "Reshape", "Flatten")
        return r.reorder(flat.output[0], _as_blocks(r.beta, r.copies(turn.output[0])), 1)
    raise LookupError("channels do not come last")


def _as_blocks(beta: int, count: int) -> Change:
    return lambda index: index.reshape(-1, beta, count).transpose(1, 0, 2).reshape(-1)


def across_groups(r: Result) -> Places:
    """A grouped RepConv whose rows are moved as if there were one group."""
    for node in r.layers("repconv"):
        groups = r.has(node, "group") or 1
        if groups > 1:
            return r.change(node, 1, interleaved(len(_rows(r, node)) // groups))
    raise LookupError("no RepConv has groups")


def _rows(r: Result, node: NodeProto) -> Array:
    return np.arange(r.facts.result[node.input[1]].shape[0])


def boundary_interleaved(r: Result) -> Places:
    """A boundary's copies, each channel beside its copies."""
    for tile in r.nodes("Tile"):
        maker = r.maker(tile.input[0])
        inputs = [r.maker(name).op_type for name in maker.input if any(name in node.output for node in r.graph.node)]
        if "Mean" in inputs or (maker.op_type == "Conv" and "Sign" in inputs and _from_mean(r, maker)):
            return r.reorder(tile.output[0], lambda index: interleaved(r.beta)(index), 1)
    raise LookupError("there is no boundary")


def _from_mean(r: Result, node: NodeProto) -> bool:
    sign = r.maker(node.input[0])
    return sign.op_type == "Sign" and any(sign.input[0] in each.output for each in r.nodes("Mean"))


def _channel_concat(r: Result) -> NodeProto:
    def fits(node: NodeProto) -> bool:
        wide = all(r.wide(name) == 1 for name in (*node.input, *node.output))
        return wide and r.has(node, "axis") == 1 and len(node.input) > 1

    return r.find("Concat", having=fits)


def _kept(r: Result, node: NodeProto) -> bool:
    return len(node.output) > 1 and all(r.wide(name) == 1 for name in node.output)


def _pads_channels(r: Result, node: NodeProto) -> bool:
    value = r.value(node.input[1]) if len(node.input) > 1 else None
    return value is not None and value.size == 8 and bool(value[1] + value[5])


def swapped(r: Result, index: Array) -> Array:
    """The copies, each in its neighbour's place."""
    return np.concatenate(np.roll(np.stack(blocks(index, r.beta)), 1, axis=0))


def first_only(r: Result, index: Array) -> Array:
    """The first copy in the place of all."""
    return np.concatenate([blocks(index, r.beta)[0]] * r.beta)


def one_copy_turned(r: Result, index: Array) -> Array:
    """The last copy with its channels from last to first."""
    parts = blocks(index, r.beta)
    return np.concatenate([*parts[:-1], parts[-1][::-1]])


def one_channel_further(r: Result, index: Array) -> Array:
    """All channels moved by one."""
    return np.roll(index, 1)


def stripes(weight: Array, beta: int) -> Array:
    """Rows r, r + beta, r + 2 beta... of W in the place of the r-th block of rows."""
    rows = np.concatenate(np.split(weight, beta, axis=1))
    return np.concatenate([rows[part::beta] for part in range(beta)], axis=1)


def _interleaved(r: Result, index: Array) -> Array:
    return interleaved(r.beta)(index)


THEME = Theme(
    "Order of copies and channels",
    (
        Kind("row blocks in reverse order", weights(reversed_blocks), needs=lambda o: o.beta > 1),
        Kind("row blocks taken in stripes", weights(stripes)),
        Kind("columns interleaved for tiled", weights(lambda w, beta: interleaved(beta, 1)(w))),
        Kind("columns one channel further", weights(lambda w, beta: rolled(1)(w))),
        Kind("columns of one filter with its neighbour's", weights(transposed_columns)),
        Kind("rows moved across groups", across_groups),
        Kind("beta for beta^2", repeated_less_often, needs=network_scope),
        Kind("RepConv's output interleaved for tiled", tile_of("repconv", order=_interleaved)),
        Kind("RepConv's output one channel further", tile_of("repconv", order=one_channel_further)),
        Kind("last copy of a RepConv's output turned round", tile_of("repconv", order=one_copy_turned)),
        Kind("stem interleaved for tiled", tile_of("stem", order=_interleaved), needs=network_scope),
        Kind("last copy of the stem turned round", tile_of("stem", order=one_copy_turned), needs=network_scope),
        Kind("copies swapped in front of Sign", in_front("Sign", swapped)),
        Kind("copies swapped in front of a shortcut", in_front("Add", swapped)),
        Kind("copies swapped in front of a pooling", in_front("GlobalAveragePool", swapped)),
        Kind("first copy in the place of all", in_front("Sign", first_only)),
        Kind("a boundary's copies interleaved", boundary_interleaved),
        Kind("Concat copy by copy", behind_each_other),
        Kind("Concat in another order", operands_exchanged),
        Kind("Slice of each copy", each_copy_sliced),
        Kind("Split of each copy", each_copy_split),
        Kind("Pad of each copy's channels", each_copy_padded),
        Kind("shuffle in beta times the groups", groups_of_beta),
        Kind("shuffle lost", shuffle_lost),
        Kind("Flatten of (H, W, C) copy by copy", flattened_copy_by_copy),
    ),
)

__all__ = ["THEME", "Change", "network_scope"]
