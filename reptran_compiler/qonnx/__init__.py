"""QONNX, the exchange format of Brevitas, FINN and hls4ml: ONNX with quantisers as operators, read and written."""

from reptran_compiler.qonnx.integers import IntegerType, integer_weights
from reptran_compiler.qonnx.reading import DOMAINS, count_quantisers, readable, standard_operators
from reptran_compiler.qonnx.writing import qonnx_operators, read_back

__all__ = [
    "DOMAINS",
    "IntegerType",
    "count_quantisers",
    "integer_weights",
    "qonnx_operators",
    "read_back",
    "readable",
    "standard_operators",
]
