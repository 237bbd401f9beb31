"""Replication carried through a graph, operator by operator, in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Constant, Graph, Node, Tensor, Variable
from reptran_compiler.replication.roles import Roles, find_roles
from reptran_compiler.replication.state import Wide

Array = NDArray[Any]

_UNARY = frozenset(
    "Relu Clip Sign Sigmoid Tanh Abs Neg HardSigmoid HardSwish LeakyRelu Elu Selu Softplus Softsign Exp Log Sqrt Erf "
    "Gelu Identity Dropout Cast Not Floor Ceil Round Reciprocal ThresholdedRelu Celu Mish Sin Cos".split()
)
_JOINT = frozenset(
    "Add Sub Mul Div Pow Max Min Sum And Or Xor Equal Less Greater LessOrEqual GreaterOrEqual Where "
    "PRelu".split()
)
_SPATIAL = frozenset("MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool GlobalLpPool".split())
_REDUCTIONS = frozenset(
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare "
    "ReduceLogSum ReduceLogSumExp".split()
)


class CannotReplicate(Exception):
    """The compiler refuses; the message says where and why."""


class Boundary(Exception):
    """An operator cannot carry replication; the reason."""


@dataclass(frozen=True)
class Decision:
    """What became of a layer or boundary."""

    node: str
    op: str
    role: str
    reason: str


@dataclass(frozen=True)
class WeightMove:
    """How a result's weights come from the source's: `source.reshape(reshape).transpose(order).reshape(shape)`."""

    layer: str
    source: str
    result: str
    reshape: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass
class Replication:
    """Replication of a canonical graph, carried out in place by `run`.

    Attributes:
        graph: the graph.
        facts: shapes and types of its tensors, from a run of the source.
        beta: the replication factor.
        excluded, included: node names of layers.
    """

    graph: Graph
    facts: Mapping[str, Any]
    beta: int
    scope: str = "network"
    fc: str = "widen"
    excluded: frozenset[str] = frozenset()
    included: frozenset[str] = frozenset()
    binary: frozenset[str] = frozenset()
    wide: dict[str, Wide] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    moves: list[WeightMove] = field(default_factory=list)

    def run(self) -> None:
        """Carry replication through the graph.

        Raises:
            CannotReplicate: copies of integers or booleans differ where one is needed.
        """
        self.roles: Roles = find_roles(self.graph, self.facts)
        self._means: dict[str, Tensor] = {}
        self._tiles: dict[str, Tensor] = {}
        self._tile_at: set[str] = set()
        self._shuffles: dict[str, Node] = {}
        for node in list(self.graph.nodes):
            self._node(node)
            for out in list(node.outputs):
                if out.name in self._tile_at:
                    self._tile_at.discard(out.name)
                    self._stem_tile(out)
        for out in list(self.graph.outputs):
            if out.name in self.wide:
                self._narrow_output(out)
        self.graph.tidy()

    def drop_in(self, plan: list[Decision]) -> None:
        """Scope `layer`: every RepConv of a plan on its own, feature maps left as they are."""
        self.roles = find_roles(self.graph, self.facts)
        self.decisions = list(plan)
        chosen = {d.node for d in plan if d.role == "repconv"}
        for node in list(self.graph.nodes):
            if node.name in chosen:
                self._drop_in(node, 1)
        self.graph.tidy()

    # -- helpers ---------------------------------------------------------------------------------------------

    def rank(self, name: str) -> int:
        """The rank of a tensor of the source."""
        return int(self.facts[name].rank)

    def _shape(self, tensor: Tensor) -> tuple[int, ...]:
        return tuple(tensor.shape) if isinstance(tensor, Constant) else tuple(self.facts[tensor.name].shape)

    def _op(
        self,
        op: str,
        inputs: list[Tensor],
        attrs: dict[str, Any] | None = None,
        *,
        name: str,
        outputs: int = 1,
    ) -> Node:
        node = self.graph.node(op, inputs, attrs, name=name, outputs=outputs)
        self.graph.nodes.append(node)
        return node

    def _tiled(self, tensor: Tensor, axis: int, rank: int, times: int, hint: str) -> Tensor:
        repeats = self.graph.constant(
            f"{hint}/repeats", [times if a == axis else 1 for a in range(rank)], np.int64
        )
        made: Tensor = self._op("Tile", [tensor, repeats], name=f"{hint}/Tile").outputs[0]
        return made

    def _takes_place(self, old: Tensor, new: Tensor, keep: Node | None = None) -> None:
        """`new` gets the name and the readers of `old`, which keeps `keep` as its reader."""
        old.name, new.name = new.name, old.name
        made = new.inputs[0]
        for reader in list(dict.fromkeys(old.outputs)):
            if reader is made or reader is keep:
                continue
            for index, tensor in enumerate(reader.inputs):
                if tensor is old:
                    reader.inputs[index] = new
        self.graph.outputs = [new if t is old else t for t in self.graph.outputs]

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of a wide tensor's copies, made once; a narrow tensor is its own mean."""
        state = self.wide.get(tensor.name)
        if state is None:
            return tensor
        if tensor.name in self._means:
            return self._means[tensor.name]
        name = tensor.name
        fact = self.facts[name]
        maker = tensor.inputs[0] if tensor.inputs else None
        source = _binarised(tensor)
        if maker is not None and source is not None and source.name in self.wide:
            made = self._again(maker, source, self.mean(source))
        elif not np.issubdtype(fact.dtype, np.floating):
            if not state.equal:
                raise CannotReplicate(
                    f"the copies of {name!r} ({fact.dtype}) may differ, and one value is needed"
                )
            made = self._copies(tensor, state, fact.rank)[0]
        else:
            copies = self._copies(tensor, state, fact.rank)
            made = self._op("Mean", copies, name=f"{name}/Mean").outputs[0]
        made.name = self.graph.fresh(f"{name}/mean")
        self._means[name] = made
        return made

    def _again(self, maker: Node, old: Tensor, new: Tensor) -> Tensor:
        """The operators of a canonical binarisation once more, on another tensor."""
        inputs = [
            new
            if t is old
            else self._again(t.inputs[0], old, new)
            if t.inputs and not isinstance(t, Constant)
            else t
            for t in maker.inputs
        ]
        made: Tensor = self._op(maker.op, inputs, dict(maker.attrs), name=f"{maker.name}/mean").outputs[0]
        return made

    def _copies(self, tensor: Tensor, state: Wide, rank: int) -> list[Tensor]:
        if state.outer != 1:
            raise CannotReplicate(f"the copies of {tensor.name!r} lie interleaved where their mean is needed")
        sizes = [state.size] * self.beta
        if self.graph.opset >= 13:
            split = self.graph.constant(f"{tensor.name}/sizes", sizes, np.int64)
            node = self._op(
                "Split", [tensor, split], {"axis": state.axis}, name=f"{tensor.name}/Split", outputs=self.beta
            )
        else:
            node = self._op(
                "Split",
                [tensor],
                {"axis": state.axis, "split": sizes},
                name=f"{tensor.name}/Split",
                outputs=self.beta,
            )
        return list(node.outputs)

    def _stem_tile(self, out: Tensor) -> None:
        axis = 1 if self.rank(out.name) > 2 else self.rank(out.name) - 1
        size = self._shape(out)[axis]
        name = out.name
        made = self._tiled(out, axis, self.rank(name), self.beta, name)
        self._takes_place(out, made)
        self.wide[name] = Wide(axis, size)

    def _widened(self, tensor: Tensor, axis: int, rank: int) -> Tensor:
        """A narrow operand as wide as its partner; one channel broadcasts and stays."""
        shape = self._shape(tensor)
        place = axis - (rank - len(shape))
        if place < 0 or shape[place] == 1:
            return tensor
        if isinstance(tensor, Constant):
            times = [self.beta if a == place else 1 for a in range(len(shape))]
            return Constant(self.graph.fresh(f"{tensor.name}/wide"), np.tile(tensor.values, times))
        key = f"{tensor.name}@{place}"
        if key not in self._tiles:
            self._tiles[key] = self._tiled(tensor, place, len(shape), self.beta, tensor.name)
        return self._tiles[key]

    def _narrow_output(self, out: Tensor) -> None:
        name = out.name
        mean = self.mean(out)
        wide_name = self.graph.fresh(f"{name}/wide")
        state = self.wide.pop(name)
        out.name, mean.name = wide_name, name
        self.wide[wide_name] = state
        self.graph.outputs = [mean if t is out else t for t in self.graph.outputs]

    # -- operators -------------------------------------------------------------------------------------------

    def _node(self, node: Node) -> None:
        if node.name in self.roles.layers:
            self._layer(node, self.roles.layers[node.name])
            return
        states = [self.wide.get(t.name) if isinstance(t, Variable) else None for t in node.inputs]
        if not any(states):
            return
        carry = self._carrier(node)
        try:
            if carry is None:
                raise Boundary(f"{node.op_type} has no rule that carries replication")
            carry(node, states)
        except Boundary as reason:
            self.decisions.append(Decision(node.name, node.op_type, "boundary", str(reason)))
            self._boundary(node)

    def _carrier(self, node: Node) -> Callable[[Node, list[Wide | None]], None] | None:
        op = node.op_type
        if op in _UNARY:
            return self._unary
        if op in _JOINT:
            return self._joint
        if op in _SPATIAL:
            return self._spatial
        if op in _REDUCTIONS:
            return self._reduction
        carry: Callable[[Node, list[Wide | None]], None] | None = getattr(
            self, "_shape_op" if op == "Shape" else f"_{op.lower()}", None
        )
        return (
            carry
            if op
            in {
                "BatchNormalization",
                "Concat",
                "Split",
                "Slice",
                "Pad",
                "Reshape",
                "Flatten",
                "Squeeze",
                "Unsqueeze",
                "Transpose",
                "Shape",
                "Resize",
            }
            else None
        )

    def _boundary(self, node: Node) -> None:
        axis, equal_rank = 1, 0
        for index, tensor in enumerate(node.inputs):
            state = self.wide.get(tensor.name) if isinstance(tensor, Variable) else None
            if state is not None:
                axis, equal_rank = state.axis, self.rank(tensor.name)
                node.inputs[index] = self.mean(tensor)
        for out in list(node.outputs):
            if (
                not out.name
                or out.name not in self.facts
                or (not out.outputs and not self.graph.is_output(out))
            ):
                continue
            rank = self.rank(out.name)
            at = axis if rank == equal_rank else 1
            if rank <= at:
                continue
            name, size = out.name, self._shape(out)[at]
            made = self._tiled(out, at, rank, self.beta, name)
            self._takes_place(out, made)
            self.wide[name] = Wide(at, size)

    def _unary(self, node: Node, states: list[Wide | None]) -> None:
        if any(states[1:]):
            raise Boundary("an operand besides the first is wide")
        assert states[0] is not None
        self.wide[node.outputs[0].name] = states[0]

    def _joint(self, node: Node, states: list[Wide | None]) -> None:
        out = node.outputs[0].name
        rank = self.rank(out)
        placed = {
            (s.axis + rank - self.rank(t.name), s.outer)
            for t, s in zip(node.inputs, states, strict=True)
            if s
        }
        if len(placed) != 1:
            raise Boundary("wide operands have their channels on different axes")
        axis, outer = placed.pop()
        channels = self._shape(node.outputs[0])[axis]
        if outer != 1:
            if any(
                s is None and self._shape(t)[-1:] not in ((), (1,))
                for t, s in zip(node.inputs, states, strict=True)
            ):
                raise Boundary("the copies lie interleaved")
            self.wide[out] = Wide(axis, channels, outer, all(s.equal for s in states if s))
            return
        for index, (tensor, state) in enumerate(zip(list(node.inputs), states, strict=True)):
            if not tensor.name:
                continue
            if state is None:
                if node.op == "PRelu" and index == 1:
                    node.inputs[index] = self._slope(tensor, axis, rank)
                else:
                    node.inputs[index] = self._widened(tensor, axis, rank)
            elif state.size == 1 and channels > 1:
                order = self.graph.constant(
                    f"{tensor.name}/copies", np.repeat(np.arange(self.beta), channels), np.int64
                )
                node.inputs[index] = self._op(
                    "Gather", [tensor, order], {"axis": state.axis}, name=f"{tensor.name}/Gather"
                ).outputs[0]
        self.wide[out] = Wide(axis, channels, 1, all(s.equal for s in states if s))

    def _slope(self, tensor: Tensor, axis: int, rank: int) -> Tensor:
        if isinstance(tensor, Constant) and tensor.values.ndim == 1 and axis == 1 and self.graph.opset < 9:
            return self._widened(tensor, 0, 1)
        return self._widened(tensor, axis, rank)

    def _spatial(self, node: Node, states: list[Wide | None]) -> None:
        state = states[0]
        if state is None or state.axis != 1 or len([o for o in node.outputs if o.name]) != 1:
            raise Boundary("pools over the channel axis")
        self.wide[node.outputs[0].name] = state

    def _resize(self, node: Node, states: list[Wide | None]) -> None:
        state = states[0]
        if state is None or any(states[1:]):
            raise Boundary("its sizes depend on the map")
        if self._shape(node.inputs[0])[state.axis] != self._shape(node.outputs[0])[state.axis]:
            raise Boundary("resizes the channel axis")
        sizes = node.input(3)
        if sizes is not None:
            if not isinstance(sizes, Constant) or "axes" in node.attrs:
                raise Boundary("its sizes are computed")
            node.inputs[3] = self._scaled(sizes, state.axis)
        self.wide[node.outputs[0].name] = state

    def _scaled(self, tensor: Constant, axis: int) -> Constant:
        values = np.array(tensor.values)
        if values[axis] > 0:
            values[axis] *= self.beta
        return self.graph.constant(f"{tensor.name}/wide", values)

    def _reduction(self, node: Node, states: list[Wide | None]) -> None:
        state = states[0]
        assert state is not None
        rank = self.rank(node.inputs[0].name)
        axes_in = node.input(1)
        if isinstance(axes_in, Constant):
            axes = [int(a) for a in axes_in.values.reshape(-1)]
        else:
            axes = [int(a) for a in node.attrs.get("axes", [])]
            if axes_in is not None:
                raise Boundary("its axes are computed")
        if not axes:
            if node.attrs.get("noop_with_empty_axes", 0):
                self.wide[node.outputs[0].name] = state
                return
            axes = list(range(rank))
        axes = [a % rank for a in axes]
        if state.axis in axes:
            return
        axis = state.axis
        if not node.attrs.get("keepdims", 1):
            axis -= sum(1 for a in axes if a < axis)
        self.wide[node.outputs[0].name] = Wide(axis, state.size, state.outer, state.equal)

    def _batchnormalization(self, node: Node, states: list[Wide | None]) -> None:
        state = states[0]
        if state is None or state.axis != 1 or state.outer != 1 or any(states[1:]):
            raise Boundary("normalises another axis")
        for index in range(1, 5):
            node.inputs[index] = self._widened(node.inputs[index], 0, 1)
        if len(node.outputs) > 1:
            for out in node.outputs[1:]:
                if out.name and (out.outputs or self.graph.is_output(out)):
                    raise Boundary("its statistics are read")
        self.wide[node.outputs[0].name] = state

    def _concat(self, node: Node, states: list[Wide | None]) -> None:
        rank = self.rank(node.outputs[0].name)
        axes = {s.axis for s in states if s}
        if len(axes) != 1 or any(s.outer != 1 for s in states if s):
            raise Boundary("wide operands have their channels on different axes")
        axis = axes.pop()
        along = node.attrs["axis"] % rank
        for index, (tensor, state) in enumerate(zip(list(node.inputs), states, strict=True)):
            if state is None:
                shape = self._shape(tensor)
                if shape[axis] == 1:
                    if isinstance(tensor, Constant):
                        times = [self.beta if a == axis else 1 for a in range(rank)]
                        node.inputs[index] = Constant(
                            self.graph.fresh(f"{tensor.name}/wide"), np.tile(tensor.values, times)
                        )
                    else:
                        node.inputs[index] = self._tiled(tensor, axis, rank, self.beta, tensor.name)
                else:
                    node.inputs[index] = self._widened(tensor, axis, rank)
        size = self._shape(node.outputs[0])[axis]
        equal = along != axis and all(s.equal for s in states if s)
        self.wide[node.outputs[0].name] = Wide(axis, size, 1, equal)

    def _split(self, node: Node, states: list[Wide | None]) -> None:
        state = states[0]
        if state is None or state.outer != 1:
            raise Boundary("the copies lie interleaved")
        axis = node.attrs.get("axis", 0) % self.rank(node.inputs[0].name)
        if axis != state.axis:
            for out in node.outputs:
                self.wide[out.name] = state
            return
        sizes = [self._shape(out)[axis] for out in node.outputs]
        wide = [size * self.beta for size in sizes]
        if self.graph.opset >= 13:
            new = self.graph.constant(f"{node.name}/sizes", wide, np.int64)
            if len(node.inputs) > 1:
                node.inputs[1] = new
            else:
                node.inputs.append(new)
            node.attrs.pop("num_outputs", None)
        else:
            node.attrs["split"] = wide
        for out, size in zip(node.outputs, sizes, strict=True):
            self.wide[out.name] = Wide(axis, size, 1, False)

    def _slice(self, node: Node, states: list[Wide | None]) -> None:
        state = states[0]
        if state is None or state.outer != 1 or any(states[1:]):
            raise Boundary("its bounds depend on the map")
        rank = self.rank(node.inputs[0].name)
        old = self.graph.opset < 10
        if old:
            starts, ends = list(node.attrs["starts"]), list(node.attrs["ends"])
            axes = list(node.attrs.get("axes", range(len(starts))))
            steps = [1] * len(starts)
        else:
            given = [node.input(i) for i in range(1, 5)]
            if any(t is not None and not isinstance(t, Constant) for t in given):
                raise Boundary("its bounds are computed")
            lists = [None if t is None else [int(v) for v in t.values.reshape(-1)] for t in given]
            starts, ends = lists[0] or [], lists[1] or []
            axes = lists[2] if lists[2] is not None else list(range(len(starts)))
            steps = lists[3] if lists[3] is not None else [1] * len(starts)
        axes = [a % rank for a in axes]
        size = self._shape(node.outputs[0])[state.axis]
        out = node.outputs[0].name
        if state.axis not in axes:
            self.wide[out] = state
            return
        at = axes.index(state.axis)
        first, last, step = slice(starts[at], ends[at], steps[at]).indices(state.size)
        if step != 1:
            if starts[at : at + 1] == [0] and step > 0 and ends[at] >= state.size and state.size % step == 0:
                self.wide[out] = Wide(state.axis, size, 1, state.equal)
                return
            kept = np.arange(state.size)[slice(starts[at], ends[at], step)]
            order = np.concatenate([kept + r * state.size for r in range(self.beta)])
            index = self.graph.constant(f"{node.name}/channels", order, np.int64)
            rest = [i for i in range(len(axes)) if i != at]
            gathered = self._op(
                "Gather", [node.inputs[0], index], {"axis": state.axis}, name=f"{node.name}/Gather"
            )
            made = gathered.outputs[0]
            if rest:
                node.inputs[0] = made
                values = [[v[i] for i in rest] for v in (starts, ends, axes, steps)]
                for place, v in enumerate(values, 1):
                    new = self.graph.constant(f"{node.name}/bounds", v, np.int64)
                    if place < len(node.inputs):
                        node.inputs[place] = new
                    else:
                        node.inputs.append(new)
            else:
                self._takes_place(node.outputs[0], made)
            self.wide[out] = Wide(state.axis, size, 1, state.equal)
            return
        starts[at], ends[at] = first * self.beta, max(first, last) * self.beta
        if old:
            node.attrs["starts"], node.attrs["ends"] = starts, ends
        else:
            node.inputs[1] = self.graph.constant(f"{node.name}/starts", starts, np.int64)
            node.inputs[2] = self.graph.constant(f"{node.name}/ends", ends, np.int64)
        self.wide[out] = Wide(state.axis, size, 1, state.equal and size == state.size)

    def _pad(self, node: Node, states: list[Wide | None]) -> None:
        state = states[0]
        if state is None or state.outer != 1 or any(states[1:]):
            raise Boundary("its pads depend on the map")
        rank = self.rank(node.inputs[0].name)
        if node.input(3) is not None:
            raise Boundary("names its axes")
        pads_in = node.input(1)
        if pads_in is not None and not isinstance(pads_in, Constant):
            raise Boundary("its pads are computed")
        pads = [int(v) for v in (pads_in.values if pads_in is not None else node.attrs["pads"])]
        low, high = pads[state.axis], pads[state.axis + rank]
        if (low or high) and node.attrs.get("mode", "constant") != "constant":
            raise Boundary("pads channels with copies of others")
        pads[state.axis], pads[state.axis + rank] = low * self.beta, high * self.beta
        if pads_in is not None:
            node.inputs[1] = self.graph.constant(f"{node.name}/pads", pads, np.int64)
        else:
            node.attrs["pads"] = pads
        equal = state.equal and not (low or high)
        self.wide[node.outputs[0].name] = Wide(state.axis, state.size + low + high, 1, equal)

    def _transpose(self, node: Node, states: list[Wide | None]) -> None:
        state = states[0]
        assert state is not None
        rank = self.rank(node.inputs[0].name)
        perm = list(node.attrs.get("perm", range(rank - 1, -1, -1)))
        self.wide[node.outputs[0].name] = Wide(perm.index(state.axis), state.size, state.outer, state.equal)

    def _squeeze(self, node: Node, states: list[Wide | None]) -> None:
        self._shape_change(node, states)

    def _unsqueeze(self, node: Node, states: list[Wide | None]) -> None:
        self._shape_change(node, states)

    def _flatten(self, node: Node, states: list[Wide | None]) -> None:
        self._shape_change(node, states)

    def _shape_op(self, node: Node, states: list[Wide | None]) -> None:
        state = states[0]
        assert state is not None
        rank = self.rank(node.inputs[0].name)
        if node.attrs.get("start", 0) or "end" in node.attrs:
            raise Boundary("reads a part of a shape")
        factor = self.graph.constant(
            f"{node.name}/factor", [self.beta if a == state.axis else 1 for a in range(rank)], np.int64
        )
        out = node.outputs[0]
        made = self._op("Div", [out, factor], name=f"{node.name}/narrow").outputs[0]
        self._takes_place(out, made)

    def _reshape(self, node: Node, states: list[Wide | None]) -> None:
        state = states[0]
        if state is None or any(states[1:]):
            raise Boundary("its target depends on the map")
        shuffle = self._shuffle_groups(node)
        if shuffle:
            self._shuffle(node, state)
            return
        place = self._shape_change(node, states)
        target = node.inputs[1]
        if not isinstance(target, Constant):
            rank = self.rank(node.outputs[0].name)
            factor = self.graph.constant(
                f"{node.name}/factor", [self.beta if a == place else 1 for a in range(rank)], np.int64
            )
            node.inputs[1] = self._op("Mul", [target, factor], name=f"{node.name}/target").outputs[0]
        else:
            node.inputs[1] = self._scaled(target, place)

    def _shape_change(self, node: Node, states: list[Wide | None]) -> int:
        """Where the channel axis lands when axes are merged, split off or dropped; registers the output."""
        state = states[0]
        assert state is not None
        before, after = self._dims(node.inputs[0]), self._dims(node.outputs[0])
        left = int(np.prod(before[: state.axis]))
        size, inner_right = before[state.axis], int(np.prod(before[state.axis + 1 :]))
        done = 1
        for place, count in enumerate(after):  # noqa: B007
            if done * count > left or (done == left and count == size):
                break
            done *= count
        else:
            raise Boundary("the channel axis vanishes")
        count = after[place]
        if left % done:
            raise Boundary("cuts the channel axis")
        ahead = left // done
        if count % (ahead * size) and not (ahead == 1 and count == size):
            raise Boundary("cuts the channel axis")
        behind = count // (ahead * size)
        if behind == 0 or inner_right % behind:
            raise Boundary("cuts the channel axis")
        outer = ahead * state.outer
        self.wide[node.outputs[0].name] = Wide(place, count, outer, state.equal)
        return place

    def _dims(self, tensor: Tensor) -> tuple[int, ...]:
        return tuple(int(d) for d in self.facts[tensor.name].shape)

    def _shuffle_groups(self, node: Node) -> bool:
        if not node.outputs[0].outputs or len(node.outputs[0].outputs) != 1:
            return False
        turn = node.outputs[0].outputs[0]
        a, b = self._dims(node.inputs[0]), self._dims(node.outputs[0])
        if turn.op != "Transpose" or len(b) != len(a) + 1 or a[1] != b[1] * b[2] or a[2:] != b[3:]:
            return False
        perm = list(turn.attrs.get("perm", []))
        if perm[:3] != [0, 2, 1] or perm[3:] != list(range(3, len(b))) or len(turn.outputs[0].outputs) != 1:
            return False
        back = turn.outputs[0].outputs[0]
        return back.op == "Reshape" and self._dims(back.outputs[0]) == a

    def _shuffle(self, node: Node, state: Wide) -> None:
        if state.axis != 1 or state.outer != 1:
            raise Boundary("shuffles another axis")
        turn = node.outputs[0].outputs[0]
        back = turn.outputs[0].outputs[0]
        for one, place in ((node, 2), (back, 1)):
            target = one.inputs[1]
            if isinstance(target, Constant):
                one.inputs[1] = self._scaled(target, place)
            else:
                rank = self.rank(one.outputs[0].name)
                factor = self.graph.constant(
                    f"{one.name}/factor", [self.beta if a == place else 1 for a in range(rank)], np.int64
                )
                one.inputs[1] = self._op("Mul", [target, factor], name=f"{one.name}/target").outputs[0]
        self.wide[back.outputs[0].name] = Wide(1, state.size, 1, False)

    # -- layers ----------------------------------------------------------------------------------------------

    def _layer(self, node: Node, position: int) -> None:
        role, reason = self._role(node, position)
        self.decisions.append(Decision(node.name, node.op, role, reason))
        if role == "stem":
            self._tile_at.add(self._behind_stem(node))
        elif role == "repconv":
            self._repconv(node, position)
        elif role == "classifier":
            self._classifier(node, position)
        elif role == "depthwise":
            self._depthwise(node)
        elif role == "boundary":
            self._boundary(node)

    def _role(self, node: Node, position: int) -> tuple[str, str]:
        reads = node.inputs[1 - position]
        state = self.wide.get(reads.name)
        if self.roles.is_classifier(node):
            return "classifier", "" if state else "reads a narrow map"
        if state is None:
            if reads.name in self.roles.near:
                return "stem", ""
            if node.name not in self.included:
                return "narrow", "reads a narrow map"
        if node.name in self.excluded:
            return "boundary", "excluded"
        if node.name in self.roles.depthwise:
            return "depthwise", ""
        if position == 0:
            return "boundary", "its weights stand on the left"
        groups = node.attrs.get("group", 1) if node.op == "Conv" else 1
        filters = self._filters(node)
        if filters // groups % self.beta:
            return "boundary", f"{filters // groups} filters are not divisible by beta {self.beta}"
        axis = 1 if node.op == "Conv" else self.rank(reads.name) - 1
        if state is not None and state.axis != axis:
            return "boundary", "does not contract the channel axis"
        return "repconv", ""

    def _filters(self, node: Node) -> int:
        shape = self._shape_of(node.inputs[1])
        return int(shape[0] if node.op == "Conv" or node.attrs.get("transB", 0) else shape[-1])

    def _shape_of(self, tensor: Tensor) -> tuple[int, ...]:
        if isinstance(tensor, Constant):
            return tuple(tensor.shape)
        latent = _binarised(tensor)
        assert isinstance(latent, Constant)
        return tuple(latent.shape)

    def _behind_stem(self, node: Node) -> str:
        out = node.outputs[0]
        while len(out.outputs) == 1 and not self.graph.is_output(out):
            reader = out.outputs[0]
            add = reader.op == "Add" and any(isinstance(t, Constant) for t in reader.inputs)
            if not (reader.op == "BatchNormalization" and len(reader.outputs) == 1 or add):
                break
            out = reader.outputs[0]
            if reader.op == "BatchNormalization":
                break
        return str(out.name)

    def _moved(self, node: Node, change: Callable[[Array], Array]) -> Tensor:
        """New weights: the stored tensor (the latent one of a binarisation) through `change`."""
        tensor = node.inputs[1]
        if isinstance(tensor, Constant):
            return Constant(
                self.graph.fresh(f"{tensor.name}/rep"), np.ascontiguousarray(change(tensor.values))
            )
        latent = _binarised(tensor)
        assert isinstance(latent, Constant)
        new = Constant(self.graph.fresh(f"{latent.name}/rep"), np.ascontiguousarray(change(latent.values)))
        return self._again(tensor.inputs[0], latent, new)

    def _rearranged(self, node: Node) -> Tensor:
        reads = node.inputs[0]
        state = self.wide.get(reads.name)
        outer = state.outer if state else 1
        g = int(node.attrs.get("group", 1)) if node.op == "Conv" else 1
        filters_last = node.op != "Conv" and not node.attrs.get("transB", 0)
        b = self.beta

        def change(w: Array) -> Array:
            w = w.T if filters_last else w
            rest = w.shape[2:]
            rows, columns = w.shape[0] // g // b, w.shape[1] // outer
            split = (g, b, rows, outer, columns, *rest)
            order = (0, 2, 3, 1, 4, *range(5, 5 + len(rest)))
            final = (g * rows, outer * b * columns, *rest)
            made = w.reshape(split).transpose(order).reshape(final)
            if filters_last:
                split, order, final = (outer, columns, b, rows), (0, 2, 1, 3), final[::-1]
            self.moves.append(WeightMove(node.name, _stored(node.inputs[1]), "", split, order, final))
            return made.T if filters_last else made

        return self._moved(node, change)

    def _repconv(self, node: Node, position: int) -> None:
        reads = node.inputs[0]
        if reads.name not in self.wide:
            axis = 1 if node.op == "Conv" else self.rank(reads.name) - 1
            node.inputs[0] = self._tiled(reads, axis, self.rank(reads.name), self.beta, reads.name)
        weight = self._rearranged(node)
        node.inputs[1] = weight
        out = node.outputs[0]
        axis = 1 if node.op == "Conv" else self.rank(out.name) - 1
        name, size, rank = out.name, self._shape(out)[axis], self.rank(out.name)
        made = self._tiled(out, axis, rank, self.beta**2, node.name)
        self._takes_place(out, made)
        self.wide[name] = Wide(axis, size)

    def _drop_in(self, node: Node, position: int) -> None:
        """Scope `layer`: x tiled beta times in front, y' beta times behind (THEORY rule 8)."""
        reads, out = node.inputs[0], node.outputs[0]
        axis = 1 if node.op == "Conv" else self.rank(reads.name) - 1
        node.inputs[0] = self._tiled(reads, axis, self.rank(reads.name), self.beta, f"{node.name}/in")
        node.inputs[1] = self._rearranged(node)
        at = 1 if node.op == "Conv" else self.rank(out.name) - 1
        made = self._tiled(out, at, self.rank(out.name), self.beta, node.name)
        self._takes_place(out, made)

    def _classifier(self, node: Node, position: int) -> None:
        reads = node.inputs[1 - position]
        state = self.wide.get(reads.name)
        if state is None:
            return
        axis = 1 if node.op == "Conv" else self.rank(reads.name) - 1
        grouped = node.op == "Conv" and node.attrs.get("group", 1) > 1
        if self.fc == "fold" or grouped or position == 0 or state.axis != axis or node.attrs.get("transA", 0):
            node.inputs[1 - position] = self.mean(reads)
            return
        columns_first = node.op != "Conv" and not node.attrs.get("transB", 0)
        binary = node.name in self.binary

        def change(w: Array) -> Array:
            w = (
                np.moveaxis(w, -2, 1)
                if columns_first and w.ndim == 2 and False
                else (w.T if columns_first else w)
            )
            inner = w.shape[1] // state.outer
            wide = np.tile(
                w.reshape(w.shape[0], state.outer, 1, inner, *w.shape[2:]),
                (1, 1, self.beta, 1, *[1] * (w.ndim - 2)),
            )
            made = wide.reshape(w.shape[0], -1, *w.shape[2:])
            if not binary:
                made = (made / self.beta).astype(w.dtype)
            return made.T if columns_first else made

        node.inputs[1] = self._moved(node, change)
        if binary:
            out = node.outputs[0]
            share = self.graph.constant(
                f"{node.name}/share", np.asarray(1 / self.beta, self.facts[out.name].dtype)
            )
            made = self._op("Mul", [out, share], name=f"{node.name}/mean").outputs[0]
            self._takes_place(out, made)

    def _depthwise(self, node: Node) -> None:
        def change(w: Array) -> Array:
            return np.tile(w, (self.beta, *[1] * (w.ndim - 1)))

        node.inputs[1] = self._moved(node, change)
        if node.input(2) is not None:
            node.inputs[2] = self._widened(node.inputs[2], 0, 1)
        node.attrs["group"] = int(node.attrs["group"]) * self.beta
        state = self.wide[node.inputs[0].name]
        out = node.outputs[0]
        self.wide[out.name] = Wide(1, self._shape(out)[1], 1, state.equal)


def _stored(tensor: Tensor) -> str:
    latent = _binarised(tensor)
    return str(latent.name if latent is not None else tensor.name)


def _binarised(tensor: Tensor) -> Tensor | None:
    """What enters the canonical binarisation that makes a tensor, None where none does."""
    if not tensor.inputs:
        return None
    node = tensor.inputs[0]
    if node.op == "Sign":
        return node.inputs[0]  # type: ignore[no-any-return]
    chain = {"Where": 0, "Not": 0, "Sub": 0, "Mul": 0, "Cast": 0}
    if node.op not in ("Where", "Sub"):
        return None
    if not all(isinstance(t, Constant) and t.values.size == 1 for t in node.inputs[1:]):
        return None
    for _ in range(6):
        if node.op in ("GreaterOrEqual", "Less"):
            return node.inputs[0]  # type: ignore[no-any-return]
        if node.op not in chain or not node.inputs[0].inputs:
            return None
        node = node.inputs[0].inputs[0]
    return None
