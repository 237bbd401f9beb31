"""Which stored tensors of a graph are trained, and the modules that hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reptran_compiler.gate.operands import Use, is_trained, use_of
from reptran_compiler.training.holding import Holding
from reptran_compiler.training.norms import FoldedNorm
from reptran_compiler.training.recognising import uses
from reptran_compiler.training.sites import Unsupported
from reptran_compiler.verification.protograph import NodeView, ProtoGraph

H = TypeVar("H", bound=Holding)
N = TypeVar("N", bound=FoldedNorm)
#: An input of a node, by its position.
Operand = tuple[NodeView, int]


@dataclass(frozen=True)
class _Weights:
    """Weights that a layer has, and others may share.

    Attributes:
        name: what they are called where they are written.
        parameter: the weights.
        signs: whether their signs are written.
    """

    name: str
    parameter: nn.Parameter
    signs: bool


class Parameters:
    """The parameters of a graph.

    What training may change is what `reptran-verify --retrained` lets be changed.

    Attributes:
        graph: the graph.
        operands: the ONNX name of each parameter that has a module, by the index of the node that reads it and by the
            input's position.
    """

    def __init__(self, graph: ProtoGraph) -> None:
        self.graph = graph
        self.operands: dict[tuple[int, int], str] = {}
        self._behind = uses(graph)
        self._weights: dict[str, _Weights] = {}
        self._nodes = frozenset(node.name for node in graph.nodes)
        self._stay = frozenset(self._fixed())
        self._taken = set(self._stay)

    def _fixed(self) -> Iterator[str]:
        """The stored tensors that something reads which no training changes, or that the graph gives: they stay."""
        yield from self.graph.outputs
        for node in self.graph.nodes:
            yield from node.captured
            yield from (name for at, name in enumerate(node.inputs) if not self.trained(node, at))

    def trained(self, node: NodeView, position: int) -> bool:
        """Whether a node reads a stored tensor there that is a parameter."""
        name = node.input(position)
        if name not in self.graph.initializers:
            return False
        computed = node.outputs[0] in self.graph.constants
        return is_trained(self._use(node, position), self.graph.value(name), computed=computed)

    def value(self, node: NodeView, position: int) -> Tensor:
        """What the file stores there.

        Raises:
            Unsupported: it is computed.
        """
        if node.input(position) not in self.graph.initializers:
            raise Unsupported(f"its parameter {node.input(position)!r} is computed")
        return tensor_of(self.graph.value(node.input(position)))

    def held(self, module: H, operands: Mapping[str, Operand], *, signs: bool = False) -> H:
        """A module whose tensors have their names in the file, and which shares the weights that the file shares.

        What is stored once because its values are equal, and is no layer's weight, is a parameter of each reader.

        Args:
            module: the module, with the file's values.
            operands: where its tensors are read, by its own names for them.
            signs: whether its weights are written as their signs.

        Raises:
            Unsupported: its weights are shared by what has to have other ones.
        """
        for mine, operand in operands.items():
            node, position = operand
            name, use = node.input(position), self._use(node, position)
            weights = self._weights.get(name) if use is Use.WEIGHT else None
            if use is Use.WEIGHT and name in self._stay:
                raise Unsupported(f"its weights {name!r} are also read, or given, as numbers that no training changes")
            if weights is None:
                module.names[mine] = self.claimed(operand)
                if use is Use.WEIGHT:
                    self._weights[name] = _Weights(module.names[mine], getattr(module, mine), signs)
                continue
            if weights.signs != signs:
                raise Unsupported(f"its weights {name!r} are latent ones in one place and binary ones in another")
            setattr(module, mine, weights.parameter)
            module.names[mine] = self.operands[node.index, position] = weights.name
        return module

    def shared(self, node: NodeView, position: int) -> bool:
        """Whether another operand reads the same stored tensor."""
        return len(self.graph.readers[node.input(position)]) > 1

    def claimed(self, operand: Operand) -> str:
        """The name of an operand's tensor, which from now on no other operand has but as the same layer's weight."""
        node, position = operand
        name = node.input(position)
        if name in self._taken:
            name = self.free(f"{name}/{node.name}")
        self._taken.add(name)
        self.operands[node.index, position] = name
        return name

    def named(self, norm: N) -> N:
        """A normalisation whose state, which the file does not have, has names that nothing in the file has."""
        for module in (norm, norm.statistics):
            module.names = {mine: self.free(name) for mine, name in module.names.items()}
        return norm

    def free(self, name: str) -> str:
        """A name, or one like it, that no tensor and no node has; from now on it is taken."""
        while name in self._taken or name in self.graph.tensors or name in self._nodes:
            name += "~"
        self._taken.add(name)
        return name

    def _use(self, node: NodeView, position: int) -> Use:
        return use_of(self.graph, node, position, self._behind.get(node.outputs[0], Use.FIXED))


def tensor_of(values: NDArray[Any]) -> Tensor:
    """A torch tensor with an array's values and dtype."""
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(np.array(values, order="C"))
