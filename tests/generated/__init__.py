"""Random small binary networks in ONNX, from everything that real exports contain."""

from generated.cases import Case, draw_case
from generated.networks import network

__all__ = ["Case", "draw_case", "network"]
