"""Larq Zoo through tf2onnx: `python models/toolchains/export_larq.py`, in larq.requirements.txt's environment.

The zoo's own factories build the networks. To keep committed files small they are narrower than the papers', and
images smaller; `--full` exports them at their widths. Nothing is downloaded: all parameters are drawn."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import larq
import numpy as np
import tensorflow as tf
import tf2onnx
from larq_zoo.literature.binary_alex_net import BinaryAlexNetFactory
from larq_zoo.literature.birealnet import BiRealNetFactory
from larq_zoo.literature.densenet import BinaryDenseNet28Factory
from larq_zoo.literature.meliusnet import MeliusNet22Factory
from larq_zoo.literature.real_to_bin_nets import RealToBinNetBNNFactory
from larq_zoo.literature.resnet_e import BinaryResNetE18Factory
from larq_zoo.literature.xnornet import XNORNetFactory
from larq_zoo.sota.quicknet import QuickNetFactory
from recording import Drawn, recorder

PACKAGES = ("larq", "larq-zoo", "tensorflow-cpu", "keras", "tf2onnx", "onnx", "numpy")
CLASSES = 10


@contextmanager
def narrowed(by: int) -> Iterator[None]:
    """Every convolution that is made has its number of filters divided by `by`."""

    def narrow(layer: Any) -> Callable[..., Any]:
        return lambda filters, *args, **kwargs: layer(filters // by, *args, **kwargs)

    with (
        patch.object(larq.layers, "QuantConv2D", narrow(larq.layers.QuantConv2D)),
        patch.object(tf.keras.layers, "Conv2D", narrow(tf.keras.layers.Conv2D)),
    ):
        yield


class NarrowResNetE18(BinaryResNetE18Factory):  # type: ignore[misc]
    """A quarter of the paper's width."""

    spec = ([2, 2, 2, 2], [16, 32, 64, 128])


class NarrowRealToBin(RealToBinNetBNNFactory):  # type: ignore[misc]
    """A quarter of the paper's width, which follows from the first block; squeezed by 4 instead of 8."""

    scaling_r: int = 4

    def first_block(self, *args: Any, **kwargs: Any) -> Any:
        with narrowed(4):
            return super().first_block(*args, **kwargs)


def network(name: str, full: bool) -> Any:
    """A network of the zoo as a Keras model, its parameters as the zoo initialises them."""
    given = dict(weights=None, include_top=True, num_classes=CLASSES)
    small, large = dict(input_shape=(64, 64, 3), **given), dict(input_shape=(224, 224, 3), **given)
    if name == "quicknet":
        return QuickNetFactory(**small, **({} if full else {"section_filters": (16, 32, 64, 128)})).build()
    if name == "birealnet":
        return BiRealNetFactory(**small, filters=64 if full else 16).build()
    if name == "binarydensenet28":
        width = 64 if full else 16
        return BinaryDenseNet28Factory(**small, initial_filters=width, growth_rate=width).build()
    if name == "meliusnet22":
        return MeliusNet22Factory(**small).build()
    if name == "realtobinarynet":
        return (RealToBinNetBNNFactory if full else NarrowRealToBin)(**small).build()
    if name == "binaryresnete18":
        return (BinaryResNetE18Factory(**small) if full else NarrowResNetE18(**small, initial_filters=16)).build()
    if name == "xnornet":
        with narrowed(1 if full else 8):
            return XNORNetFactory(**large).build()
    if not full:
        # Its classifier is a convolution: narrowed as well.
        small["num_classes"] = 8 * CLASSES
    with narrowed(1 if full else 8):
        return BinaryAlexNetFactory(**small).build()


ABOUT = {
    "quicknet": "QuickNet, widths 16 to 128 (paper: 64 to 512), 64 x 64 images",
    "birealnet": "Bi-Real-Net-18, widths 16 to 128 (paper: 64 to 512), 64 x 64 images",
    "binarydensenet28": "BinaryDenseNet28, growth 16 (paper: 64), 64 x 64 images",
    "meliusnet22": "MeliusNet22 at its paper's width, 64 x 64 images",
    "realtobinarynet": "Real-to-Binary-Net-18, widths 16 to 128 (paper: 64 to 512), 64 x 64 images",
    "xnornet": "XNOR-Net (AlexNet), an eighth of its paper's width, 224 x 224 images",
    "binaryalexnet": "Binary AlexNet, an eighth of its paper's width, 64 x 64 images",
    "binaryresnete18": "Binary ResNet-E-18, widths 16 to 128 (paper: 64 to 512), 64 x 64 images",
}


def draw(model: Any, drawn: Drawn) -> None:
    """Fill all parameters and statistics; statistics come from one pass over random images."""
    norms = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
    for layer in model.layers:
        names = [weight.name.rpartition("/")[2].partition(":")[0] for weight in layer.weights]
        layer.set_weights([_value(layer, name, w, drawn) for name, w in zip(names, layer.get_weights(), strict=True)])
    for norm in norms:
        norm.momentum = 0.0
    model(drawn.images((8, *model.input_shape[1:])), training=True)
    for norm in norms:
        *kept, mean, variance = norm.get_weights()
        norm.set_weights([*kept, *drawn.statistics(mean, variance)])


def _value(layer: Any, name: str, old: Any, drawn: Drawn) -> Any:
    """A parameter's value, by its layer and its name; one that must not be drawn stays as it is."""
    quantised = getattr(layer, "kernel_quantizer", None) is not None
    if isinstance(layer, tf.keras.layers.DepthwiseConv2D) and not layer.trainable:
        return old  # the blur of QuickNet's pooling
    if name in ("kernel", "depthwise_kernel"):
        depthwise = isinstance(layer, tf.keras.layers.DepthwiseConv2D)
        fan_in = int(np.prod(old.shape[:2])) if depthwise else int(np.prod(old.shape[:-1]))
        return drawn.latent(old.shape) if quantised else drawn.real(old.shape, fan_in)
    if name == "gamma":
        return drawn.gamma(old.size)
    if name in ("beta", "bias"):
        return drawn.offset(old.size)
    if name == "alpha":
        return drawn.slope(old.size).reshape(old.shape)
    return old


def is_binary(layer: Any) -> bool:
    """Whether a layer binarises both its input and its kernel."""
    return bool(getattr(layer, "input_quantizer", None)) and bool(getattr(layer, "kernel_quantizer", None))


def main() -> None:
    """Write the fixtures."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with recorder("larq", PACKAGES) as record:
        for number, (name, about) in enumerate(ABOUT.items()):
            if not record.wants(name):
                continue
            tf.keras.backend.clear_session()
            model = network(name, record.full)
            draw(model, Drawn(number))
            exported, _ = tf2onnx.convert.from_keras(model, opset=17)
            about = f"{about.partition(',')[0]} at its paper's width" if record.full else about
            record.write(
                name,
                about,
                exported,
                (2, *model.input_shape[1:]),
                sum(map(is_binary, model.layers)),
                lambda x, model=model: model(x, training=False).numpy(),
            )


if __name__ == "__main__":
    main()
