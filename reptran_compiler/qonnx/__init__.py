"""QONNX, the exchange format of Brevitas, FINN and hls4ml: ONNX with quantisers as operators, read and written."""

from reptran_compiler.qonnx.reading import DOMAINS, count_quantisers, readable, standard_operators
from reptran_compiler.qonnx.writing import qonnx_operators, read_back

__all__ = ["DOMAINS", "count_quantisers", "qonnx_operators", "read_back", "readable", "standard_operators"]
