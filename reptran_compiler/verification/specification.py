"""The specification graph S(G, beta) of THEORY section 2: beta coupled copies of the source.

It is built from the canonical source and the options alone. Which layer is stem, RepConv, classifier or
boundary is worked out here, from the source; nothing of the compiler's own analysis or rules is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import onnx
from onnx import GraphProto, ModelProto

from reptran_compiler.runtime import TensorFact
from reptran_compiler.verification.copies import CannotSpecify, Copies, UnequalIntegers
from reptran_compiler.verification.cutpoints import CutPoint
from reptran_compiler.verification.layers import LayerRole
from reptran_compiler.verification.protograph import ProtoGraph, captured
from reptran_compiler.verification.walk import SpecificationWalk

__all__ = [
    "CannotSpecify",
    "SpecOptions",
    "Specification",
    "UnequalIntegers",
    "build_specification",
]


@dataclass(frozen=True)
class SpecOptions:
    """The options of a compilation that the law depends on.

    Attributes:
        beta: the replication factor, at least 1.
        scope: `network`, or `layer` for drop-in modules between maps of the source's width.
        fc: how the classifier was rewritten. Both forms compute the same with the weights of the compilation.
        exclude: node names of layers that were kept out; they are boundaries.
        include: node names of layers with narrow input that were made RepConvs all the same.
        per_copy: operator types without a rule of the specification's own (`domain.Op` outside ONNX' own domain) that
            are declared to act on each copy alone, as Relu does, with the channels on the axis where they were. The
            specification carries them; an operator type that has a rule keeps it.
    """

    beta: int
    scope: Literal["network", "layer"] = "network"
    fc: Literal["widen", "fold"] = "widen"
    exclude: frozenset[str] = frozenset()
    include: frozenset[str] = frozenset()
    per_copy: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.beta < 1:
            raise ValueError(f"beta is {self.beta}; it has to be at least 1")


@dataclass(frozen=True)
class FedTensor:
    """A graph input that the specification has because it was cut.

    Attributes:
        name: its name in the specification graph.
        tensor: the tensor of the source that it stands for, or `T/mean` for the mean of T at a boundary.
        copy: which copy; -1 where one tensor serves for all of them.
    """

    name: str
    tensor: str
    copy: int


@dataclass(frozen=True)
class Specification:
    """S, and how to read it.

    Attributes:
        source: the canonical source.
        skeleton: the graph S without the source's stored tensors. Its outputs are the source's.
        computed: for each tensor of the source (and each `T/mean`), where S computes its copies: the expected
            values.
        read: the same, where readers of the tensor find it; they differ where S was cut.
        feeds: the graph inputs that cuts made.
        layers: every layer and its role, in the source's order.
        boundaries: nodes that are no layers and became boundaries, with the reason.
        alive: tensors of the source (and `T/mean`) that some graph output of S depends on.
    """

    source: ProtoGraph
    skeleton: GraphProto
    computed: Mapping[str, Copies]
    read: Mapping[str, Copies]
    feeds: tuple[FedTensor, ...]
    layers: tuple[LayerRole, ...]
    boundaries: Mapping[str, str] = field(default_factory=dict)
    alive: frozenset[str] = frozenset()

    @property
    def model(self) -> ModelProto:
        """S as a model; a new one each time."""
        source, model = self.source, self.bare
        read = {name for node in self.skeleton.node for name in node.input}
        read.update(name for view in source.nodes for name in view.captured)
        read.update(source.outputs)
        model.graph.initializer.extend(tensor for name, tensor in source.initializers.items() if name in read)
        return model

    @property
    def bare(self) -> ModelProto:
        """S as a model, without the source's stored tensors; a new one each time."""
        model = self.source.shell("specification")
        model.graph.CopyFrom(self.skeleton)
        return model


def build_specification(
    graph: ProtoGraph,
    options: SpecOptions,
    facts: Mapping[str, TensorFact],
    *,
    cuts: tuple[CutPoint, ...] = (),
    feed: frozenset[str] = frozenset(),
    tied: frozenset[str] = frozenset(),
) -> Specification:
    """Build S.

    Args:
        graph: the canonical source.
        options: the compilation's options.
        facts: shapes and types of the source's tensors, from one run (`runtime.probe`). S itself keeps
            dynamic axes dynamic; only where an axis of a reshape mixes the batch into the channels does S
            depend on the run's batch size.
        cuts: the source's cuts. They tell which tensors are binarised, for the means in front of boundaries.
        feed: tensors (and `T/mean`) whose readers shall read fresh graph inputs instead, one for each copy.
        tied: tensors whose copies are fed with one input for all, where they are known to be equal.

    Raises:
        CannotSpecify: the law does not say what a node becomes.
        UnequalIntegers: a mean of integers that differ between copies is needed; `tied` may help.
    """
    roles = None
    if options.scope == "layer":
        plan = SpecificationWalk(
            graph, options.beta, facts, cuts, options.exclude, options.include, per_copy=options.per_copy
        )
        roles = {layer.node: layer for layer in plan.run().layers}
    walk = SpecificationWalk(
        graph,
        options.beta,
        facts,
        cuts,
        options.exclude,
        options.include,
        per_copy=options.per_copy,
        narrow_roles=roles,
        feed=feed,
        tied=tied,
    )
    walk.run()
    feeds = tuple(FedTensor(name, tensor, copy) for name, tensor, copy in walk.feeds)
    skeleton = _skeleton(graph, walk)
    alive = _alive(skeleton, walk.computed)
    layers, boundaries = tuple(walk.layers), dict(walk.boundaries)
    return Specification(graph, skeleton, walk.computed, walk.values, feeds, layers, boundaries, alive)


def _skeleton(graph: ProtoGraph, walk: SpecificationWalk) -> GraphProto:
    skeleton = GraphProto(name="specification", node=walk.emit.nodes, initializer=walk.emit.constants)
    skeleton.input.extend(value for value in graph.graph.input if value.name in graph.inputs)
    for name, tensor, _ in walk.feeds:
        kind = onnx.helper.np_dtype_to_tensor_dtype(walk.dtype(tensor))
        skeleton.input.append(onnx.helper.make_tensor_value_info(name, kind, None))
    skeleton.output.extend(graph.graph.output)
    return skeleton


def _alive(skeleton: GraphProto, computed: Mapping[str, Copies]) -> frozenset[str]:
    """The tensors with a copy that a graph output depends on."""
    wanted = {value.name for value in skeleton.output}
    for node in reversed(skeleton.node):
        if any(name in wanted for name in node.output):
            wanted.update((*node.input, *captured(node)))
    return frozenset(name for name, copies in computed.items() if any(each in wanted for each in copies.names))
