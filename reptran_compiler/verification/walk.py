"""The walk through the source that emits its specification graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto

from reptran_compiler.runtime import TensorFact, is_float
from reptran_compiler.verification.carrying import Layout
from reptran_compiler.verification.copies import Boundary, CannotSpecify, Copies, Emitter, UnequalIntegers
from reptran_compiler.verification.cutpoints import CutPoint
from reptran_compiler.verification.layers import (
    LayerRole,
    Role,
    affine_chain,
    before_layers,
    channel_axis,
    is_depthwise,
    near_inputs,
    weight_position,
)
from reptran_compiler.verification.operators import elementwise, rules
from reptran_compiler.verification.protograph import NodeView, ProtoGraph, subgraphs
from reptran_compiler.verification.repconv import emit_repconv, filters

MEAN = "/mean"


class SpecificationWalk:
    """One walk, in topological order. `run` does it; the attributes are its result.

    Args:
        graph: the canonical source.
        beta: the replication factor.
        facts: shapes and types of the source's tensors.
        cuts: the source's cuts.
        exclude: names of layers that are boundaries.
        include: names of layers with narrow input that are RepConvs.
        per_copy: operator types without a rule that act on each copy alone.
        narrow_roles: for scope `layer`, the role of each layer by node name: maps stay narrow.
        feed: tensors whose readers read fresh graph inputs.
        tied: tensors that have one fresh input for all copies, where they are known to be equal.

    Attributes:
        computed: where the copies of each tensor are computed.
        values: where readers of each tensor find them.
        feeds: (name in S, tensor of the source, copy) of the fresh inputs.
        layers: the layers and their roles.
        boundaries: other nodes that became boundaries, with the reason.
    """

    def __init__(
        self,
        graph: ProtoGraph,
        beta: int,
        facts: Mapping[str, TensorFact],
        cuts: Sequence[CutPoint],
        exclude: frozenset[str],
        include: frozenset[str],
        *,
        per_copy: frozenset[str] = frozenset(),
        narrow_roles: Mapping[str, LayerRole] | None = None,
        feed: frozenset[str] = frozenset(),
        tied: frozenset[str] = frozenset(),
    ) -> None:
        self.graph = graph
        self.beta = beta
        self.facts = facts
        self.emit = Emitter(graph.opset, graph.tensors)
        self.computed: dict[str, Copies] = {}
        self.values: dict[str, Copies] = {}
        self.feeds: list[tuple[str, str, int]] = []
        self.layers: list[LayerRole] = []
        self.boundaries: dict[str, str] = {}
        self._cuts = {cut.output: cut for cut in cuts if cut.binarises}
        self._exclude, self._include = exclude, include
        self._narrow_roles = narrow_roles
        self._feed, self._tied = feed, tied
        self._near = near_inputs(graph)
        self._before = before_layers(graph)
        self._rules = {**dict.fromkeys(per_copy, elementwise), **rules()}
        self._means: dict[str, str] = {}

    def run(self) -> SpecificationWalk:
        """Walk; returns the walk itself.

        Raises:
            CannotSpecify: the law does not say what a node becomes.
        """
        for name in (*self.graph.inputs, *self.graph.initializers):
            self.set(name, Copies((name,)))
        for node in self.graph.nodes:
            try:
                self._visit(node)
            except (KeyError, ValueError, AssertionError) as error:
                raise CannotSpecify(node.name, f"{node.op} is not as expected: {error}") from error
        for name in self.graph.outputs:
            self._finish(name)
        return self

    # What the rules of operators use (operators.Walk).

    def read(self, name: str) -> Copies:
        """The copies that readers of a tensor read."""
        return self.values[name]

    def dtype(self, name: str) -> np.dtype[Any]:
        """The dtype of a tensor of the source, or of `T/mean`."""
        base = name if name in self.facts else name.removesuffix(MEAN)
        if base not in self.facts:
            raise CannotSpecify(name, "its type is unknown")
        return self.facts[base].dtype

    def set(self, name: str, copies: Copies) -> None:
        """Say what a tensor is; where it is to be fed, its readers get fresh inputs."""
        self.computed[name] = copies
        self.values[name] = self._fed(name, copies) if name in self._feed else copies

    def each_copy(self, node: NodeView, layouts: Sequence[Layout | None]) -> None:
        """Emit a node once for each copy (once for copies that read the same tensors)."""
        made: dict[tuple[str, ...], tuple[str, ...]] = {}
        rows = []
        for copy in range(self.beta):
            inputs = tuple(self.read(name).at(copy) if name else "" for name in node.inputs)
            if inputs not in made:
                made[inputs] = self._emit(node, inputs, f"@{copy}")
            rows.append(made[inputs])
        for place, (name, layout) in enumerate(zip(node.outputs, layouts, strict=True)):
            if name:
                names = tuple(row[place] for row in rows)
                self.set(name, Copies(names, *layout) if layout is not None else Copies(names[:1]))

    def once(self, node: NodeView, inputs: Sequence[str]) -> tuple[str, ...]:
        """Emit a node once with other inputs; its new output names."""
        return self._emit(node, inputs, "@")

    # The walk itself.

    def _visit(self, node: NodeView) -> None:
        position = weight_position(self.graph, node)
        if position is not None:
            self._layer(node, position)
        elif not any(self.read(name).wide for name in node.reads):
            self._plain(node)
        else:
            try:
                rule = self._rules.get(node.op)
                if rule is None or node.captured:
                    raise Boundary(f"there is no rule for {node.op}")
                rule(self, node)
            except Boundary as reason:
                self.boundaries[node.name] = str(reason)
                self._boundary(node, self._likely_axis(node))

    def _plain(self, node: NodeView) -> None:
        """A node without wide inputs, as it is."""
        made = self._emit(node, [self.read(name).names[0] if name else "" for name in node.inputs], "")
        for name, new in zip(node.outputs, made, strict=True):
            if name:
                self.set(name, Copies((new,)))

    def _layer(self, node: NodeView, position: int) -> None:
        """A layer: its role, then what that role makes of it."""
        data = self.read(node.inputs[1 - position])
        axis = channel_axis(self.graph, node, self.facts)
        role, reason = self._role(node, position, data)
        chain = affine_chain(self.graph, self.facts, node.outputs[0], axis)
        groups = int(node.attribute("group", 1)) if node.op == "Conv" else 1
        self.layers.append(
            LayerRole(
                node.name,
                node.op,
                role,
                reason,
                node.outputs[0],
                node.inputs[position],
                chain,
                groups,
                data.blocks,
            )
        )
        if role is Role.STEM:
            inputs = [self.read(name).names[0] if name else "" for name in node.inputs]
            made = self._emit(node, inputs, "@stem" if self._narrow_roles is None else "")
            wide = self._narrow_roles is None
            self.set(node.outputs[0], Copies(made * self.beta, axis) if wide else Copies(made))
        elif role is Role.REPCONV:
            if self._narrow_roles is not None or not data.wide:
                data = Copies(data.names[:1] * self.beta, self._contracted(node, position))
            made_name = emit_repconv(self, node, position, data)
            if self._narrow_roles is None:
                self.set(node.outputs[0], Copies((made_name,) * self.beta, axis))
            else:
                self.set(node.outputs[0], Copies((made_name,)))
        elif role is Role.DEPTHWISE and data.wide:
            self.each_copy(node, [(1, 1)])
        elif role is Role.BOUNDARY and data.wide:
            self._boundary(node, axis)
        elif role is Role.CLASSIFIER and data.wide:
            inputs = list(node.inputs)
            inputs[1 - position] = self._mean_of_copies(inputs[1 - position], node)
            made = self._emit(node, inputs, "")
            self.set(node.outputs[0], Copies(made))
        else:
            self._plain(node)

    def _role(self, node: NodeView, position: int, data: Copies) -> tuple[Role, str]:
        if self._narrow_roles is not None:
            planned = self._narrow_roles[node.name]
            return planned.role, planned.reason
        depthwise = is_depthwise(node, self.facts)
        if not depthwise and node.outputs[0] not in self._before:
            return Role.CLASSIFIER, ""
        included = False
        if not data.wide:
            if node.inputs[1 - position] in self._near:
                return Role.STEM, ""
            if node.name not in self._include or depthwise:
                return Role.NARROW, "its input is not wide"
            included = True
        if node.name in self._exclude:
            return (Role.NARROW if included else Role.BOUNDARY), "excluded"
        if data.wide and data.axis != self._contracted(node, position):
            return Role.BOUNDARY, "it does not contract the channels"
        if node.op == "Conv" and data.blocks != 1:
            return Role.BOUNDARY, "the copies of its input are interleaved"
        if depthwise:
            return Role.DEPTHWISE, ""
        if node.op == "Gemm" and node.attribute("transA", 0):
            return Role.BOUNDARY, "its input is transposed"
        if node.op == "MatMul" and self.facts[node.inputs[position]].rank != 2:
            return Role.BOUNDARY, "its weights are no matrix"
        count, groups = filters(node, position, self.facts)
        if (count // groups) % self.beta:
            each = " in each group" if groups > 1 else ""
            reason = f"{count // groups} filters{each} are not divisible by {self.beta}"
            return (Role.NARROW if included else Role.BOUNDARY), reason
        return Role.REPCONV, ""

    def _contracted(self, node: NodeView, position: int) -> int:
        """The axis of a layer's input over which it sums."""
        rank = self.facts[node.inputs[1 - position]].rank
        if node.op == "Conv":
            return 1
        if node.op == "Gemm":
            return 0 if node.attribute("transA", 0) else 1
        return max(rank - 2, 0) if position == 0 else rank - 1

    # Means and boundaries.

    def _boundary(self, node: NodeView, axis: int | None) -> None:
        """A node that reads means; its output is tiled at once."""
        renamed = {name: self._mean(name, node) for name in node.reads}
        inputs = [renamed[name] if name else "" for name in node.inputs]
        made = self._emit(node, inputs, "@once", {name: renamed[name] for name in node.captured})
        for name, new in zip(node.outputs, made, strict=True):
            if not name:
                continue
            tiled = axis is not None and name in self.facts and axis < self.facts[name].rank
            self.set(name, Copies((new,) * self.beta, axis) if tiled else Copies((new,)))

    def _likely_axis(self, node: NodeView) -> int | None:
        """The channel axis behind an operator without a rule: its input's, or 1 where the ranks differ."""
        if not node.outputs[0] or node.outputs[0] not in self.facts:
            return None
        rank = self.facts[node.outputs[0]].rank
        for name in node.reads:
            copies = self.read(name)
            if copies.axis is not None and name in self.facts and self.facts[name].rank == rank:
                return copies.axis
        return 1 if rank >= 2 else None

    def _mean(self, name: str, node: NodeView) -> str:
        """The mean of a tensor, taken in front of the binarisation that directly precedes it; one copy is its own."""
        if not self.read(name).several:
            return self.read(name).names[0]
        cut = self._cuts.get(name)
        if cut is None or not self.read(cut.inputs[0]).wide:
            return self._mean_of_copies(name, node)
        label = name + MEAN
        if label not in self.values:
            source = cut.inputs[0]
            local = {source: self._mean_of_copies(source, node)}
            made: tuple[str, ...] = ()
            for inner in cut.nodes:
                inputs = [local.get(each, each) for each in inner.inputs]
                made = self._emit(inner, inputs, "@mean")
                local.update(zip(inner.outputs, made, strict=True))
            self.set(label, Copies(made))
        return self.values[label].names[0]

    def _mean_of_copies(self, name: str, node: NodeView) -> str:
        label = name + MEAN
        copies = self.read(name)
        if name not in self._means:
            if copies.equal:
                self._means[name] = copies.names[0]
            elif not is_float(self.dtype(name)):
                reason = f"it needs the mean of {name!r}, whose copies are unequal integers"
                raise UnequalIntegers(node.name, reason, name)
            else:
                self._means[name] = self.emit.mean(copies.names, self.dtype(name), f"{name}@mean")
            if label not in self.graph.tensors and label not in self.computed:
                self.computed[label] = Copies((self._means[name],))
        return self._means[name]

    def _finish(self, name: str) -> None:
        """Give a graph output its name: the mean of several copies as they are read, or the tensor itself."""
        if name in self.graph.initializers or name in self.graph.inputs:
            return
        copies = self.values[name] if self.computed[name].several else self.computed[name]
        if copies.names == (name,):
            return
        if not copies.several or copies.equal:
            made = copies.names[0]
        elif not is_float(self.dtype(name)):
            raise UnequalIntegers(name, "it is a graph output whose copies are unequal integers", name)
        else:
            made = self.emit.mean(copies.names, self.dtype(name), f"{name}@output")
        self.emit.nodes.append(onnx.helper.make_node("Identity", [made], [name], name=f"{name}@identity"))

    # Emitting.

    def _fed(self, name: str, copies: Copies) -> Copies:
        single = not copies.wide or (name in self._tied and copies.equal)
        names = []
        for copy in range(1 if single else self.beta):
            fed = self.emit.fresh(f"{name}@fed" if single else f"{name}@fed{copy}")
            self.feeds.append((fed, name, -1 if single else copy))
            names.append(fed)
        return Copies(tuple(names) * (self.beta if copies.wide and single else 1), copies.axis, copies.blocks)

    def _emit(
        self, node: NodeView, inputs: Sequence[str], suffix: str, captured: Mapping[str, str] | None = None
    ) -> tuple[str, ...]:
        """Emit a node with other inputs, its outputs named by a suffix (their own names if it is empty)."""
        outputs = []
        for name in node.outputs:
            keep = not suffix and name and name not in self._feed
            outputs.append(name if keep or not name else self.emit.fresh(f"{name}{suffix or '@'}"))
        proto = NodeProto()
        proto.CopyFrom(node.proto)
        proto.name = next((name for name in outputs if name), node.name)
        del proto.input[:], proto.output[:]
        proto.input.extend(inputs)
        proto.output.extend(outputs)
        if node.captured:
            mapping = captured or {name: self.read(name).names[0] for name in node.captured}
            _rename(proto, mapping)
        self.emit.nodes.append(proto)
        return tuple(outputs)


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
    """Rename the outer tensors that a node's subgraphs read."""
    for body in subgraphs(node):
        for inner in body.node:
            for place, name in enumerate(inner.input):
                inner.input[place] = names.get(name, name)
            _rename(inner, names)
        known = {name for inner in body.node for name in inner.output}
        for value in body.output:
            if value.name not in known and value.name in names:
                value.name = names[value.name]
