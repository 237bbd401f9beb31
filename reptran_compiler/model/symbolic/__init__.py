"""Shapes and small integer tensors of a model in terms of the sizes of its dynamic axes.

    symbols = symbolic(model)
    symbols.shapes["logits"]                  # (N, 1000)
    symbols.shapes["logits"][0].evaluate({"N": 8})
    constant_values(symbols)                  # the integer tensors that no size of N changes

What is not certain is not told: a tensor that is missing, or a dimension whose `constant` is None, is one of which
nothing may be assumed."""

from reptran_compiler.model.symbolic.dimension import Dimension
from reptran_compiler.model.symbolic.walk import Symbols, constant_values, symbolic

__all__ = ["Dimension", "Symbols", "constant_values", "symbolic"]
