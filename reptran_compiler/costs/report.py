"""What counting gives: one `LayerCost` a layer, one `CostReport` a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from .kinds import BINARY_OPS_PER_OP, NOT_TRAINABLE, PER_ELEMENT_WORK

Role = Literal["stem", "repconv", "boundary", "classifier", "narrow", "depthwise"]
ROLES: tuple[str, ...] = get_args(Role)


class CannotCount(ValueError):
    """The costs of a model cannot be told; the message names the tensor or the axis that is missing."""


@dataclass(frozen=True)
class LayerKind:
    """What the compiler knows of a layer and its costs depend on.

    ``binary``: binarised input times +-1 weights, so that its multiply-accumulates are binary operations.
    ``factored_scale``: the per-channel Mul directly behind the layer was factored out of its weights, and is
    no trainable parameter. None: it is exactly where the layer is binary. A second Mul is the network's own.

    Raises ValueError for an unknown role.
    """

    role: Role
    binary: bool
    factored_scale: bool | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"unknown role {self.role!r}: expected one of {', '.join(ROLES)}")

    @property
    def scale_is_factored(self) -> bool:
        """Whether a per-channel Mul directly behind the layer came out of its weights."""
        return self.binary if self.factored_scale is None else self.factored_scale


@dataclass(frozen=True)
class LayerCost:
    """One convolution or linear layer, at batch 1.

    ``kernel`` is "3x3", "1x1", "5" (one axis), ... or "linear"; ``group`` 1 for linear layers. The shapes are
    those of the weight as the layer reads it, and of its input and output with the batch as axis 0.
    ``weights`` counts that weight's elements, whether or not another layer reads it too; ``parameter`` names
    the initializer that holds them (the latent one where weights are computed), ``stored_bytes`` is its size.
    ``bias`` counts the elements of the bias that the operator itself adds.
    """

    name: str
    op: str
    role: Role
    binary: bool
    kernel: str
    group: int
    weight_shape: tuple[int, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    weights: int
    bias: int
    macs: int
    parameter: str
    stored_bytes: int

    @property
    def bops(self) -> int:
        """The multiply-accumulates, where both operands are binary; else 0."""
        return self.macs if self.binary else 0


@dataclass(frozen=True)
class CostReport:
    """The costs of one model for one sample, by kind (`reptran_compiler.costs.kinds`) and in total.

    ``initializer_bytes`` is what constants take as stored; ``activation_bytes`` the sum of all tensors
    between, and ``peak_activation_bytes`` the most of them alive at once in the order of the nodes, no buffer
    shared. ``read_again`` is how many elements of trainable parameters, weights of layers left out, operators read that
    share them with another one, which are counted once. ``notes`` says what could not be counted exactly.
    """

    layers: tuple[LayerCost, ...]
    parameters: Mapping[str, int]
    macs: Mapping[str, int]
    bops: int
    elementwise: Mapping[str, int]
    initializer_bytes: int
    activation_bytes: int
    peak_activation_bytes: int
    read_again: int = 0
    notes: tuple[str, ...] = ()

    def layer(self, name: str) -> LayerCost:
        """The layer of that node name. Raises KeyError where there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    @property
    def trainable(self) -> int:
        """All parameters but statistics and scales that were factored out of weights."""
        return sum(count for kind, count in self.parameters.items() if kind not in NOT_TRAINABLE)

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates, real and binary."""
        return sum(self.macs.values())

    @property
    def real_macs(self) -> int:
        """Multiply-accumulates with an operand that is not binary."""
        return self.total_macs - self.bops

    @property
    def ops(self) -> int | float:
        """Real multiply-accumulates plus binary ones / 64; an int where that is one."""
        whole, rest = divmod(self.bops, BINARY_OPS_PER_OP)
        return self.real_macs + whole + (rest / BINARY_OPS_PER_OP if rest else 0)

    @property
    def per_element_work(self) -> int:
        """BatchNormalization, PRelu, bias additions, Sign, average pooling (`kinds.PER_ELEMENT_WORK`)."""
        return sum(count for kind, count in self.elementwise.items() if kind in PER_ELEMENT_WORK)
