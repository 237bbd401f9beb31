"""An exporter's fusions, done to the torch original: BatchNormalization taken into the layer in front of it.

RepTran acts on a file as it is, and two exports of one network start from different, equally valid points
(THEORY section 3).  To compare a compiled file with a RepTran form in torch, the original first gets the
fusions that the file shows."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.channels import Fused
from models.layers import Layer
from models.zoo import plan_of


def norm_names(network: nn.Module) -> list[str]:
    """The names of all BatchNormalization modules of a network, as `named_modules` has them."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def _layers_in_front(network: nn.Module, image: tuple[int, ...]) -> dict[str, str]:
    """For each BatchNormalization directly behind a layer, that layer: found by watching one image pass."""
    behind: dict[int, tuple[str, Tensor]] = {}
    pairs: dict[str, str] = {}

    def made(name: str, y: Tensor) -> None:
        behind[id(y)] = (name, y)

    def read(name: str, x: Tensor) -> None:
        if id(x) in behind:
            pairs[name] = behind[id(x)][0]

    hooks = [
        module.register_forward_hook(lambda _m, _a, y, name=name: made(name, y))
        for name, module in network.named_modules()
        if isinstance(module, Layer)
    ]
    hooks += [
        network.get_submodule(name).register_forward_pre_hook(lambda _m, a, name=name: read(name, a[0]))
        for name in norm_names(network)
    ]
    try:
        network(torch.zeros(1, *image))
    finally:
        for hook in hooks:
            hook.remove()
    return pairs


@torch.no_grad()
def fuse(network: nn.Module, names: Iterable[str], image: tuple[int, int, int] | None = None) -> nn.Module:
    """A copy of an original network with the named BatchNormalizations folded into the layers directly in
    front of them.

    A real layer's filters are multiplied by gamma / sqrt(var + eps); a binary layer's magnitudes by its
    absolute value, and where gamma is negative the filter's signs flip.  The bias stays with its channel.
    `image` is an input's (channels, height, width), needed only for a network that `models.build` did not
    make.  Raises ValueError for a BatchNormalization with no layer directly in front of it, and KeyError for
    a name that is none."""
    network = copy.deepcopy(network)
    in_front = _layers_in_front(network, plan_of(network).image if image is None else image)
    known = set(norm_names(network))
    for name in names:
        if name not in known:
            raise KeyError(f"no BatchNormalization {name!r}")
        if name not in in_front:
            raise ValueError(f"nothing to fuse {name!r} into: no layer directly in front of it")
        norm, layer = network.get_submodule(name), network.get_submodule(in_front[name])
        assert isinstance(norm, nn.modules.batchnorm._BatchNorm) and isinstance(layer, Layer)
        assert norm.running_mean is not None and norm.running_var is not None
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        layer.fold(factor, norm.bias - norm.running_mean * factor)
        parent, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(parent), leaf, Fused())
    return network
