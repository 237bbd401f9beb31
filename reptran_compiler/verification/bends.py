"""What random values may never reach: the far side of a bound or a slope, and a layer behind dead channels.

An operator that bends (Clip, PRelu, Max with a constant) is tried on its own, on both sides of each of its numbers.
What lies behind a Relu or Clip is fed, and what layers read, so that no parameter goes unread where a channel is 0;
and what normalisations read, which make much of a rounding, where little is left of a difference of large numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from reptran_compiler.runtime import TensorFact, is_float
from reptran_compiler.verification.cutpoints import CutKind, CutPoint
from reptran_compiler.verification.layers import is_layer, weight_position
from reptran_compiler.verification.protograph import ProtoGraph

_BENT = frozenset(
    "Abs Celu Clip Elu HardSigmoid HardSwish LeakyRelu Max Min PRelu Relu Selu Shrink ThresholdedRelu".split()
)

#: Those behind which a channel may be 0 whatever is fed.
_DEADENS = frozenset("Clip HardSigmoid HardSwish Max Min Relu Shrink ThresholdedRelu".split())
#: Operators that divide by how far numbers are apart, or that make small numbers of large ones.
_AMPLIFIES = frozenset(
    "Erf GroupNormalization InstanceNormalization LayerNormalization LpNormalization MeanVarianceNormalization "
    "RMSNormalization Sigmoid Softsign Tanh".split()
)
_MOVERS = frozenset(
    "Concat DepthToSpace Expand Flatten Gather Identity MaxPool Pad Reshape Slice SpaceToDepth Split Squeeze Transpose "
    "Unsqueeze".split()
)


def find_bends(
    graph: ProtoGraph, facts: Mapping[str, TensorFact], data: frozenset[str], inside: frozenset[str] = frozenset()
) -> Iterator[CutPoint]:
    """The operators that bend and depend on one tensor alone, in the order of the nodes.

    Args:
        graph: the graph.
        facts: shape and dtype of its tensors.
        data: `data_tensors(graph)`.
        inside: tensors that operators of cuts make, which are tried with these.
    """
    for node in graph.nodes:
        inputs = tuple(name for name in node.inputs if name in data)
        if node.op not in _BENT or len(inputs) != 1 or inputs[0] not in facts or node.outputs[0] in inside:
            continue
        if is_float(facts[inputs[0]].dtype):
            yield CutPoint(node.outputs[0], inputs, (node,), CutKind.BEND)


def deadening(bends: Iterable[CutPoint]) -> Iterator[str]:
    """The tensors behind bends in which a channel may be 0 throughout, so that nothing behind it would show."""
    yield from (bend.output for bend in bends if bend.nodes[0].op in _DEADENS)


def layer_inputs(graph: ProtoGraph, facts: Mapping[str, TensorFact], cuts: Iterable[CutPoint]) -> Iterator[str]:
    """The computed tensors of real numbers that layers read and nothing else does, each once.

    Moved signs are none: they are fed where they are made.

    Args:
        graph: the graph.
        facts: shape and dtype of its tensors.
        cuts: its cuts.
    """
    signs = {cut.output for cut in cuts if cut.binarises}
    found: dict[str, None] = {}
    for node in graph.nodes:
        if node.op in _MOVERS and signs.issuperset(name for name in node.inputs if name not in graph.constants):
            signs.update(node.outputs)
        position = weight_position(graph, node)
        name = "" if position is None else node.inputs[1 - position]
        if name in graph.maker and name not in signs and name in facts and is_float(facts[name].dtype):
            if all(is_layer(graph, reader) for reader in graph.readers[name]):
                found[name] = None
    yield from found


def amplified(graph: ProtoGraph, facts: Mapping[str, TensorFact]) -> Iterator[str]:
    """The computed tensors of real numbers that operators read which amplify rounding, each once.

    Args:
        graph: the graph.
        facts: shape and dtype of its tensors.
    """
    for name, maker in graph.maker.items():
        reading = any(each.op in _AMPLIFIES and each.inputs[0] == name for each in graph.readers.get(name, ()))
        if reading and maker.outputs[0] == name and name in facts and is_float(facts[name].dtype):
            yield name
