"""What qonnx itself makes of compiled networks, in an environment of its own."""
