"""Hostile files: mutated ONNX files, each given to the command in a process of its own."""
