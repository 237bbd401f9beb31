"""The names of what the generator can write, where each needs an opset, and how it is counted."""

from __future__ import annotations

from collections.abc import Mapping

#: Ways to write one thing, by what it is; `Builder.variant` draws one wherever the thing is written.
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "sign": (
        "Sign",
        "HardTanh residue",
        "Tanh residue",
        "polynomial residue",
        "Where not below",
        "Where below",
        "Where, dense constants",
        "Cast, Sub",
        "Cast, Add",
        "nested",
        "Equal",
        "residue of zero",
        "Keras",
    ),
    "weights": (
        "latent",
        "baked",
        "scaled",
        "averaged",
        "averaged residue",
        "standardised",
        "latent, +1 at 0",
        "scale behind Sign",
        "turned kernel",
        "real",
    ),
    "convolution": (
        "pads",
        "no kernel_shape",
        "SAME_UPPER",
        "SAME_LOWER",
        "asymmetric pads",
        "dilated",
        "VALID",
        "with bias",
        "without bias",
    ),
    "norm": ("BatchNormalization", "Sub, Mul", "Mul, Add", "Div, Add"),
    "bias": ("Add", "Sub", "Expand"),
    "operand": ("[1, C, 1, 1]", "[C, 1, 1]", "on the left"),
    "activation": (
        "none",
        "PRelu [C, 1, 1]",
        "PRelu [1, C, 1, 1]",
        "PRelu, one slope",
        "PRelu between biases",
        "PRelu as two Relu",
        "Clip",
        "smooth",
    ),
    "stem": ("norm", "bias", "bare", "pooled", "active", "normalised image"),
    "linear": ("Gemm", "Gemm, transB", "Gemm, alpha and beta", "MatMul", "MatMul, Add"),
    "flatten": ("Flatten", "Reshape 0, -1", "Reshape -1, C", "Reshape, computed"),
    "head": (
        "pooled",
        "pooled by ReduceMean",
        "pooled, norm",
        "convolution",
        "hidden",
        "interleaved",
        "interleaved, hidden",
        "of a turned matrix",
    ),
    "output": ("logits", "Softmax", "ArgMax beside"),
}

#: What is drawn once for each file.
FILES: tuple[str, ...] = (
    "opsets 7 and 8",
    "opsets 9 and 10",
    "opsets 11 and 12",
    "opsets 13 to 17",
    "opsets 18 to 20",
    "opsets from 21",
    "1 space axis",
    "2 space axes",
    "3 space axes",
    "dynamic batch",
    "fixed batch",
    "dynamic image",
    "equal values stored once",
    "Constant and Identity nodes",
    "unnamed nodes",
    "shapes stated",
    "initializers as inputs",
    "dead nodes",
    "unread initializers",
    "metadata and doc strings",
    "several inputs",
    "several outputs",
    "two heads",
)

#: The first and the last opset in which a construct can be written, where not all can.
OPSETS: Mapping[str, tuple[int, int]] = {
    "sign: Sign": (9, 99),
    "sign: HardTanh residue": (9, 99),
    "sign: Tanh residue": (9, 99),
    "sign: polynomial residue": (9, 99),
    "sign: Where not below": (9, 99),
    "sign: Where below": (9, 99),
    "sign: Where, dense constants": (9, 99),
    "sign: nested": (9, 99),
    "sign: Equal": (11, 99),
    "sign: residue of zero": (9, 99),
    "sign: Keras": (12, 99),
    "weights: latent": (9, 99),
    "weights: averaged": (9, 99),
    "weights: averaged residue": (9, 99),
    "weights: standardised": (9, 99),
    "weights: latent, +1 at 0": (9, 99),
    "weights: scale behind Sign": (9, 99),
    "bias: Expand": (9, 99),
}


def fits(name: str, opset: int) -> bool:
    """Whether a construct can be written in an opset."""
    first, last = OPSETS.get(name, (0, 99))
    return first <= opset <= last
