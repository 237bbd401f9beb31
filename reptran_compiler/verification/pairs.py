"""Which tensors of source and result are compared, what they are called, and which rule answers for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reptran_compiler.runtime import TensorFact, is_float
from reptran_compiler.verification.copies import Copies
from reptran_compiler.verification.cutpoints import CutPoint
from reptran_compiler.verification.layers import LayerRole, Role, is_affine
from reptran_compiler.verification.protograph import NodeView, ProtoGraph
from reptran_compiler.verification.specification import Specification
from reptran_compiler.verification.walk import MEAN

WIDE = "/wide"

_ROLE_RULES = {
    Role.STEM: "replicate-output",
    Role.REPCONV: "replicate-output",
    Role.CLASSIFIER: "rewrite-fc",
    Role.BOUNDARY: "boundary",
    Role.DEPTHWISE: "widen-per-channel",
    Role.NARROW: "unchanged",
}
_MOVERS = frozenset({"Concat", "Split", "Slice", "Pad", "Reshape", "Flatten", "Transpose"})


class Pairs:
    """The bookkeeping of one judgement.

    Args:
        source: the canonical source.
        result: the result.
        spec: the specification, not cut.
        cuts: the cuts of the source that some graph output depends on.
        data: the source's tensors that depend on data.
        facts: shapes and types of the source's tensors.

    Attributes:
        required: the tensors (and `T/mean`) that must be compared, in the source's order.
    """

    def __init__(
        self,
        source: ProtoGraph,
        result: ProtoGraph,
        spec: Specification,
        cuts: Sequence[CutPoint],
        data: frozenset[str],
        facts: Mapping[str, TensorFact],
    ) -> None:
        self._source, self._result, self._spec = source, result, spec
        self._data, self._facts = data, facts
        self._layers = {layer.output: layer for layer in spec.layers}
        self._chains = {name: layer for layer in spec.layers for name in layer.chain}
        self.inside = frozenset(name for cut in cuts for name in cut.inside if name and name != cut.output)
        self._posts = {cut.output: cut for cut in cuts}
        self._order = {name: place for place, name in enumerate(self._names())}
        self.required = self._required(cuts)

    def _names(self) -> list[str]:
        """The source's data tensors in order, each `T/mean` directly behind its T."""
        names = []
        for node in self._source.nodes:
            for name in node.outputs:
                if name in self._data:
                    names.append(name)
                    if name + MEAN in self._spec.computed and name + MEAN not in self._source.tensors:
                        names.append(name + MEAN)
        return names

    def order(self, name: str) -> int:
        """The place of a tensor in the source."""
        return self._order.get(name, -1)

    @property
    def tensors(self) -> list[str]:
        """Every tensor (and `T/mean`) that some graph output of S depends on, in the source's order."""
        alive = self._spec.alive
        return [name for name in self._order if name in alive or name in self._source.outputs]

    def _required(self, cuts: Sequence[CutPoint]) -> tuple[str, ...]:
        spec, wanted = self._spec, set(self._source.outputs) & self._data
        for layer in spec.layers:
            if layer.role is Role.REPCONV:
                wanted.add(layer.tail)
        for cut in cuts:
            # What one cut makes and the next one reads is fed: the operators on both sides are tried on their own.
            inputs = [name for name in cut.inputs if name not in self._posts]
            if cut.output in spec.alive:
                wanted.update(inputs)
            if cut.output + MEAN in spec.alive and cut.binarises:
                wanted.update(name + MEAN for name in inputs if name + MEAN in spec.computed)
        alive = set(self.tensors)
        return tuple(name for name in self._order if name in wanted and name in alive)

    def expected(self, name: str) -> Copies:
        """What S holds for a tensor."""
        return self._spec.computed[name]

    def is_mean_output(self, name: str) -> bool:
        """Whether a tensor is a wide graph output, of which the result has the mean of its copies under this name."""
        return name in self._source.outputs and self.expected(name).several

    def name_in_result(self, name: str) -> str:
        """The result's name of what S computes under `name` ("" when the result has no such tensor).

        The wide form of a wide graph output T is named `T/wide`, since T itself has to stay narrow; T serves as
        `T/mean` as well, unless T is binarised: its output is the mean of signs, a boundary reads the sign of a mean.
        """
        wanted = name + WIDE if self.is_mean_output(name) else name
        if wanted in self._result.maker:
            return wanted
        base = name.removesuffix(MEAN)
        mean = base != name and base in self._result.maker and self._is_plain_mean(base)
        return base if mean else ""

    def _is_plain_mean(self, name: str) -> bool:
        """Whether what boundaries read of a tensor is the very mean that is the graph output of this name."""
        binarised = name in self._posts and self._posts[name].binarises
        return not binarised and name not in self.inside and self.is_mean_output(name)

    def may_vanish(self, name: str) -> bool:
        """Whether the result may do without a tensor: inside affine chains, and inside a cut."""
        if name in self.inside or self.is_mean_output(name):
            return True
        base = name.removesuffix(MEAN) if name not in self._source.tensors else name
        if name != base:
            return True
        readers = self._source.readers.get(name, ())
        copies = self._spec.computed[name]
        if len(readers) != 1 or name in self._source.outputs or not is_float(self._facts[name].dtype):
            return False
        # Copies of a linear layer over space lie on another axis than the channels of an affine.
        axes = {1} if copies.axis is None else {1, copies.axis}
        return any(self._between_affine(name, readers[0], axis) for axis in axes)

    def _between_affine(self, name: str, reader: NodeView, axis: int) -> bool:
        """Whether a tensor lies between per-channel affine operators along an axis."""
        graph, facts, maker = self._source, self._facts, self._source.maker[name]
        behind = name in self._chains or any(
            each in facts and is_affine(graph, facts, maker, each, axis) for each in maker.inputs
        )
        return behind and is_affine(graph, facts, reader, name, axis)

    def in_stem(self, name: str) -> bool:
        """Whether a tensor belongs to the affine of a stem, where the tile may stand before or behind it."""
        layer = self._chains.get(name)
        return layer is not None and layer.role is Role.STEM

    def blame(self, name: str) -> tuple[str, str]:
        """The node and the rule that answer for a tensor."""
        base = name if name in self._source.maker else name.removesuffix(MEAN)
        maker = self._source.maker[base]
        if name != base:
            return maker.name, "boundary"
        if name in self._layers:
            return maker.name, _ROLE_RULES[self._layers[name].role]
        if maker.name in self._spec.boundaries:
            return maker.name, "boundary"
        layer = self._chains.get(name)
        if layer is not None and layer.role is Role.STEM and self._tiled_here(name):
            return layer.node, "replicate-output"
        where = layer.node if layer is not None else maker.name
        if maker.op == "BatchNormalization" or (layer is not None and self._behind_folded(layer, name)):
            kept = any(node.op == "BatchNormalization" and name in node.outputs for node in self._result.nodes)
            return where, "widen-per-channel" if kept else "fold-bn"
        if maker.op in _MOVERS or maker.op.startswith("Reduce"):
            return where, "move-channels"
        parameters = [each for each in maker.inputs if each in self._source.constants and each in self._facts]
        return where, "widen-per-channel" if any(self._facts[each].shape for each in parameters) else "carry"

    def _tiled_here(self, name: str) -> bool:
        """Whether the result makes a tensor of a stem by another operator than the source: by a tile."""
        new = self._result.maker.get(name)
        return new is not None and new.op != self._source.maker[name].op

    def _behind_folded(self, layer: LayerRole, name: str) -> bool:
        """Whether a BatchNormalization between a layer and a tensor of the source is gone in the result."""
        for each in layer.chain[1 : layer.chain.index(name) + 1]:
            maker = self._source.maker[each]
            if maker.op == "BatchNormalization":
                new = self._result.maker.get(each)
                return new is None or new.op != "BatchNormalization"
        return False
