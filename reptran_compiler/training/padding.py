"""How convolutions and poolings of ONNX are padded, and which sizes they give."""

from __future__ import annotations

from collections.abc import Sequence


def sides(
    extents: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    auto: str = "NOTSET",
) -> tuple[list[int], list[int]]:
    """The pads in front of each spatial axis and behind it.

    Args:
        extents: the sizes of the spatial axes.
        kernel, strides, dilations: of the operator, an entry an axis.
        pads: as ONNX states them: all that are in front, then all that are behind.
        auto: the attribute `auto_pad`; SAME_UPPER and SAME_LOWER give ceil(extent / stride), VALID pads nothing.
    """
    rank = len(kernel)
    if auto in ("NOTSET", ""):
        return list(pads[:rank]), list(pads[rank:])
    if auto == "VALID":
        return [0] * rank, [0] * rank
    begins, ends = [], []
    for extent, width, stride, dilation in zip(extents, kernel, strides, dilations, strict=True):
        total = max(0, (-(-extent // stride) - 1) * stride + dilation * (width - 1) + 1 - extent)
        less, more = total // 2, total - total // 2
        begins.append(less if auto == "SAME_UPPER" else more)
        ends.append(more if auto == "SAME_UPPER" else less)
    return begins, ends


def pooled_sizes(
    extents: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    begins: Sequence[int],
    ends: Sequence[int],
    dilations: Sequence[int],
    ceil: bool,
) -> list[int]:
    """The sizes of a pooling's spatial axes; `ceil` rounds up, and drops a window that begins behind the map."""
    sizes = []
    for extent, width, stride, begin, end, dilation in zip(
        extents, kernel, strides, begins, ends, dilations, strict=True
    ):
        room = extent + begin + end - (dilation * (width - 1) + 1)
        size = (-(-room // stride) if ceil else room // stride) + 1
        if ceil and (size - 1) * stride >= extent + begin:
            size -= 1
        sizes.append(size)
    return sizes
