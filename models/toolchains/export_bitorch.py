"""bitorch by torch's exporters: `python models/toolchains/export_bitorch.py`, in bitorch.requirements.txt's
environment.  The networks are bitorch's own, narrower than the papers'."""

from __future__ import annotations

from bitorch.layers.qconv2d import QConv2d_NoAct
from bitorch.layers.qlinear import QLinearBase
from bitorch.models.lenet import LeNet
from bitorch.models.meliusnet import MeliusNet
from bitorch.models.quicknet import QuickNet
from bitorch.models.resnet_e import ResnetE
from recording import recorder
from torch import nn
from torch_networks import Network, write

PACKAGES = ("bitorch", "torch", "onnx", "onnxscript", "numpy")
CLASSES = 10


class NarrowResnetE(ResnetE):  # type: ignore[misc]
    """A quarter of the paper's width."""

    resnet_spec = {18: ([2, 2, 2, 2], [16, 16, 32, 64, 128])}


class NarrowLeNet(LeNet):  # type: ignore[misc]
    """A quarter of bitorch's width."""

    num_channels_conv = 16
    num_fc = 128


NETWORKS = {
    "resnete18": Network(
        lambda: NarrowResnetE(18, [1, 3, 32, 32], CLASSES),
        (3, 32, 32),
        "bitorch's ResNet-E-18 at a quarter of its width",
    ),
    "quicknet": Network(
        lambda: QuickNet([1, 3, 64, 64], [16, 32, 64, 128], num_classes=CLASSES),
        (3, 64, 64),
        "bitorch's QuickNet at a quarter of its width",
    ),
    "meliusnet": Network(
        lambda: MeliusNet("22", [1, 3, 64, 64], CLASSES, num_init_features=16, growth_rate=16),
        (3, 64, 64),
        "bitorch's MeliusNet-22 at a quarter of its growth",
    ),
    "lenet": Network(
        lambda: NarrowLeNet([1, 1, 28, 28], CLASSES), (1, 28, 28), "bitorch's LeNet at a quarter of its width"
    ),
}


def binary(module: nn.Module) -> bool:
    """Whether a layer's weights are binarised."""
    return isinstance(module, (QConv2d_NoAct, QLinearBase))


if __name__ == "__main__":
    with recorder("bitorch", PACKAGES) as record:
        write(record, NETWORKS, binary, 300)
