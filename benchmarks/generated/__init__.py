"""Random small binary networks in ONNX, from everything that the compiler carries, and what has to hold of each.

`python -m benchmarks.generated --help` sweeps over thousands of them.
"""

from benchmarks.generated.cases import Case, draw, draw_case, runs
from benchmarks.generated.choices import Choices, Seeded
from benchmarks.generated.networks import CONSTRUCTS, REFUSED

__all__ = ["CONSTRUCTS", "REFUSED", "Case", "Choices", "Seeded", "draw", "draw_case", "runs"]
