"""Lowering (THEORY section 6): a network as it is deployed. It computes what it did, in operators that cost less."""

from reptran_compiler.lowering.lower import Lowered, lower

__all__ = ["Lowered", "lower"]
