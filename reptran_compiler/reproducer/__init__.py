"""Reproducers: the smallest model that a failed compilation fails with, or the part of a Rep network that breaks the
law, in a folder with a script that shows it."""

from reptran_compiler.reproducer.evidence import write_evidence
from reptran_compiler.reproducer.faults import Fault, fault_in, fault_of
from reptran_compiler.reproducer.folder import Reproducer, reproduce, write_reproducer
from reptran_compiler.reproducer.place import check_folder
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
    "write_evidence",
    "write_reproducer",
]
