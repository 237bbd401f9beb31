"""Which stored tensors of a graph are trained, and the modules that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reptran_compiler.gate.operands import Use, is_trained, use_of
from reptran_compiler.training.holding import Holding
from reptran_compiler.training.recognising import uses
from reptran_compiler.training.sites import Unsupported
from reptran_compiler.verification.protograph import NodeView, ProtoGraph

H = TypeVar("H", bound=Holding)
#: An input of a node, by its position.
Operand = tuple[NodeView, int]


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
        self._owners: dict[str, Use] = {}
        self._tied: dict[str, nn.Parameter] = {}

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

    def held(self, module: H, operands: Mapping[str, Operand]) -> H:
        """A module whose tensors have their names in the file, and which shares the weights that the file shares.

        What is stored once because its values are equal, and is no layer's weight, is a parameter of each reader.

        Args:
            module: the module, with the file's values.
            operands: where its tensors are read, by its own names for them.
        """
        for mine, (node, position) in operands.items():
            name, use = node.input(position), self._use(node, position)
            if use is Use.WEIGHT and self._owners.get(name) is Use.WEIGHT:
                setattr(module, mine, self._tied[name])
                self.operands[node.index, position] = name
            else:
                name = self.claimed((node, position))
            if use is Use.WEIGHT:
                self._tied[name] = getattr(module, mine)
            module.names[mine] = name
        return module

    def claimed(self, operand: Operand) -> str:
        """The name of an operand's tensor, which from now on no other operand has but as the same layer's weight."""
        node, position = operand
        name = node.input(position)
        if name in self._owners:
            name = f"{name}/{node.name}"
            while name in self._owners or name in self.graph.tensors:
                name += "~"
        self._owners[name] = self._use(node, position)
        self.operands[node.index, position] = name
        return name

    def _use(self, node: NodeView, position: int) -> Use:
        return use_of(self.graph, node, position, self._behind.get(node.outputs[0], Use.FIXED))


def tensor_of(values: NDArray[Any]) -> Tensor:
    """A torch tensor with an array's values and dtype."""
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(np.array(values, order="C"))
