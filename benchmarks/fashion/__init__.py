"""Rep networks against their originals on Fashion-MNIST: compiled, trained, verified, measured by onnxruntime."""
