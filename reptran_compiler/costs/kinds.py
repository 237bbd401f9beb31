"""The kinds that costs are counted by: their order in tables, their titles, and what belongs to which total.

A kind is a short stable string; JSON reports use it as a key. Kinds of binary layers carry their kernel
behind an
underscore: ``binary_weights_3x3``, ``binary_weights_1x1``, ``binary_weights_linear``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: Number of binary multiply-accumulates that count as one operation (the literature's convention).
BINARY_OPS_PER_OP = 64

_PARAMETERS: Mapping[str, str] = {
    "stem_weights": "stem weights",
    "stem_affine": "affine behind the stem",
    "stem_statistics": "statistics behind the stem",
    "binary_weights": "binary {} weights",
    "real_weights": "inner real weights",
    "depthwise_weights": "depthwise weights",
    "bn_affine": "BatchNormalization affine",
    "bn_statistics": "BatchNormalization statistics",
    "prelu_slopes": "PRelu slopes",
    "learnable_biases": "learnable biases",
    "layer_biases": "biases of layers",
    "factored_scales": "scales factored out of weights",
    "other_per_channel": "other per-channel",
    "other_parameters": "other parameters",
    "classifier_weights": "classifier weights",
    "classifier_bias": "classifier bias",
}
_MACS: Mapping[str, str] = {
    "stem": "stem MACs",
    "binary": "binary {} MACs",
    "real": "inner real MACs",
    "depthwise": "depthwise MACs",
    "classifier": "classifier MACs",
    "other": "other MACs",
}
_ELEMENTWISE: Mapping[str, str] = {
    "batch_norm": "BatchNormalization",
    "prelu": "PRelu",
    "bias_add": "bias additions",
    "sign": "Sign",
    "average_pool": "average pooling",
    "global_pool": "global pooling",
    "scale": "scales behind layers",
    "per_channel_mul": "other per-channel products",
    "map_add": "additions of maps",
    "map_mul": "products of maps",
    "activation": "activations",
    "max_pool": "max pooling",
    "reduction": "reductions",
    "copy": "copies (Tile, Expand, Concat)",
    "move": "moves (Transpose, Slice, Pad, ...)",
    "other": "other elementwise work",
}

#: Parameter kinds that are no part of the trainable total: what a training run measures or derives.
NOT_TRAINABLE = frozenset({"stem_statistics", "bn_statistics", "factored_scales"})

#: Elementwise kinds whose sum is the "per-element work" of the literature's tables.
PER_ELEMENT_WORK = frozenset({"batch_norm", "prelu", "bias_add", "sign", "average_pool", "global_pool"})

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "parameters": _PARAMETERS,
    "macs": _MACS,
    "elementwise": _ELEMENTWISE,
}


def _base(section: str, kind: str) -> tuple[str, str]:
    """Split a kind into the kind of the table and its kernel ("" where it has none)."""
    table = SECTIONS[section]
    if kind in table:
        return kind, ""
    base, _, kernel = kind.rpartition("_")
    if base not in table:
        raise KeyError(f"no cost kind {kind!r} in section {section!r}")
    return base, kernel


def title(section: str, kind: str) -> str:
    """The kind in words: ``title("parameters", "binary_weights_3x3") == "binary 3x3 weights"``.

    Raises KeyError where ``kind`` is none of ``section`` ("parameters", "macs" or "elementwise").
    """
    base, kernel = _base(section, kind)
    return SECTIONS[section][base].format(kernel)


def in_order(section: str, kinds: Iterable[str]) -> list[str]:
    """The distinct kinds in the order of the tables; larger kernels first, linear layers last."""
    order = {kind: index for index, kind in enumerate(SECTIONS[section])}

    def key(kind: str) -> tuple[int, int, str]:
        base, kernel = _base(section, kind)
        taps = 1
        for extent in kernel.split("x"):
            taps *= int(extent) if extent.isdigit() else 0
        return order[base], -taps, kernel

    return sorted(set(kinds), key=key)
