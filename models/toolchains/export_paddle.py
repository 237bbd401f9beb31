"""PaddlePaddle through paddle2onnx: `python models/toolchains/export_paddle.py`, in paddle.requirements.txt's
environment."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import paddle
from paddle import nn
from paddle.nn import functional
from paddle.static import InputSpec
from recording import Drawn, recorder

PACKAGES = ("paddlepaddle", "paddle2onnx", "onnx", "numpy")
CLASSES = 10


def sign(x: Any) -> Any:
    """`sign(x)`, 0 at 0, with a straight-through estimator."""
    residue = paddle.clip(x, -1.0, 1.0)
    return residue + (paddle.sign(x) - residue).detach()


def plain(x: Any) -> Any:
    """`sign(x)`, 0 at 0."""
    return paddle.sign(x)


def where(x: Any) -> Any:
    """`where(x >= 0, 1, -1)`."""
    return paddle.where(x >= 0, paddle.ones_like(x), -paddle.ones_like(x))


class BinaryConv(nn.Conv2D):  # type: ignore[misc]
    """A convolution without bias that binarises its input and its weights; `scaled`: times their mean magnitude."""

    def __init__(self, *args: Any, binarise: Callable[[Any], Any], scaled: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, bias_attr=False, **kwargs)
        self.binarise, self.scaled = binarise, scaled

    def forward(self, x: Any) -> Any:
        weight = self.binarise(self.weight)
        if self.scaled:
            weight = weight * self.weight.abs().mean(axis=[1, 2, 3], keepdim=True)
        return functional.conv2d(self.binarise(x), weight, None, self._stride, self._updated_padding)


class BinaryLinear(nn.Linear):  # type: ignore[misc]
    """A linear layer without bias that binarises its input and its weights."""

    def __init__(self, inner: int, outer: int, binarise: Callable[[Any], Any]) -> None:
        super().__init__(inner, outer, bias_attr=False)
        self.binarise = binarise

    def forward(self, x: Any) -> Any:
        return functional.linear(self.binarise(x), self.binarise(self.weight))


class Block(nn.Layer):  # type: ignore[misc]
    """A residual binary block; stride 2 downsamples by AvgPool and a real 1x1 convolution."""

    def __init__(self, inner: int, outer: int, stride: int, binarise: Callable[[Any], Any]) -> None:
        super().__init__()
        self.conv = BinaryConv(inner, outer, 3, stride=stride, padding=1, binarise=binarise, scaled=True)
        self.norm = nn.BatchNorm2D(outer)
        self.act = nn.PReLU(outer)
        self.shortcut = None
        if stride == 2:
            self.shortcut = nn.Sequential(
                nn.AvgPool2D(2), nn.Conv2D(inner, outer, 1, bias_attr=False), nn.BatchNorm2D(outer)
            )

    def forward(self, x: Any) -> Any:
        """[N, C, H, W] to the same, or half of H and W."""
        return self.act(self.norm(self.conv(x))) + (x if self.shortcut is None else self.shortcut(x))


def resnet() -> Any:
    """A residual network; `sign` with a residue."""
    return nn.Sequential(
        nn.Conv2D(3, 16, 3, padding=1, bias_attr=False),
        nn.BatchNorm2D(16),
        Block(16, 16, 1, sign),
        Block(16, 32, 2, sign),
        Block(32, 32, 1, plain),
        nn.AdaptiveAvgPool2D(1),
        nn.Flatten(),
        nn.Linear(32, CLASSES),
    )


def vgg() -> Any:
    """MaxPool, Flatten and binary linear layers; `where(x >= 0, 1, -1)`."""
    return nn.Sequential(
        nn.Conv2D(3, 16, 3, padding=1),
        nn.BatchNorm2D(16),
        BinaryConv(16, 32, 3, padding=1, binarise=where),
        nn.MaxPool2D(2),
        nn.BatchNorm2D(32),
        BinaryConv(32, 32, 3, padding=1, binarise=where),
        nn.MaxPool2D(2),
        nn.BatchNorm2D(32),
        nn.Flatten(),
        BinaryLinear(32 * 4 * 4, 64, where),
        nn.BatchNorm1D(64),
        BinaryLinear(64, CLASSES, where),
        nn.BatchNorm1D(CLASSES),
        nn.Softmax(),
    )


#: By name: what builds a network, its input's shape (batch included where it is static), and a sentence on it.
NETWORKS: dict[str, tuple[Callable[[], Any], tuple[int | None, ...], str]] = {
    "resnet": (resnet, (None, 3, 32, 32), "a residual network, sign with a straight-through estimator, PReLU"),
    "vgg": (vgg, (None, 3, 16, 16), "MaxPool, Flatten and binary linear layers, where(x >= 0, 1, -1), dynamic batch"),
    "vgg-static": (vgg, (2, 3, 16, 16), "the same, with a static batch of 2"),
}


def draw(network: Any, shape: tuple[int, ...], drawn: Drawn) -> None:
    """Fill all parameters and statistics, and leave the network in eval mode."""
    norms = (nn.BatchNorm1D, nn.BatchNorm2D)
    for module in network.sublayers():
        if isinstance(module, norms):
            module._momentum = 0.0  # Paddle's momentum is the share of the old statistics.
            module.weight.set_value(drawn.gamma(module._num_features))
            module.bias.set_value(drawn.offset(module._num_features))
        elif isinstance(module, nn.PReLU):
            module._weight.set_value(drawn.slope(int(np.prod(module._weight.shape))))
        elif isinstance(module, (nn.Conv2D, nn.Linear)):
            size = tuple(module.weight.shape)
            # A linear layer's weights are [in, out] here.
            fan_in = size[0] if isinstance(module, nn.Linear) else int(np.prod(size[1:]))
            binary = isinstance(module, (BinaryConv, BinaryLinear))
            module.weight.set_value(drawn.latent(size) if binary else drawn.real(size, fan_in))
            if module.bias is not None:
                module.bias.set_value(drawn.offset(module.bias.shape[0]))
    network.train()
    network(paddle.to_tensor(drawn.images((16, *shape))))
    network.eval()
    for module in network.sublayers():
        if isinstance(module, norms):
            mean, variance = drawn.statistics(module._mean.numpy(), module._variance.numpy())
            module._mean.set_value(mean)
            module._variance.set_value(variance)


def exported(network: Any, shape: tuple[int | None, ...]) -> onnx.ModelProto:
    """The file that paddle2onnx writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "network"))
        given = [InputSpec(list(shape), "float32", "images")]
        paddle.onnx.export(network, path, input_spec=given, opset_version=17)
        return onnx.load(f"{path}.onnx")


def main() -> None:
    """Write the fixtures."""
    paddle.set_device("cpu")
    with recorder("paddle", PACKAGES) as record:
        for number, (name, (build, shape, about)) in enumerate(NETWORKS.items()):
            if record.wants(name):
                network = build()
                draw(network, tuple(size or 0 for size in shape[1:]), Drawn(500 + number))
                model = exported(network, shape)
                images = (2, *(size or 0 for size in shape[1:]))
                record.write(
                    name,
                    about,
                    model,
                    images,
                    sum(isinstance(layer, (BinaryConv, BinaryLinear)) for layer in network.sublayers()),
                    lambda x, network=network: network(paddle.to_tensor(x)).numpy(),
                )


if __name__ == "__main__":
    main()
