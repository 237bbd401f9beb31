"""Operators that carry replication in one line each."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Graph
from reptran_compiler.replication import (
    CARRIERS,
    broadcasting,
    per_channel,
    pointwise,
    replicates,
    spatial,
    wide_operand,
)
from reptran_compiler.rewriting import Match, Tagged, rule

Pointwise = pointwise(
    *"Relu Clip Sign Sigmoid Tanh Abs Neg HardSigmoid HardSwish LeakyRelu Elu Selu Softplus Softsign Exp Log".split(),
    *"Sqrt Erf Gelu Identity Cast Not Floor Ceil Round Reciprocal ThresholdedRelu Celu Mish Sin Cos Tan Asin".split(),
    *"Acos Atan Sinh Cosh Asinh Acosh Atanh Shrink IsInf IsNaN BitwiseNot Swish".split(),
    name="carry-pointwise",
)
Broadcasting = broadcasting(
    *"Add Sub Mul Div Mod Pow Max Min Sum Mean And Or Xor Equal Less Greater LessOrEqual GreaterOrEqual".split(),
    *"Where PRelu BitShift BitwiseAnd BitwiseOr BitwiseXor".split(),
    name="carry-broadcasting",
)
Spatial = spatial(
    *"MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool GlobalLpPool".split(), name="carry-pooling"
)
BatchNormalization = per_channel("BatchNormalization", 1, 2, 3, 4, name="carry-batch-norm")
InstanceNormalization = per_channel("InstanceNormalization", 1, 2, name="carry-instance-norm", blocks=True)


@rule("carry-other-norm", effect=replicates(), phase="replicate", order=CARRIERS)
class OtherNormalization:
    """BatchNormalization along another axis than that of the copies, in inference: each copy alone."""

    def pattern(p: Any) -> Any:
        return p.BatchNormalization()

    def check(m: Match) -> None:
        m.require(wide_operand(m).axis != 1, "its channels are on axis 1")
        training = m.root.attrs.get("training_mode", 0) or len(m.root.outputs) > 1
        m.require(not training, "its statistics are those of all copies")

    def rewrite(m: Match, g: Graph) -> Tagged:
        return Tagged(m.root.outputs[0], wide_operand(m))
