"""A compiler that brings binary neural networks in ONNX into their RepTran form."""
