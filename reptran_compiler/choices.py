"""The options that are one of several words, each with its default first. Nothing is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: What the result depends on. A result's metadata records them.
CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "scope": ("network", "layer"),
        "fc": ("widen", "fold"),
        "bn": ("fold", "keep"),
        "weights": ("latent", "binary", "packed"),
        "repeat": ("tile", "concat", "expand"),
        "sign_zero": ("keep", "plus"),
    }
)
#: What the written file depends on, and which notes are made; but for a classifier in int8, its meaning is the same.
OUTPUT_CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "optimize": ("none", "float", "int8", "auto"),
        "cpu": ("vnni", "avx2"),
        "classifier": ("float", "int8"),
        "emit": ("onnx", "qonnx"),
        "target": ("any", "packed"),
    }
)
