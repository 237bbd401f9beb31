"""Mistakes in the rules that fold parameters and bring a source into canonical form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from reptran_passes import (
    bake_weights,
    factor_weights,
    fold_bn,
    layer_bias,
    merge_affine,
    shapes,
    sign,
    straight_through,
)

from reptran_compiler import pipeline
from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.replication import binarised, sign_up
from reptran_compiler.rewriting import Match
from tests.planted.breaking import Broken, having, rewriting, rules, together
from tests.planted.kinds import Theme
from tests.planted.result import Array

# BatchNormalization and affines.

Norm = Callable[[Array, Array, Array, Array, float], tuple[Array, Array]]


def folded(norm: Norm) -> Broken:
    """BatchNormalization folded to another scale and offset."""

    def rewrite(m: Match, g: Graph) -> Tensor:
        scale, bias, mean, var = (np.asarray(t.values, np.float64) for t in (m.scale, m.bias, m.mean, m.var))
        factor, offset = norm(scale, bias, mean, var, m.bn.attrs.get("epsilon", 1e-5))
        shape = [1, -1, *[1] * (len(m.facts.of(m.x).shape) - 2)]
        dtype = m.facts.of(m.x).dtype
        a = g.constant(f"{m.bn.name}/scale", factor.reshape(shape).astype(dtype))
        b = g.constant(f"{m.bn.name}/offset", offset.reshape(shape).astype(dtype))
        product = g.node("Mul", [m.x, a], name=f"{m.bn.name}/Mul").outputs[0]
        return g.node("Add", [product, b], like=m.bn).outputs[0]

    return rewriting(fold_bn.FoldBatchNorm, rewrite)


def _without_epsilon(scale: Array, bias: Array, mean: Array, var: Array, epsilon: float) -> tuple[Array, Array]:
    factor = scale / np.sqrt(var + 1e-12)
    return factor, bias - mean * factor


def _swapped(scale: Array, bias: Array, mean: Array, var: Array, epsilon: float) -> tuple[Array, Array]:
    factor = scale / np.sqrt(np.abs(mean) + epsilon)
    return factor, bias - var * factor


def _biasless(scale: Array, bias: Array, mean: Array, var: Array, epsilon: float) -> tuple[Array, Array]:
    factor = scale / np.sqrt(var + epsilon)
    return factor, -mean * factor


def _rootless(scale: Array, bias: Array, mean: Array, var: Array, epsilon: float) -> tuple[Array, Array]:
    factor = scale / (var + epsilon)
    return factor, bias - mean * factor


def _mean_unscaled(scale: Array, bias: Array, mean: Array, var: Array, epsilon: float) -> tuple[Array, Array]:
    return scale / np.sqrt(var + epsilon), bias - mean


def _offset_unscaled(m: Match, g: Graph) -> Tensor:
    scaled = g.node("Mul", [m.x, m.a], name=f"{m.root.name}/Mul").outputs[0]
    return g.node("Add", [scaled, m.b], like=m.root).outputs[0]


def _scales_added(m: Match, g: Graph) -> Tensor:
    product = merge_affine._stored(m, g, "scale", merge_affine._value(m.a) + merge_affine._value(m.b))
    return g.node("Mul", [m.x, product], like=m.root).outputs[0]


def _one_offset(m: Match, g: Graph) -> Tensor:
    return g.node("Add", [m.x, m.b], like=m.root).outputs[0]


# The canonical form.


def _plain_sign(m: Match, g: Graph) -> Tensor:
    if binarised(m.root.outputs[0]) is not None:
        m.turn_down("is canonical already")
    return g.node("Sign", [m.x], name="sign").outputs[0]


def _up_sign(m: Match, g: Graph) -> Tensor:
    source = binarised(m.b)
    if source is None or isinstance(m.b, Constant) or isinstance(source, Constant):
        return _STRAIGHT(m, g)
    return sign_up(g, source, np.dtype(m.facts.source(source).dtype))


_STRAIGHT = straight_through._binarisation
_MAGNITUDES = factor_weights.magnitudes


def _neighbours_magnitudes(weights: Array) -> Array | None:
    found = _MAGNITUDES(weights)
    return None if found is None else np.roll(found, 1)


def _no_magnitudes(weights: Array) -> Array | None:
    found = _MAGNITUDES(weights)
    return None if found is None else np.ones_like(found)


_SIGNS = factor_weights._signs


def _negated_signs(facts: Any, g: Graph, tensor: Tensor, form: factor_weights.BinaryForm) -> Tensor:
    return g.constant(f"{tensor.name}/sign", -np.sign(facts.value(tensor)))


def _no_bias(m: Match, g: Graph, out: Tensor) -> Tensor:
    return out


def _frozen(m: Match, g: Graph) -> Tensor:
    stored = g.constant(f"{m.reshape.name}/shape", m.facts.source(m.root.outputs[0]).shape, np.int64)
    return g.node("Reshape", [m.x, stored], m.reshape.attrs, like=m.reshape).outputs[0]


def _latent_for_signs(m: Match, g: Graph) -> Tensor:
    latent = binarised(m.root.outputs[0])
    assert latent is not None, "`check` has seen it"
    return g.constant(f"{latent.name}/sign", np.asarray(m.facts.value(latent)))


def _baked(options: pipeline.Options) -> bool:
    return options.weights == "binary"


def _folded(options: pipeline.Options) -> bool:
    return options.bn == "fold"


THEME = Theme(
    "The rules that fold and canonicalise",
    (
        *rules(
            ("epsilon forgotten", folded(_without_epsilon), ("fold-bn",), _folded),
            ("mean and variance swapped", folded(_swapped), ("fold-bn",), _folded),
            ("BatchNormalization's bias dropped", folded(_biasless), ("fold-bn",), _folded),
            ("variance for standard deviation", folded(_rootless), ("fold-bn",), _folded),
            ("mean not scaled", folded(_mean_unscaled), ("fold-bn",), _folded),
            (
                "offset not scaled",
                rewriting(merge_affine.ScaleBeforeOffset, _offset_unscaled),
                ("scale-before-offset",),
                _folded,
            ),
            ("scales added", rewriting(merge_affine.MergeScales, _scales_added), ("merge-scales",), _folded),
            ("one of two offsets lost", rewriting(merge_affine.MergeOffsets, _one_offset), ("merge-offsets",), _folded),
            (
                "+1 at 0 taken for Sign",
                having(sign, "_sign_up", _plain_sign),
                ("sign-from-where", "sign-from-cast", "sign-from-nested", "sign-from-equal"),
                bool,
            ),
            (
                "Sign taken for +1 at 0",
                rewriting(straight_through.StraightThrough, _up_sign),
                ("straight-through",),
                bool,
            ),
            (
                "magnitudes of the neighbour",
                having(factor_weights, "magnitudes", _neighbours_magnitudes),
                ("factor-weights",),
                bool,
            ),
            ("magnitudes lost", having(factor_weights, "magnitudes", _no_magnitudes), ("factor-weights",), bool),
            ("signs negated", having(factor_weights, "_signs", _negated_signs), ("factor-weights",), bool),
            (
                "biases of layers dropped",
                together(having(factor_weights, "add_bias", _no_bias), having(layer_bias, "add_bias", _no_bias)),
                ("factor-weights", "layer-bias"),
                bool,
            ),
            ("a frozen batch", rewriting(shapes.SettleReshape, _frozen), ("settle-reshape",), bool),
        ),
        *rules(
            (
                "latent weights stored for signs",
                rewriting(bake_weights.BakeWeights, _latent_for_signs),
                ("bake-weights",),
                _baked,
            ),
            reading=True,
        ),
    ),
)
