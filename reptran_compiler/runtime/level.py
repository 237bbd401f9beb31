"""How far onnxruntime may rewrite a graph before it runs it."""

from __future__ import annotations

from enum import Enum


class Level(str, Enum):
    """onnxruntime's optimisation levels, each of which includes those above it.

    At `DISABLE` what the file says is what runs.
    """

    DISABLE = "disable"
    BASIC = "basic"
    EXTENDED = "extended"
    LAYOUT = "layout"
    ALL = "all"
