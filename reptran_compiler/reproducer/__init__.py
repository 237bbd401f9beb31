"""Reproducers: the smallest model that a failed compilation fails with, in a folder with a script that shows it."""

from reptran_compiler.reproducer.faults import Fault, fault_in, fault_of
from reptran_compiler.reproducer.folder import Reproducer, check_folder, reproduce, write_reproducer
from reptran_compiler.reproducer.shrinking import Shrunk, shrink

__all__ = [
    "Fault",
    "Reproducer",
    "Shrunk",
    "check_folder",
    "fault_in",
    "fault_of",
    "reproduce",
    "shrink",
    "write_reproducer",
]
