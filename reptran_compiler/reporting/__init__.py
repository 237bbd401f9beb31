"""Reports: tables for people and JSON for machines, from one result object."""

from .console import make_console, print_summary
from .json_report import SCHEMA, to_document, to_json
from .progress import Step, progress, silent
from .summary import LayerRow, Option, Status, Summary, VerificationSummary

__all__ = [
    "SCHEMA",
    "LayerRow",
    "Option",
    "Status",
    "Step",
    "Summary",
    "VerificationSummary",
    "make_console",
    "print_summary",
    "progress",
    "silent",
    "to_document",
    "to_json",
]
