"""What rules of replication know of the whole graph, and the few operators that several of them build."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import InitVar, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.model.referred import Move
from reptran_compiler.replication.binarisation import binarised
from reptran_compiler.replication.facts import WideFacts, as_ints
from reptran_compiler.replication.roles import Roles, find_roles, stem_end
from reptran_compiler.replication.state import Distinct, Wide
from reptran_compiler.rewriting import CannotContinue, Match
from reptran_compiler.runtime import is_float

Array = NDArray[Any]


class CannotReplicate(CannotContinue):
    """The copies of a tensor are needed as one, and cannot be."""


@dataclass(frozen=True)
class Plan:
    """What RepTran is asked to do.

    Attributes:
        beta: the replication factor.
        scope: "network", or "layer" for drop-in layers.
        fc: "widen" or "fold".
        excluded, included: names of layers.
        binary: names of the layers that hold nothing but signs.
    """

    beta: int
    scope: str = "network"
    fc: str = "widen"
    excluded: frozenset[str] = frozenset()
    included: frozenset[str] = frozenset()
    binary: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Decision:
    """What became of a layer, or of another operator that is a boundary."""

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

    @property
    def arrangement(self) -> Move:
        """What it does to an array."""
        return Move(self.reshape, self.order, self.shape)


@dataclass
class Copies:
    """The context of the phase `replicate`: `m.context` in its rules.

    Attributes:
        graph: the graph.
        facts: shapes and tags of its tensors.
        plan: what is asked for.
        roles: what the source's connections say of its layers; found where they are not given.
        decisions: what became of each layer and boundary so far, by node name.
        moves: how weights were rearranged, by layer.
    """

    graph: Graph
    facts: WideFacts
    plan: Plan
    decisions: dict[str, Decision] = field(default_factory=dict)
    moves: dict[str, WeightMove] = field(default_factory=dict)
    known_roles: InitVar[Roles | None] = None
    roles: Roles = field(init=False)
    _stem_ends: dict[int, tuple[Tensor, int]] = field(default_factory=dict)
    _means: dict[str, Tensor] = field(default_factory=dict)
    _made: dict[tuple[Any, ...], tuple[Tensor, Constant]] = field(default_factory=dict)

    def __post_init__(self, known_roles: Roles | None) -> None:
        self.roles = find_roles(self.graph, self.facts) if known_roles is None else known_roles

    # -- the walk --------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Nothing to forget: roles are those of the source."""

    def pending(self, node: Node) -> bool:
        """Whether an operator is a layer, reads a wide map, or ends a stem. Notes what becomes of a layer."""
        if node.name in self.roles.layers:
            self._decide(node)
            return True
        return any(map(self.wide, node.inputs)) or self.unfinished(node)

    def unfinished(self, node: Node) -> bool:
        """Whether an operator's output still has to be repeated."""
        return any(self.distinct(tensor) or self.ends_stem(tensor) for tensor in node.outputs)

    # -- what is known of a tensor ---------------------------------------------------------------------------

    @property
    def beta(self) -> int:
        """The replication factor."""
        return self.plan.beta

    def wide(self, tensor: Tensor | None) -> Wide | None:
        """How a tensor is wide; None where it is not."""
        tag = None if tensor is None or isinstance(tensor, Constant) else self.facts.tags.get(tensor.name)
        return tag if isinstance(tag, Wide) else None

    def distinct(self, tensor: Tensor) -> Distinct | None:
        """That a tensor is a RepConv's own output; None where it is not."""
        tag = self.facts.tags.get(tensor.name)
        return tag if isinstance(tag, Distinct) else None

    def ends_stem(self, tensor: Tensor) -> bool:
        """Whether a tensor is where a stem's output is repeated."""
        return id(tensor) in self._stem_ends and self.wide(tensor) is None

    def stem_axis(self, tensor: Tensor) -> int:
        """The channel axis of a tensor that ends a stem."""
        return self._stem_ends[id(tensor)][1]

    def shape(self, tensor: Tensor) -> tuple[int, ...]:
        """A tensor's shape in the source."""
        return tuple(tensor.shape) if isinstance(tensor, Constant) else self.facts.source(tensor).shape

    def rank(self, tensor: Tensor) -> int:
        """A tensor's number of axes."""
        return len(self.shape(tensor))

    def channels(self, node: Node) -> int:
        """The axis of a layer's output that holds its filters: 1 of a convolution, the last of a linear layer, or
        the one before where the weights stand on the left."""
        rank = self.rank(node.outputs[0])
        return 1 if node.op == "Conv" else max(0, rank - (2 if self.roles.layers[node.name] == 0 else 1))

    def contracted(self, node: Node) -> int:
        """The axis of the map that a layer reads, over which it sums."""
        return 1 if node.op == "Conv" else self.rank(self.reads(node)) - 1

    # -- layers ----------------------------------------------------------------------------------------------

    def role(self, node: Node) -> str | None:
        """What becomes of a layer that was visited (THEORY section 1); None of anything else.

        "classifier", "stem", "narrow", "boundary", "depthwise" or "repconv".
        """
        found = self.decisions.get(node.name)
        return found.role if found is not None and node.name in self.roles.layers else None

    def reads(self, node: Node) -> Tensor:
        """The map that a layer reads."""
        return node.inputs[1 - self.roles.layers[node.name]]

    def _decide(self, layer: Node) -> None:
        """Note what becomes of a layer, when it is visited first."""
        if layer.name not in self.decisions:
            role, reason = self._role(layer)
            self.decisions[layer.name] = Decision(layer.name, layer.op, role, reason)
            if role == "stem":
                end = stem_end(self.graph, layer)
                self._stem_ends[id(end)] = (end, self.channels(layer))

    def _role(self, node: Node) -> tuple[str, str]:
        reads, plan = self.reads(node), self.plan
        state = self.wide(reads)
        if self.roles.is_classifier(node):
            return "classifier", "" if state else "reads a narrow map"
        if state is None:
            if reads.name in self.roles.near:
                return "stem", ""
            if node.name not in plan.included:
                return "narrow", "reads a narrow map"
        if node.name in plan.excluded:
            return "boundary", "excluded"
        if node.op == "Conv" and state is not None and state.axis != 1:
            return "boundary", "does not contract the channel axis"
        if node.op == "Conv" and state is not None and state.outer != 1:
            return "boundary", "the copies that it reads lie interleaved"
        if node.name in self.roles.depthwise:
            return "depthwise", ""
        if self.roles.layers[node.name] == 0:
            raise CannotReplicate(
                f"{node.op} {node.name!r} has its weights on the left, where they cannot be rearranged: "
                "leave it alone with --exclude, or export it with the weights on the right"
            )
        if node.op != "Conv" and (node.attrs.get("transA", 0) or len(self.shape(node.inputs[1])) != 2):
            return "boundary", "it is no product of a map and a matrix"
        filters = self._filters(node) // groups(node)
        if filters % self.beta:
            return "boundary", f"{filters} filters are not divisible by beta {self.beta}"
        if state is not None and state.axis != self.contracted(node):
            return "boundary", "does not contract the channel axis"
        return "repconv", ""

    def _filters(self, node: Node) -> int:
        shape = self.shape(node.inputs[1])
        return shape[0] if node.op == "Conv" or node.attrs.get("transB", 0) else shape[-1]

    # -- operators that several rules build --------------------------------------------------------------------

    def tiled(self, g: Graph, tensor: Tensor, axis: int, times: int, hint: str, rank: int | None = None) -> Tensor:
        """A tensor repeated along an axis; `rank` of one that is new."""
        if times == 1:
            return tensor
        axes = self.rank(tensor) if rank is None else rank
        repeats = [times if place == axis else 1 for place in range(axes)]
        node = g.node("Tile", [tensor, g.constant(f"{hint}/repeats", repeats, np.int64)], name=f"{hint}/Tile")
        return node.outputs[0]

    def stored(self, g: Graph, tensor: Constant, what: tuple[Any, ...], values: Array, suffix: str) -> Constant:
        """A constant made from another one, the same each time that the same is made of it."""
        key = (id(tensor), *what)
        if key not in self._made:
            self._made[key] = (tensor, g.constant(f"{tensor.name}/{suffix}", values))
        return self._made[key][1]

    def moved(self, g: Graph, tensor: Constant, move: WeightMove) -> Constant:
        """A constant that is another one rearranged, the same each time that it is rearranged in the same way."""
        key = (id(tensor), "move", move.arrangement)
        if key not in self._made:
            self._made[key] = (tensor, g.rearranged(f"{tensor.name}/rep", tensor, move.arrangement))
        return self._made[key][1]

    def repeated(self, g: Graph, tensor: Tensor, axis: int, outer: int = 1) -> Tensor:
        """A narrow tensor's copies along an axis: stored, or one Tile for all that read it; interleaved where `outer`
        says so (`Wide.outer`)."""
        if outer != 1:
            return self._interleaved(g, tensor, Wide(axis, self.shape(tensor)[axis], outer))
        if isinstance(tensor, Constant):
            known = self._made.get((id(tensor), "tile", axis))
            if known is not None:
                return known[1]
            values = np.concatenate([tensor.values] * self.beta, axis)
            return self.stored(g, tensor, ("tile", axis), values, "wide")
        for reader in tensor.outputs:
            if reader.op == "Tile" and self.facts.derived(reader.outputs[0]) and self._tiles(reader, axis):
                return reader.outputs[0]
        start = g.mark()
        made = self.tiled(g, tensor, axis, self.beta, tensor.name)
        self.facts.share(g.since(start))
        return made

    def _interleaved(self, g: Graph, tensor: Tensor, state: Wide) -> Tensor:
        """A narrow tensor's copies, interleaved."""
        if isinstance(tensor, Constant):
            values = state.join([tensor.values] * self.beta)
            return self.stored(g, tensor, ("interleave", state.axis, state.outer), values, "wide")
        order = Wide(0, state.size, state.outer).join([np.arange(state.size)] * self.beta)
        index = g.constant(f"{tensor.name}/channels", order, np.int64)
        return g.node("Gather", [tensor, index], {"axis": state.axis}, name=f"{tensor.name}/Gather").outputs[0]

    def per_copy(self, g: Graph, tensor: Tensor, state: Wide, channels: int) -> Tensor:
        """A wide tensor of one channel, each copy's channel repeated for as many channels as a partner has."""
        order = np.repeat(np.arange(self.beta), channels)
        index = g.constant(f"{tensor.name}/copies", order, np.int64)
        node = g.node("Gather", [tensor, index], {"axis": state.axis}, name=f"{tensor.name}/Gather")
        return node.outputs[0]

    def _tiles(self, node: Node, axis: int) -> bool:
        repeats = [self.beta if place == axis else 1 for place in range(self.rank(node.inputs[0]))]
        return isinstance(node.inputs[1], Constant) and as_ints(node.inputs[1].values) == repeats

    def mean(self, g: Graph, tensor: Tensor) -> Tensor:
        """The mean of a wide tensor's copies, one for all that read it; a narrow tensor, or one copy, is its own mean.

        Where the tensor is the output of a binarisation, the mean is taken in front of that.

        Raises:
            CannotReplicate: copies of integers or booleans may differ.
        """
        state = self.wide(tensor)
        if state is None or self.beta == 1:
            return tensor
        name = f"{tensor.name}/mean"
        known = self._means.get(name)
        if known is not None and known.inputs and known.inputs[0].inputs:
            return known
        start = g.mark()
        source = binarised(tensor)
        if source is not None and self.wide(source) is not None:
            made = again(g, tensor, source, self.mean(g, source))
        else:
            made = self.mean_behind(g, tensor, state)
        made.name = g.fresh(name)
        self.facts.share(g.since(start))
        self._means[name] = made
        return made

    def mean_behind(self, g: Graph, tensor: Tensor, state: Wide) -> Tensor:
        """The mean of a wide tensor's copies, of the tensor itself though a binarisation makes it.

        Raises:
            CannotReplicate: copies of integers or booleans may differ.
        """
        dtype = self.facts.source(tensor).dtype
        if is_float(dtype):
            parts = self._cut(g, tensor, state)
            if dtype != np.float64:
                return g.node("Mean", parts, name=f"{tensor.name}/Mean").outputs[0]
            # onnxruntime has no Mean of float64.
            total = g.node("Sum", parts, name=f"{tensor.name}/Sum").outputs[0]
            beta = g.constant(f"{tensor.name}/beta", np.asarray(self.beta, dtype))
            return g.node("Div", [total, beta], name=f"{tensor.name}/Mean").outputs[0]
        if not state.equal:
            raise CannotReplicate(f"the copies of {tensor.name!r} ({dtype}) may differ, and one value is needed")
        return self._cut(g, tensor, state)[0]

    def see_bodies_narrow(self, g: Graph, *, before: Set[str] | None = None) -> None:
        """See that no subgraph reads a wide map.

        Args:
            g: the graph.
            before: only subgraphs count that one of these nodes depends on; None for all.

        Raises:
            CannotReplicate: one does.
        """
        for node in g.nodes:
            for name in node.captured:
                if isinstance(self.facts.tags.get(name), (Wide, Distinct)):
                    if before is not None and not before & _behind(node):
                        continue
                    place = f"a subgraph of {node.op_type} {node.name!r}"
                    raise CannotReplicate(f"{place} reads {name!r}, which would be wide")

    def narrow_outputs(self, g: Graph) -> None:
        """Let graph outputs and what subgraphs read be narrow: of several copies, a wide graph output is the mean.

        Raises:
            CannotReplicate: a subgraph reads a wide map, or the copies of an output of integers may differ.
        """
        self.see_bodies_narrow(g)
        wide = [tensor for tensor in g.outputs if self.wide(tensor) is not None and self.beta > 1]
        for out in wide:
            name, state = out.name, self.facts.tags[out.name]
            mean = self.mean_behind(g, out, state)
            out.name = g.fresh(f"{name}/wide")
            self.facts.renamed(name, out.name)
            del self.facts.tags[name]
            mean.name = name
            g.outputs = [mean if tensor is out else tensor for tensor in g.outputs]
            g.adopt(g.since(0))
        if wide:
            g.tidy()

    def _cut(self, g: Graph, tensor: Tensor, state: Wide) -> list[Tensor]:
        """A wide tensor's copies."""
        if state.outer != 1:
            rows = state.order(self.beta)
            orders = [g.constant(f"{tensor.name}/copy", places, np.int64) for places in rows]
            nodes = [g.node("Gather", [tensor, o], {"axis": state.axis}, name=f"{tensor.name}/Gather") for o in orders]
            return [node.outputs[0] for node in nodes]
        sizes = [state.size] * self.beta
        hint = f"{tensor.name}/Split"
        if g.opset >= 13:
            given = [tensor, g.constant(f"{tensor.name}/sizes", sizes, np.int64)]
            node = g.node("Split", given, {"axis": state.axis}, name=hint, outputs=self.beta)
        else:
            node = g.node("Split", [tensor], {"axis": state.axis, "split": sizes}, name=hint, outputs=self.beta)
        return list(node.outputs)


