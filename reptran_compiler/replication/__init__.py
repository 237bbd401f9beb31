"""Which tensor is wide, on which axis, and how each operator carries replication."""

from reptran_compiler.replication.roles import Roles, find_roles
from reptran_compiler.replication.state import Wide
from reptran_compiler.replication.widen import CannotReplicate, Replication

__all__ = ["CannotReplicate", "Replication", "Roles", "Wide", "find_roles"]
