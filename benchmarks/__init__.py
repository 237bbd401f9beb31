"""Benchmarks: the zoo against its torch forms, ReactNet-A against the published table, and compile time.

Each is a program (`python -m benchmarks.zoo`, `.reactnet_a`, `.speed`) that says what it expected and what it
found, and ends with 1 where they differ."""
