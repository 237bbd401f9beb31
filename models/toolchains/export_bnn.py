"""The package `bnn` (binary-networks-pytorch) by torch's exporters: `python models/toolchains/export_bnn.py`, in
bnn.requirements.txt's environment."""

from __future__ import annotations

from typing import Any

import bnn
from bnn import BConfig, prepare_binary_model
from bnn.models.layers import HBlock, PreBasicBlock
from bnn.ops import AdvancedInputBinarizer, BasicInputBinarizer, BasicScaleBinarizer, XNORWeightBinarizer
from recording import recorder
from torch import nn
from torch_networks import Network, write

PACKAGES = ("bnn", "torch", "onnx", "onnxscript", "numpy")
CLASSES = 10


def _shortcut(inner: int, outer: int, stride: int) -> nn.Module:
    pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
    return nn.Sequential(pool, nn.Conv2d(inner, outer, 1, bias=False), nn.BatchNorm2d(outer))


def preact() -> nn.Module:
    """Pre-activation blocks of `bnn.models`, PReLU; weights sign(W) * mean |W|; a learnt scale behind."""

    def block(inner: int, outer: int, stride: int = 1) -> nn.Module:
        shortcut = None if stride == 1 else _shortcut(inner, outer, stride)
        made: nn.Module = PreBasicBlock(inner, outer, stride, shortcut, norm_layer=nn.BatchNorm2d, activation=nn.PReLU)
        return made

    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        block(16, 16),
        block(16, 32, 2),
        block(32, 32),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, CLASSES),
    )
    config = BConfig(BasicInputBinarizer, BasicScaleBinarizer, XNORWeightBinarizer)
    return _binary(network, config)


def hierarchical() -> nn.Module:
    """Hierarchical blocks of `bnn.models`: three convolutions and a Concat; centred weights; sign(tanh(5 x))."""
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        HBlock(32, 32, norm_layer=nn.BatchNorm2d, activation=_prelu),
        nn.MaxPool2d(2),
        HBlock(32, 64, downsample=_shortcut(32, 64, 1), norm_layer=nn.BatchNorm2d, activation=_prelu),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
    )
    weights = XNORWeightBinarizer.with_args(center_weights=True)
    config = BConfig(AdvancedInputBinarizer, bnn.bconfig.Identity, weights)
    return _binary(network, config)


def _binary(network: nn.Module, config: Any) -> nn.Module:
    """The network with all layers binary but the stem, the shortcuts' and the classifier."""
    made: nn.Module = prepare_binary_model(network, config, ignore_layers_name=["0", "7", "$downsample$"])
    return made


def _prelu(num_parameters: int) -> nn.Module:
    # HBlock counts the channels of its first activation wrongly: one slope for all channels.
    return nn.PReLU()


NETWORKS = {
    "preact": Network(preact, (3, 32, 32), "pre-activation residual blocks, XNORWeightBinarizer, BasicScaleBinarizer"),
    "hierarchical": Network(hierarchical, (3, 32, 32), "hierarchical blocks, centred weights, AdvancedInputBinarizer"),
}

if __name__ == "__main__":
    with recorder("bnn", PACKAGES) as record:
        write(record, NETWORKS, lambda module: isinstance(module, (bnn.layers.Conv2d, bnn.layers.Linear)), 400)
