"""The two small networks that are trained, as ONNX models with the parameters that a training begins with."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
from torch import nn

from models import VARIANTS, export
from models.fresh import freshen
from models.reactnet import ReActNet
from models.resnet20 import ReCUConv, ResNet20

CLASSES = 10
#: Of one image: (channels, height, width).
IMAGE = (1, 28, 28)


def _recu(width: int) -> nn.Module:
    """Option A shortcuts and HardTanh; eight binary convolutions, at 14 x 14 and 7 x 7."""
    return ResNet20(
        classes=CLASSES,
        size=IMAGE[1],
        unit=ReCUConv,
        average=True,
        channels=IMAGE[0],
        widths=(width, 2 * width),
        depth=2,
        stem=2,
    )


def _reactnet(width: int) -> nn.Module:
    """Learnable biases, PReLU and Concat; three 3x3 and five 1x1 binary convolutions, at 14 x 14 and 7 x 7."""
    widths = (width, 2 * width, 2 * width, 4 * width)
    return ReActNet(classes=CLASSES, size=IMAGE[1], channels=IMAGE[0], widths=widths)


#: By name: what makes the network at a width.
NETWORKS: Mapping[str, Callable[[int], nn.Module]] = {"recu": _recu, "reactnet": _reactnet}


def original(network: str, width: int, seed: int) -> onnx.ModelProto:
    """A network as its users export it before a training, with parameters drawn from `seed`."""
    made = freshen(NETWORKS[network](width), seed)
    with tempfile.TemporaryDirectory(prefix="reptran-fashion-") as folder:
        file = export(made, Path(folder, "original.onnx"), VARIANTS["torchscript-preserve"], image=IMAGE)
        return onnx.load(str(file))
