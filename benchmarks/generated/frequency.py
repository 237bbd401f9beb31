"""How often each insert is tried: so often that each is in more than a twentieth of the graphs."""

from __future__ import annotations

from collections.abc import Mapping

#: Tickets of an insert that is not named below.
USUAL = 5
#: Names by their number of tickets: more for what few maps are suited to or needs a late opset, or to which many
#: operators belong; fewer for what is written elsewhere as well. Found by counting a thousand graphs.
TICKETS: Mapping[int, tuple[str, ...]] = {
    2: (
        "doubled by Concat",
        "dense growth",
        "improvement by Split",
        "improvement by Slices",
        "improvement by Slices from the end",
        "shuffle, stored shape",
        "shuffle, computed shape",
        "Concat behind a sign",
    ),
    3: ("halving, shortcut: option A",),
    4: (
        "residual block",
        "depthwise, binary",
        "squeeze and excite",
        "transition",
        "channels last, sign",
        "Gather of channels",
        "gate by the mean of channels",
        "gate by the largest channel",
        "inner output: layer",
        "inner output: sign",
        "If on a wide map",
    ),
    6: (
        "Slice of space, computed",
        "halving, shortcut: real",
        "Slice of channels, step 2",
        "Slice of channels, backwards",
        "Gather in space",
        "Resize, linear",
        "MaxPool, indices",
        "AveragePool, padding counted",
        "mean by ReduceSum and Div",
        "GlobalLpPool",
        "LRN",
        "CumSum over channels",
        "TopK of channels",
        "2-bit activations",
        "quantised",
        "float16 and back",
        "image beside a map",
        "Loop",
    ),
    7: (
        "halving, shortcut: binary",
        "SplitToSequence",
        "Split and Concat of space",
        "Resize by scales",
        "MaxPool, ceil_mode",
        "MaxPool, dilated",
        "Einsum of maps",
        "quantised per channel",
    ),
    8: (
        "GlobalMaxPool",
        "halving, shortcut: strided Slice",
        "reductions over channels",
    ),
    9: ("DepthToSpace",),
    10: ("BatchNormalization in training mode",),
    11: ("CastLike",),
    12: (
        "halving, shortcut: AveragePool, Concat",
        "Pad with axes",
        "LayerNormalization",
        "reductions over space",
    ),
    24: ("halving, shortcut: AveragePool, convolution",),
    20: (
        "GroupNormalization",
        "arithmetic of two maps",
        "comparisons and logic",
    ),
    30: ("Resize to sizes",),
    32: ("bits of whole numbers",),
    40: ("Upsample",),
    56: ("functions of a number",),
}


def tickets(names: Mapping[str, object]) -> tuple[str, ...]:
    """Each name as often as it has tickets."""
    counts = {name: count for count, some in TICKETS.items() for name in some}
    return tuple(name for name in names for _ in range(counts.get(name, USUAL)))
