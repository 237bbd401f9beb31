"""Operators that carry replication in one line each."""

from __future__ import annotations

from reptran_compiler.replication import broadcasting, per_channel, pointwise, spatial

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
InstanceNormalization = per_channel("InstanceNormalization", 1, 2, name="carry-instance-norm")
