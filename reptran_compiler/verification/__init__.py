"""The judge: it decides whether a result may be written, and shares no code with the rules that made it.

`check_law` builds the specification graph of THEORY section 2 and compares every tensor; `check_equivalent`
compares two graphs that must compute the same, and `check_lowered` a result with what is deployed, whose classifier
may be rounded as `check_classifier` says; `check_well_formed` looks at the file, `check_kept` at what it keeps of its
source; `find_degenerate` tells files whose parameters prove nothing, and `judged_batches` the batch sizes to run.
"""

from reptran_compiler.verification.copies import CannotSpecify
from reptran_compiler.verification.equivalence import check_equivalent
from reptran_compiler.verification.evidence import Evidence
from reptran_compiler.verification.keeping import check_kept
from reptran_compiler.verification.law import check_law, specify
from reptran_compiler.verification.layers import LayerRole, Role
from reptran_compiler.verification.lowered import check_lowered
from reptran_compiler.verification.protograph import MalformedGraph, ProtoGraph
from reptran_compiler.verification.randomise import Recipe, find_degenerate
from reptran_compiler.verification.report import (
    Change,
    ClassifierReport,
    Coverage,
    EquivalenceReport,
    Failure,
    LawReport,
    WellFormedReport,
    Worst,
)
from reptran_compiler.verification.rounding import Rounded, check_classifier, round_classifiers
from reptran_compiler.verification.sizes import judged_batches, quick_batch
from reptran_compiler.verification.specification import Specification, SpecOptions
from reptran_compiler.verification.wellformed import check_well_formed

__all__ = [
    "CannotSpecify",
    "Change",
    "ClassifierReport",
    "Coverage",
    "EquivalenceReport",
    "Evidence",
    "Failure",
    "LawReport",
    "LayerRole",
    "MalformedGraph",
    "ProtoGraph",
    "Recipe",
    "Role",
    "Rounded",
    "SpecOptions",
    "Specification",
    "WellFormedReport",
    "Worst",
    "check_classifier",
    "check_equivalent",
    "check_kept",
    "check_law",
    "check_lowered",
    "check_well_formed",
    "find_degenerate",
    "judged_batches",
    "quick_batch",
    "round_classifiers",
    "specify",
]
