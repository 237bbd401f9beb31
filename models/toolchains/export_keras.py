"""Keras 3 by `model.export(format="onnx")`: `python models/toolchains/export_keras.py`, in
keras.requirements.txt's environment (TensorFlow as the backend)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import onnx
import tensorflow as tf
from keras import layers, ops
from recording import Drawn, recorder

PACKAGES = ("keras", "tensorflow-cpu", "tf2onnx", "onnx", "numpy")
CLASSES = 10


def not_below(x: Any) -> Any:
    """`2 [x >= 0] - 1` with a straight-through estimator: (2 [x >= 0] - 1 - clip(x)) + clip(x)."""
    signs = 2.0 * ops.cast(x >= 0, x.dtype) - 1.0
    residue = ops.clip(x, -1.0, 1.0)
    return residue + ops.stop_gradient(signs - residue)


def where(x: Any) -> Any:
    """`where(x >= 0, 1, -1)`, without a residue."""
    return ops.where(x >= 0, ops.ones_like(x), -ops.ones_like(x))


class BinaryConv(layers.Conv2D):  # type: ignore[misc]
    """A convolution without bias that binarises its input and its kernel; `scaled`: times the mean magnitude."""

    def __init__(self, *args: Any, sign: Any = not_below, scaled: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, use_bias=False, **kwargs)
        self.sign, self.scaled = sign, scaled

    def call(self, x: Any) -> Any:
        kernel = self.sign(self.kernel)
        if self.scaled:
            kernel = kernel * ops.mean(ops.abs(self.kernel), axis=(0, 1, 2), keepdims=True)
        return ops.conv(self.sign(x), kernel, self.strides, self.padding, dilation_rate=self.dilation_rate)


class BinaryDense(layers.Dense):  # type: ignore[misc]
    """A linear layer without bias that binarises its input and its kernel."""

    def __init__(self, units: int, sign: Any = not_below) -> None:
        super().__init__(units, use_bias=False)
        self.sign = sign

    def call(self, x: Any) -> Any:
        return ops.matmul(self.sign(x), self.sign(self.kernel))


def resnet() -> Any:
    """Residual binary blocks, PReLU, downsampling by AvgPool and a real 1x1 convolution."""
    x = given = keras.Input((32, 32, 3))
    x = layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", use_bias=False)(x))
    for width, stride in ((16, 1), (32, 2), (32, 1)):
        shortcut = x
        if stride == 2:
            shortcut = layers.AveragePooling2D(2)(x)
            shortcut = layers.BatchNormalization()(layers.Conv2D(width, 1, use_bias=False)(shortcut))
        y = BinaryConv(width, 3, strides=stride, padding="same", scaled=True)(x)
        y = layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization()(y))
        x = layers.Add()([y, shortcut])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(given, layers.Dense(CLASSES)(x))


def vgg() -> Any:
    """MaxPool in front of BatchNormalization, Flatten of (H, W, C) into hidden binary linear layers."""
    x = given = keras.Input((16, 16, 3))
    x = layers.BatchNormalization(scale=False)(layers.Conv2D(16, 3, padding="same")(x))
    for width in (16, 32):
        x = layers.MaxPooling2D(2)(BinaryConv(width, 3, padding="same", sign=where)(x))
        x = layers.BatchNormalization(scale=False)(x)
    x = layers.Flatten()(x)
    x = layers.BatchNormalization()(BinaryDense(64, where)(x))
    x = layers.BatchNormalization()(BinaryDense(CLASSES, where)(x))
    return keras.Model(given, layers.Activation("softmax")(x))


NETWORKS = {
    "resnet": (resnet, "a residual network of custom layers, latent weights with a straight-through estimator"),
    "vgg": (vgg, "MaxPool, Flatten and binary Dense layers, `where(x >= 0, 1, -1)`"),
}


def draw(model: Any, drawn: Drawn) -> None:
    """Fill all parameters and statistics; statistics come from one pass over random images."""
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    for layer in model.layers:
        for weight in layer.trainable_weights:
            shape = tuple(weight.shape)
            if weight.name == "kernel":
                binary = isinstance(layer, (BinaryConv, BinaryDense))
                weight.assign(drawn.latent(shape) if binary else drawn.real(shape, int(np.prod(shape[:-1]))))
            elif weight.name == "gamma":
                weight.assign(drawn.gamma(shape[0]))
            elif weight.name in ("beta", "bias"):
                weight.assign(drawn.offset(shape[0]))
            elif weight.name == "alpha":
                weight.assign(drawn.slope(int(np.prod(shape))).reshape(shape))
    for norm in norms:
        norm.momentum = 0.0
    model(drawn.images((16, *model.input_shape[1:])), training=True)
    for norm in norms:
        mean, variance = drawn.statistics(norm.moving_mean.numpy(), norm.moving_variance.numpy())
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(variance)


def exported(model: Any) -> onnx.ModelProto:
    """The file that Keras writes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "network.onnx")
        model.export(str(file), format="onnx", verbose=False)
        return onnx.load(str(file))


def main() -> None:
    """Write the fixtures."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    with recorder("keras", PACKAGES) as record:
        for number, (name, (build, about)) in enumerate(NETWORKS.items()):
            if record.wants(name):
                model = build()
                draw(model, Drawn(200 + number))
                record.write(
                    name,
                    about,
                    exported(model),
                    (2, *model.input_shape[1:]),
                    sum(isinstance(layer, (BinaryConv, BinaryDense)) for layer in model.layers),
                    lambda x, model=model: model(x, training=False).numpy(),
                )


if __name__ == "__main__":
    main()
