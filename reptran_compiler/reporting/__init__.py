"""Reports: tables for people and JSON for machines, from one result object."""

from .checks import VERIFY_SCHEMA, print_verification, verification_json
from .console import make_console, print_summary
from .github import annotation, error_annotations, to_markdown
from .json_report import SCHEMA, to_document, to_json
from .junit import stopped_junit, to_junit
from .progress import Step, progress, silent
from .summary import ClassifierRounding, LayerRow, Option, Status, Summary, VerificationSummary
from .verified import Check, Verification

__all__ = [
    "SCHEMA",
    "VERIFY_SCHEMA",
    "Check",
    "ClassifierRounding",
    "LayerRow",
    "Option",
    "Status",
    "Step",
    "Summary",
    "Verification",
    "VerificationSummary",
    "annotation",
    "error_annotations",
    "make_console",
    "print_summary",
    "print_verification",
    "progress",
    "silent",
    "stopped_junit",
    "to_document",
    "to_json",
    "to_junit",
    "to_markdown",
    "verification_json",
]
