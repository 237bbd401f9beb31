"""The windows of a convolution over a feature map of a fixed size."""

from __future__ import annotations

from dataclasses import dataclass

from reptran_compiler.model.elements import Node


@dataclass(frozen=True)
class Windows:
    """Where a convolution looks at a map of [H, W]; all pairs are (along H, along W).

    Attributes:
        extent: H and W of what it makes.
        kernel, strides, dilations: as ONNX has them (Conv-1 and later).
        starts, ends: how many rows and columns of padding are in front of the map, and behind it.
        padded: H and W of the padded map.
    """

    extent: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    starts: tuple[int, int]
    ends: tuple[int, int]
    padded: tuple[int, int]

    @property
    def pads(self) -> bool:
        """Whether there is padding."""
        return any((*self.starts, *self.ends))

    @property
    def single(self) -> bool:
        """Whether the windows are the elements of the map themselves, each once."""
        return self.kernel == (1, 1) and self.strides == (1, 1) and not self.pads


def windows_of(layer: Node, kernel: tuple[int, int], extent: tuple[int, int]) -> Windows | None:
    """The windows of a Conv; None where it chooses its padding by the size of the map, or crops.

    Args:
        layer: the Conv.
        kernel: height and width of its weights.
        extent: H and W of the map.
    """
    if layer.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    pads = [0, 0, 0, 0] if layer.attrs.get("auto_pad") == "VALID" else layer.attrs.get("pads", [0, 0, 0, 0])
    if min(pads) < 0:
        return None
    top, left, bottom, right = pads
    strides, dilations = (_pair(layer, name) for name in ("strides", "dilations"))
    padded = (extent[0] + top + bottom, extent[1] + left + right)
    rows, columns = ((padded[i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1 for i in (0, 1))
    return Windows((rows, columns), kernel, strides, dilations, (top, left), (bottom, right), padded)


def _pair(layer: Node, name: str) -> tuple[int, int]:
    rows, columns = layer.attrs.get(name, (1, 1))
    return rows, columns
