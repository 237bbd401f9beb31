"""Running models: sessions, feeds, tolerances. onnxruntime is imported when first needed, and only here."""

from reptran_compiler.runtime.feeds import (
    CannotFeed,
    InputSpec,
    batch_sizes,
    blank_feeds,
    generator,
    has_dynamic_batch,
    input_specs,
    is_float,
    random_array,
    random_feeds,
    random_signs,
    special_points,
)
from reptran_compiler.runtime.level import Level
from reptran_compiler.runtime.memory import largest_tensor, too_large
from reptran_compiler.runtime.probe import TensorFact, facts_at, inferred_facts, integer_values, probe, tensor_facts
from reptran_compiler.runtime.session import EndlessLoop, RuntimeFailure, Session, element_type, run
from reptran_compiler.runtime.tolerance import (
    Comparison,
    Magnitude,
    allowance,
    compare,
    differ,
    smallest_step,
    tolerance,
    unit_roundoff,
)

__all__ = [
    "CannotFeed",
    "Comparison",
    "EndlessLoop",
    "InputSpec",
    "Level",
    "Magnitude",
    "RuntimeFailure",
    "Session",
    "TensorFact",
    "allowance",
    "batch_sizes",
    "blank_feeds",
    "compare",
    "differ",
    "element_type",
    "facts_at",
    "generator",
    "has_dynamic_batch",
    "inferred_facts",
    "input_specs",
    "integer_values",
    "is_float",
    "largest_tensor",
    "probe",
    "random_array",
    "random_feeds",
    "random_signs",
    "run",
    "smallest_step",
    "special_points",
    "tensor_facts",
    "tolerance",
    "unit_roundoff",
    "too_large",
]
