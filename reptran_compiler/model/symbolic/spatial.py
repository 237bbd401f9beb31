"""The shape of each operator's output, from those of its operands: for the operators that work on images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reptran_compiler.model.symbolic.dimension import Dimension, ceildiv, floordiv, minimum, truncdiv
from reptran_compiler.model.symbolic.facts import Call, Shape, constant_shape
from reptran_compiler.model.symbolic.shapes import ONE, normal_axis


def conv(call: Call) -> list[Shape | None]:
    """[N, Ci, *space] and weights [Co, Ci / group, *kernel]."""
    shape, weight = call.shape(), call.shape(1)
    kernel = constant_shape(weight[2:]) if weight else None
    if shape is None or weight is None or kernel is None:
        return [None]
    return [(shape[0], weight[0], *_windows(call, shape[2:], kernel))]


def pool(call: Call) -> list[Shape | None]:
    """[N, C, *space]; MaxPool's indices have the same shape."""
    shape = call.shape()
    if shape is None:
        return [None, None]
    pooled = (*shape[:2], *_windows(call, shape[2:], call.attributes["kernel_shape"]))
    return [pooled, pooled]


def _windows(call: Call, sizes: Sequence[Dimension], kernel: Sequence[int]) -> list[Dimension]:
    """How many windows there are along each axis of the space.

    onnxruntime refuses a convolution where the image is smaller than the kernel, and pools over an empty image; the
    windows of a pool over an image smaller than its kernel it counts by rounding towards 0."""
    pooling = call.node.op_type != "Conv"
    rank = len(kernel)
    strides = call.attributes.get("strides", [1] * rank)
    dilations = call.attributes.get("dilations", [1] * rank)
    pads = call.attributes.get("pads", [0] * 2 * rank)
    how = call.text("auto_pad", "NOTSET")
    found = []
    for i, (size, stride) in enumerate(zip(sizes, map(Dimension.of, strides), strict=True)):
        if how in ("SAME_UPPER", "SAME_LOWER"):  # with dilations, onnxruntime's own pools disagree with ONNX
            unknown = pooling and dilations[i] > 1
            found.append(call.unknown(i + 3)[i + 2] if unknown else ceildiv(size, stride))
            continue
        before, after = (pads[i], pads[i + rank]) if how == "NOTSET" else (0, 0)
        more = before + after - dilations[i] * (kernel[i] - 1) - 1
        room = size + more
        if call.integer("ceil_mode", 0):  # no window starts in the padding behind the image
            found.append(minimum(ceildiv(room, stride) + 1, ceildiv(size + before, stride)))
        elif pooling and max(size.bounds()[0], 1) + more < 0:
            found.append(truncdiv(room, stride) + 1)
        else:
            found.append(floordiv(room, stride) + 1)
    return found


def conv_transpose(call: Call) -> list[Shape | None]:
    """[N, Ci, *space] and weights [Ci, Co / group, *kernel]."""
    shape, weight = call.shape(), call.shape(1)
    kernel = constant_shape(weight[2:]) if weight else None
    if shape is None or weight is None or kernel is None:
        return [None]
    channels, rank = weight[1] * call.integer("group", 1), len(kernel)
    if "output_shape" in call.attributes:
        wanted = [Dimension.of(size) for size in call.attributes["output_shape"]]
        return [(shape[0], channels, *wanted[-rank:])]
    strides = call.attributes.get("strides", [1] * rank)
    if call.text("auto_pad", "NOTSET") != "NOTSET":
        return [(shape[0], channels, *call.unknown(rank + 2)[2:])]
    dilations = call.attributes.get("dilations", [1] * rank)
    pads = call.attributes.get("pads", [0] * 2 * rank)
    extra = call.attributes.get("output_padding", [0] * rank)
    sizes = (
        (size - 1) * strides[i] + (extra[i] + dilations[i] * (kernel[i] - 1) + 1 - pads[i] - pads[i + rank])
        for i, size in enumerate(shape[2:])
    )
    return [(shape[0], channels, *sizes)]


def global_pool(call: Call) -> list[Shape | None]:
    """[N, C, 1, ...]."""
    shape = call.shape()
    return [None if shape is None else shape[:2] + (ONE,) * (len(shape) - 2)]


def pad(call: Call) -> list[Shape | None]:
    """Each size with its pads, which may be negative."""
    shape = call.shape()
    if shape is None:
        return [None]
    if "pads" in call.attributes:
        pads = [Dimension.of(width) for width in call.attributes["pads"]]
    else:
        value = call.operand(1).value
        if value is None:
            return [tuple(call.unknown(len(shape)))]
        pads = list(value.flat)
    axes = call.operand(3).constants if call.given(3) else range(len(shape))
    if axes is None:
        return [tuple(call.unknown(len(shape)))]
    sizes = list(shape)
    for i, axis in enumerate(axes):
        axis = normal_axis(axis, len(shape))
        sizes[axis] = sizes[axis] + pads[i] + pads[i + len(axes)]
    return [tuple(sizes)]


def resize(call: Call) -> list[Shape | None]:
    """Sizes that are given, or each size times its scale, rounded down."""
    shape = call.shape()
    if shape is None:
        return [None]
    if call.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return [tuple(call.unknown(len(shape)))]
    axes = [normal_axis(axis, len(shape)) for axis in call.attributes.get("axes", range(len(shape)))]
    result = list(shape)
    if call.given(3) and call.operand(3).shape != (Dimension.of(0),):
        sizes = call.operand(3).value
        stretched = call.text("keep_aspect_ratio_policy", "stretch") == "stretch"
        for i, axis in enumerate(axes):
            fits = sizes is not None and stretched and sizes.flat[i].bounds()[0] >= 0
            result[axis] = sizes.flat[i] if sizes is not None and fits else call.unknown(axis + 1)[axis]
        return [tuple(result)]
    if "scales" in call.attributes:
        scales = list(map(float, call.attributes["scales"]))
    else:
        value = call.operand(1 if call.node.op_type == "Upsample" or call.opset < 11 else 2).value
        if value is None or value.size != len(axes):
            return [tuple(call.unknown(len(shape)))]
        scales = list(map(float, value.flat))
    for scale, axis in zip(scales, axes, strict=True):
        result[axis] = _scaled(shape[axis], scale) or call.unknown(axis + 1)[axis]
    return [tuple(result)]


def _scaled(size: Dimension, scale: float) -> Dimension | None:
    """The size times the scale, rounded down; None where rounding in float32 could tell another number."""
    if scale == int(scale):
        return size * int(scale)
    if size.constant is not None:
        near = [int(np.floor(size.constant * scale * (1 + step))) for step in (-1e-6, 0, 1e-6)]
        return Dimension.of(near[1]) if near[0] == near[2] else None
    part, whole = scale.as_integer_ratio()
    return floordiv(size * part, Dimension.of(whole)) if whole <= 16 and part <= 64 else None


def depth_to_space(call: Call) -> list[Shape | None]:
    """[N, C, H, W] to [N, C / b**2, H * b, W * b]."""
    shape, block = call.shape(), call.integer("blocksize", 1)
    if shape is None:
        return [None]
    n, c, h, w = shape
    return [(n, floordiv(c, Dimension.of(block * block)), h * block, w * block)]


def space_to_depth(call: Call) -> list[Shape | None]:
    """[N, C, H, W] to [N, C * b**2, H / b, W / b]."""
    shape, block = call.shape(), call.integer("blocksize", 1)
    if shape is None:
        return [None]
    n, c, h, w = shape
    return [(n, c * (block * block), floordiv(h, Dimension.of(block)), floordiv(w, Dimension.of(block)))]
