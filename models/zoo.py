"""The networks by name, and how one is built: as its paper has it, or in its RepTran form."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from models.alexnet import AlexNet
from models.bireal import BiRealNet18
from models.channels import Fused, PerChannel
from models.dense import BinaryDenseNet28, MeliusNet22
from models.drawing import draw
from models.layers import Layer
from models.mlp import BinaryMLP
from models.reactnet import ReActNet
from models.real2binary import RealToBinary18
from models.resnet20 import FractionalConv, IRConv, ReCUConv, ResNet20
from models.shufflenet import ShuffleNetV2
from models.vgg import VGGSmall


@dataclass(frozen=True)
class Entry:
    """A network of the zoo.

    `make(classes=, size=, beta=)` constructs it; `about` is one line for `python -m models list`; `channels`
    and `classes` are of the paper's data set; `size` is the image size by default, `paper_size` the paper's,
    `smallest` the least that its pooling leaves something of.
    """

    make: Callable[..., nn.Module]
    about: str
    channels: int = 3
    classes: int = 1000
    size: int = 64
    paper_size: int = 224
    smallest: int = 1


cifar = partial(Entry, classes=10, size=32, paper_size=32)

ZOO: dict[str, Entry] = {
    "reactnet-a": Entry(ReActNet, "ReActNet-A, MobileNetV1-like; polynomial residue"),
    "reactnet-18": Entry(partial(BiRealNet18, react=True), "ReActNet on ResNet-18; clip residue"),
    "bireal-18": Entry(BiRealNet18, "Bi-Real Net 18; polynomial residue"),
    "adambnn-step1": Entry(
        partial(ReActNet, weighting=None), "AdamBNN's step-1 network; binary activations, real weights"
    ),
    "recu-resnet20": cifar(
        partial(ResNet20, unit=ReCUConv, average=True),
        "ReCU ResNet-20; bare Sign, AvgPool and Pad of channels",
    ),
    "recu-vgg-small": cifar(VGGSmall, "ReCU VGG-small; identity residue, Flatten of C x H x W"),
    "irnet-resnet20": cifar(
        partial(ResNet20, unit=IRConv, average=False),
        "IR-Net ResNet-20; tanh residue, standardised weights, strided Slice and Pad",
    ),
    "xnor-alexnet": Entry(
        AlexNet,
        "XNOR-Net AlexNet; stored binary weights, hidden linear layers, cast of x >= 0",
        size=99,
        paper_size=227,
        smallest=99,
    ),
    "binary-mlp": Entry(BinaryMLP, "BinaryNet's MLP; all layers binary, where(x >= 0)", 1, 10, size=28, paper_size=28),
    "binarydensenet-28": Entry(BinaryDenseNet28, "BinaryDenseNet-28; growth by Concat, cast of x >= 0"),
    "meliusnet-22": Entry(MeliusNet22, "MeliusNet-22; Split, Slice, Concat, real grouped layers, nested Sign"),
    "real2binary-18": Entry(RealToBinary18, "Real-to-Binary ResNet-18; squeeze-and-excite, identity residue"),
    "binary-shufflenet": Entry(
        ShuffleNetV2, "ShuffleNet V2 1.5x; shuffle, grouped binary, real depthwise, 1x1 classifier"
    ),
    "fracbnn-resnet20": cifar(
        partial(ResNet20, unit=FractionalConv, average=False),
        "FracBNN ResNet-20; two convolutions read each latent weight, nested Sign",
    ),
    "reactnet-tiny": cifar(partial(ReActNet, widths=(16, 32, 32, 64)), "a narrow ReActNet-A, for examples"),
}


@dataclass(frozen=True)
class Plan:
    """What a network was built from: enough to construct it again for another beta."""

    name: str
    classes: int
    size: int
    beta: int = 1

    @property
    def image(self) -> tuple[int, int, int]:
        """The shape of one input: (channels, height, width)."""
        return ZOO[self.name].channels, self.size, self.size

    def construct(self) -> nn.Module:
        """The network in eval mode, with parameters that nothing has set."""
        network = ZOO[self.name].make(classes=self.classes, size=self.size, beta=self.beta)
        network.plan = self  # type: ignore[assignment]
        return network.eval()


def plan_of(network: nn.Module) -> Plan:
    """The plan of a network made by `build` or `rep_form`; raises TypeError for others."""
    plan = getattr(network, "plan", None)
    if not isinstance(plan, Plan):
        raise TypeError(f"{type(network).__name__} was not built by models.build")
    return plan


def plan(name: str, *, beta: int = 1, size: int | None = None, classes: int | None = None) -> Plan:
    """The plan of a network of the zoo, with its defaults filled in; raises KeyError for a name that is not
    there."""
    if name not in ZOO:
        raise KeyError(f"no network {name!r}; there are {', '.join(ZOO)}")
    entry = ZOO[name]
    return Plan(name, entry.classes if classes is None else classes, entry.size if size is None else size, beta)


def build(
    name: str,
    beta: int = 1,
    seed: int = 0,
    *,
    size: int | None = None,
    classes: int | None = None,
    negative_gamma: bool = False,
) -> nn.Module:
    """A network of the zoo in eval mode, its parameters drawn from `seed`; for beta > 1 the RepTran form of
    the same network.

    `size` is the image's height and width, `classes` the classifier's outputs (default: see `Entry`).
    `negative_gamma` gives a third of the BatchNormalization channels a negative scale.  Raises KeyError for
    an unknown name and ValueError where beta does not divide a layer's filters."""
    original = plan(name, size=size, classes=classes)
    network = original.construct()
    draw(network, original.image, seed, negative_gamma=negative_gamma)
    return network if beta == 1 else rep_form(network, beta)


def rep_form(network: nn.Module, beta: int) -> nn.Module:
    """The RepTran form of an original network (from `build` or `fuse`), with parameters derived from its own
    (see `inherit`)."""
    if plan_of(network).beta != 1:
        raise ValueError("this is a RepTran form already")
    return inherit(replace(plan_of(network), beta=beta).construct(), network)


def inherit(wide: nn.Module, network: nn.Module) -> nn.Module:
    """Fill `wide`, the same class constructed for another beta, from the original `network`; returns it.
    `network` stays as it is.

    Module by module, each in its own way: a RepConv takes the weights as they are, per-channel operators take
    beta copies of their parameters, the stem is the same, the classifier is widened.  A BatchNormalization
    that `fuse` has removed is removed."""
    source = copy.deepcopy(network)
    originals = dict(source.named_modules())
    for name, module in list(wide.named_modules()):
        original = originals[name]
        if isinstance(original, Fused):
            parent, _, leaf = name.rpartition(".")
            setattr(wide.get_submodule(parent), leaf, Fused())
        elif isinstance(module, (Layer, PerChannel)):
            module.inherit(original)
    return wide.requires_grad_(False)