def groups(layer: Node) -> int:
    """A convolution's number of groups; 1 of a linear layer."""
    return int(layer.attrs.get("group", 1)) if layer.op == "Conv" else 1


def wide_operand(m: Match, *, blocks: bool = False) -> Wide:
    """How the first operand of a match's root is wide; the match is turned down where it is not, or another one is.

    Args:
        m: the match.
        blocks: whether the copies have to lie as blocks along the channel axis.
    """
    state: Wide | None = m.context.wide(m.root.inputs[0])
    m.require(not any(m.context.wide(tensor) for tensor in m.root.inputs[1:]), "reads another wide map")
    if state is None or (blocks and state.outer != 1):
        m.turn_down("reads no wide map" if state is None else "its copies lie interleaved")
    return state


def again(g: Graph, tensor: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """The operators between two tensors (a canonical binarisation) once more, on another tensor."""
    maker: Node = tensor.inputs[0]
    inputs = [
        new if read is old else again(g, read, old, new) if not isinstance(read, Constant) and read.inputs else read
        for read in maker.inputs
    ]
    return g.node(maker.op, inputs, maker.attrs, name=f"{maker.name}/again").outputs[0]


def read_outputs(m: Match) -> list[Tensor]:
    """The outputs of a match's root up to the last one that is read; at least the first."""
    outputs: list[Tensor] = list(m.root.outputs)
    read = [place for place, out in enumerate(outputs) if out.name and (out.outputs or m.graph.is_output(out))]
    return outputs[: max(read, default=0) + 1]


def rebuilt(m: Match, g: Graph, inputs: Sequence[Tensor], attrs: dict[str, Any] | None = None) -> list[Tensor]:
    """The outputs of a match's root with other inputs or attributes; its own where nothing is new."""
    root = m.root
    same = len(inputs) == len(root.inputs) and all(a is b for a, b in zip(inputs, root.inputs, strict=True))
    if same and (attrs is None or attrs == root.attrs):
        return list(root.outputs)
    given = [tensor if tensor.name else None for tensor in inputs]
    node = g.node(root.op, given, root.attrs if attrs is None else attrs, like=root, outputs=len(root.outputs))
    return list(node.outputs)


def _behind(node: Node) -> set[str]:
    """The names of the nodes that depend on a node."""
    found: set[str] = set()
    stack = [node]
    while stack:
        for tensor in stack.pop().outputs:
            readers = [reader for reader in tensor.outputs if reader.name not in found]
            found.update(reader.name for reader in readers)
            stack += readers
    return found
