"""JAX (flax.nnx) through jax2onnx: `python models/toolchains/export_jax.py`, in jax.requirements.txt's environment
(Python 3.12)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax2onnx import to_onnx
from recording import Drawn, recorder

PACKAGES = ("jax2onnx", "jax", "flax", "onnx", "numpy")
CLASSES = 10
#: Everything is drawn later: XLA need not compile random initialisers.
ZEROS = nnx.initializers.zeros


def sign(x: Any) -> Any:
    """`sign(x)`, 0 at 0, with a straight-through estimator."""
    residue = jnp.clip(x, -1.0, 1.0)
    return residue + lax.stop_gradient(jnp.sign(x) - residue)


def where(x: Any) -> Any:
    """`where(x >= 0, 1, -1)` with a straight-through estimator."""
    return x + lax.stop_gradient(jnp.where(x >= 0, 1.0, -1.0) - x)


def plain(x: Any) -> Any:
    """`where(x >= 0, 1, -1)`."""
    return jnp.where(x >= 0, 1.0, -1.0)


class BinaryConv(nnx.Module):  # type: ignore[misc]
    """A convolution [N, H, W, C], SAME, that binarises its input and its latent kernel [kh, kw, in, out]."""

    def __init__(self, inner: int, outer: int, stride: int, binarise: Callable[[Any], Any]) -> None:
        self.latent = nnx.Param(jnp.zeros((3, 3, inner, outer)))
        self.stride, self.binarise = stride, binarise

    def __call__(self, x: Any) -> Any:
        kernel = self.binarise(self.latent[...])
        strides = (self.stride, self.stride)
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(self.binarise(x), kernel, strides, "SAME", dimension_numbers=layout)


class BinaryLinear(nnx.Module):  # type: ignore[misc]
    """A linear layer that binarises its input and its latent kernel [in, out]."""

    def __init__(self, inner: int, outer: int, binarise: Callable[[Any], Any]) -> None:
        self.latent = nnx.Param(jnp.zeros((inner, outer)))
        self.binarise = binarise

    def __call__(self, x: Any) -> Any:
        return self.binarise(x) @ self.binarise(self.latent[...])


class ResNet(nnx.Module):  # type: ignore[misc]
    """Residual binary blocks with average pooling and real 1x1 convolutions as shortcuts."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.stem = nnx.Conv(3, 16, (3, 3), use_bias=False, kernel_init=ZEROS, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        shapes = ((16, 16, 1), (16, 32, 2), (32, 32, 1))
        self.convs = nnx.List([BinaryConv(*shape, sign) for shape in shapes])
        self.norms = nnx.List([nnx.BatchNorm(outer, rngs=rngs) for _, outer, _ in shapes])
        self.shortcut = nnx.Conv(16, 32, (1, 1), use_bias=False, kernel_init=ZEROS, rngs=rngs)
        self.shortcut_norm = nnx.BatchNorm(32, rngs=rngs)
        self.classifier = nnx.Linear(32, CLASSES, kernel_init=ZEROS, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = self.norm(self.stem(x))
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = norm(conv(x))
            if conv.stride == 2:
                x = self.shortcut_norm(self.shortcut(nnx.avg_pool(x, window_shape=(2, 2), strides=(2, 2))))
            x = x + y
        return self.classifier(jnp.mean(x, axis=(1, 2)))


class Vgg(nnx.Module):  # type: ignore[misc]
    """MaxPool, a Reshape of (H, W, C) and binary linear layers."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.stem = nnx.Conv(3, 16, (3, 3), kernel_init=ZEROS, rngs=rngs)
        self.convs = nnx.List([BinaryConv(16, 32, 1, where), BinaryConv(32, 32, 1, plain)])
        self.norms = nnx.List([nnx.BatchNorm(size, rngs=rngs) for size in (16, 32, 32, 64, CLASSES)])
        self.linears = nnx.List([BinaryLinear(512, 64, plain), BinaryLinear(64, CLASSES, plain)])

    def __call__(self, x: Any) -> Any:
        x = self.norms[0](self.stem(x))
        for number, conv in enumerate(self.convs):
            x = self.norms[1 + number](nnx.max_pool(conv(x), window_shape=(2, 2), strides=(2, 2)))
        x = x.reshape(x.shape[0], 512)
        for number, linear in enumerate(self.linears):
            x = self.norms[3 + number](linear(x))
        return jax.nn.softmax(x)


NETWORKS: dict[str, tuple[Callable[[], Any], tuple[int, ...], str]] = {
    "resnet": (ResNet, (32, 32, 3), "a residual network, sign with a straight-through estimator"),
    "vgg": (Vgg, (16, 16, 3), "MaxPool, Reshape and binary linear layers, where(x >= 0, 1, -1)"),
}


def draw(network: Any, shape: tuple[int, ...], drawn: Drawn) -> None:
    """Fill all parameters and statistics, and leave the network in eval mode."""
    norms = []
    for _, module in nnx.iter_modules(network):
        if isinstance(module, nnx.BatchNorm):
            norms.append(module)
            module.momentum = 0.0
            module.scale[...] = jnp.asarray(drawn.gamma(module.num_features))
            module.bias[...] = jnp.asarray(drawn.offset(module.num_features))
        elif isinstance(module, (BinaryConv, BinaryLinear)):
            module.latent[...] = jnp.asarray(drawn.latent(module.latent.shape))
        elif isinstance(module, (nnx.Conv, nnx.Linear)):
            size = module.kernel.shape
            module.kernel[...] = jnp.asarray(drawn.real(size, int(np.prod(size[:-1]))))
            if module.bias is not None:
                module.bias[...] = jnp.asarray(drawn.offset(size[-1]))
    network.train()
    network(jnp.asarray(drawn.images((16, *shape))))
    network.eval()
    for norm in norms:
        mean, variance = drawn.statistics(np.asarray(norm.mean[...]), np.asarray(norm.var[...]))
        norm.mean[...], norm.var[...] = jnp.asarray(mean), jnp.asarray(variance)


def main() -> None:
    """Write the fixtures."""
    with recorder("jax", PACKAGES) as record:
        for number, (name, (build, shape, about)) in enumerate(NETWORKS.items()):
            if record.wants(name):
                network = build()
                draw(network, shape, Drawn(600 + number))
                model = to_onnx(network, [("B", *shape)], model_name=name)
                record.write(
                    name,
                    about,
                    model,
                    (2, *shape),
                    sum(isinstance(module, (BinaryConv, BinaryLinear)) for _, module in nnx.iter_modules(network)),
                    lambda x, network=network: np.asarray(network(jnp.asarray(x))),
                )


if __name__ == "__main__":
    main()
