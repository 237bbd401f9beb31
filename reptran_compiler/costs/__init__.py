"""What a model costs: parameters by kind, MACs, BOPs, OPs, elementwise work and bytes, before and after."""

from .comparing import Change, Comparison, LayerChange
from .counting import count
from .kinds import NOT_TRAINABLE, PER_ELEMENT_WORK, in_order, title
from .report import CannotCount, CostReport, LayerCost, LayerKind, Role

__all__ = [
    "NOT_TRAINABLE",
    "PER_ELEMENT_WORK",
    "CannotCount",
    "Change",
    "Comparison",
    "CostReport",
    "LayerChange",
    "LayerCost",
    "LayerKind",
    "Role",
    "count",
    "in_order",
    "title",
]
