"""Reading, holding and writing ONNX graphs: the one place that touches graphsurgeon."""

from reptran_compiler.model.convert import digest_of, export_model, import_model, node_proto, tensor_proto
from reptran_compiler.model.elements import Constant, Node, Tensor, Variable
from reptran_compiler.model.graph import Graph
from reptran_compiler.model.subgraphs import bodies, captured

__all__ = [
    "Constant",
    "Graph",
    "Node",
    "Tensor",
    "Variable",
    "bodies",
    "captured",
    "digest_of",
    "export_model",
    "import_model",
    "node_proto",
    "tensor_proto",
]
