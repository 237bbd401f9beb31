"""Which tensor is wide, on which axis, and how operators carry replication: the public API of RepTran's rules."""

from reptran_compiler.replication.binarisation import binarised, is_sign, sign_up
from reptran_compiler.replication.carriers import CARRIERS, broadcasting, per_channel, pointwise, spatial
from reptran_compiler.replication.copies import (
    CannotReplicate,
    Copies,
    Decision,
    Plan,
    WeightMove,
    again,
    groups,
    read_outputs,
    rebuilt,
    wide_operand,
)
from reptran_compiler.replication.effects import averages, replicates
from reptran_compiler.replication.facts import WideFacts, as_ints
from reptran_compiler.replication.layers import IntegerForm, Layers, are_few, few_zeros, holds_signs
from reptran_compiler.replication.roles import Roles, find_roles
from reptran_compiler.replication.state import Distinct, Wide

__all__ = [
    "CARRIERS",
    "CannotReplicate",
    "Copies",
    "Decision",
    "Distinct",
    "Layers",
    "Plan",
    "Roles",
    "WeightMove",
    "Wide",
    "WideFacts",
    "again",
    "are_few",
    "as_ints",
    "averages",
    "binarised",
    "broadcasting",
    "few_zeros",
    "groups",
    "holds_signs",
    "find_roles",
    "is_sign",
    "per_channel",
    "pointwise",
    "read_outputs",
    "rebuilt",
    "replicates",
    "sign_up",
    "spatial",
    "wide_operand",
    "IntegerForm",
]
