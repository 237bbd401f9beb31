"""Reading, holding and writing ONNX graphs: the one place that touches graphsurgeon."""

from reptran_compiler.model.convert import export_model, import_model, node_proto, tensor_proto
from reptran_compiler.model.graph import Constant, Graph, Node, Tensor, Variable

__all__ = ["Constant", "Graph", "Node", "Tensor", "Variable", "export_model", "import_model", "node_proto", "tensor_proto"]
