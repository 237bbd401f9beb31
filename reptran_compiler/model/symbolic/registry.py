"""Which rule tells the shape and the value of each of ONNX's own operators."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from reptran_compiler.model.symbolic import shapes, spatial, values
from reptran_compiler.model.symbolic.dimension import product
from reptran_compiler.model.symbolic.shapes import ShapeRule
from reptran_compiler.model.symbolic.values import ValueRule


def _named(rules: Mapping[str, ShapeRule]) -> dict[str, ShapeRule]:
    return {name: rule for names, rule in rules.items() for name in names.split()}


SHAPES: Mapping[str, ShapeRule] = MappingProxyType(
    _named(
        {
            "Identity Cast CastLike Abs Neg Sign Not Floor Ceil Round Sqrt Exp Log Reciprocal Erf Sin Cos Tan Asin Acos"
            " Atan Sinh Cosh Asinh Acosh Atanh IsNaN IsInf BitwiseNot Relu LeakyRelu Elu Celu Selu Gelu Mish Swish"
            " ThresholdedRelu Sigmoid HardSigmoid HardSwish Tanh Softplus Softsign Shrink Clip Softmax LogSoftmax"
            " Hardmax LRN LpNormalization MeanVarianceNormalization InstanceNormalization GroupNormalization"
            " LayerNormalization RMSNormalization BatchNormalization QuantizeLinear DequantizeLinear Bernoulli"
            " RandomNormalLike RandomUniformLike EyeLike CumSum Trilu ReverseSequence Scatter ScatterElements"
            " ScatterND": shapes.same,
            "Dropout": shapes.same_twice,
            "Add Sub Mul Div Mod Pow Min Max Mean Sum And Or Xor Equal Less LessOrEqual Greater GreaterOrEqual"
            " BitwiseAnd BitwiseOr BitwiseXor BitShift Where PRelu": shapes.elementwise,
            "Reshape": shapes.reshape,
            "Flatten": shapes.flatten,
            "Squeeze": shapes.squeeze,
            "Unsqueeze": shapes.unsqueeze,
            "Transpose": shapes.transpose,
            "Expand": shapes.expand,
            "ConstantOfShape": shapes.constant_of_shape,
            "Concat": shapes.concat,
            "Split": shapes.split,
            "Slice": shapes.slice_,
            "Gather": shapes.gather,
            "GatherElements": shapes.second,
            "Tile": shapes.tile,
            "Range": shapes.range_,
            "Shape": shapes.vector_of_rank,
            "Size": shapes.scalar,
            "ReduceSum ReduceMean ReduceProd ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp"
            " ReduceSumSquare": shapes.reduction,
            "ArgMax ArgMin": shapes.arg_reduction,
            "Gemm": shapes.gemm,
            "MatMul": shapes.matmul,
            "Conv": spatial.conv,
            "ConvTranspose": spatial.conv_transpose,
            "MaxPool AveragePool LpPool": spatial.pool,
            "GlobalAveragePool GlobalMaxPool GlobalLpPool": spatial.global_pool,
            "Pad": spatial.pad,
            "Resize Upsample": spatial.resize,
            "DepthToSpace": spatial.depth_to_space,
            "SpaceToDepth": spatial.space_to_depth,
        }
    )
)
"""The shape rule of each operator, opset 7 or newer."""

VALUES: Mapping[str, ValueRule] = MappingProxyType(
    {
        "Shape": values.shape,
        "Size": values.size,
        "Identity": values.same,
        "Cast": values.cast,
        "CastLike": values.cast,
        "Gather": values.gather,
        "Slice": values.slice_,
        "Concat": values.concat,
        "Split": values.split,
        "ConstantOfShape": values.constant_of_shape,
        "Unsqueeze": values.moved,
        "Squeeze": values.moved,
        "Reshape": values.moved,
        "Flatten": values.moved,
        "Transpose": values.transpose,
        "Expand": values.expand,
        "Tile": values.tile,
        "Range": values.range_,
        "Where": values.where,
        "Add": values.elementwise(values.PLUS),
        "Sub": values.elementwise(values.MINUS),
        "Mul": values.elementwise(values.TIMES),
        "Neg": values.elementwise(values.MINUS_ONE),
        "Abs": values.elementwise(values.absolute),
        "Sum": values.folded(values.PLUS),
        "Div": values.elementwise(values.divided),
        "Mod": values.modulo,
        "Min": values.folded(values.least),
        "Max": values.folded(values.greatest),
        "Clip": values.clip,
        "Floor": values.floating(np.floor),
        "Ceil": values.floating(np.ceil),
        "Less": values.elementwise(values.less),
        "Greater": values.elementwise(lambda a, b: values.less(b, a)),
        "LessOrEqual": values.elementwise(lambda a, b: values.negated(values.less(b, a))),
        "GreaterOrEqual": values.elementwise(lambda a, b: values.negated(values.less(a, b))),
        "Equal": values.elementwise(values.equal),
        "Not": values.elementwise(values.negated),
        "And": values.elementwise(values.both),
        "Or": values.elementwise(values.either),
        "ReduceSum": values.reduction(values.total),
        "ReduceProd": values.reduction(product),
        "ReduceMax": values.reduction(values.largest),
        "ReduceMin": values.reduction(values.smallest),
    }
)
"""The value rule of each operator of shape arithmetic."""

BOOLEAN = frozenset("Equal Less LessOrEqual Greater GreaterOrEqual And Or Xor Not IsNaN IsInf".split())
"""Operators with a boolean output."""

INDICES = frozenset("Shape Size ArgMax ArgMin".split())
"""Operators with an int64 output."""

UNTYPED = frozenset("QuantizeLinear DequantizeLinear Bernoulli RandomNormalLike RandomUniformLike EyeLike".split())
"""Operators whose output may have another type than their first operand."""
