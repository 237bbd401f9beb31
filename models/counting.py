"""Parameters, multiply-accumulates and per-element work of a torch network, counted from what it is and what
it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from models.activations import Binarise
from models.channels import ChannelScale, LearnableBias, PRelu
from models.layers import ConvClassifier, DepthwiseConv2d, Layer, LinearClassifier
from models.zoo import plan_of


def _kind(layer: Layer, first: Layer) -> str:
    """`stem`, `classifier`, `depthwise`, or like `binary 3x3`, `real 1x1`, `binary linear`."""
    if layer is first:
        return "stem"
    if isinstance(layer, (LinearClassifier, ConvClassifier)):
        return "classifier"
    if isinstance(layer, DepthwiseConv2d):
        return "depthwise"
    size = "x".join(str(n) for n in layer.weight.shape[2:]) or "linear"
    return f"{'real' if layer.weighting is None else 'binary'} {size}"


def _layers(network: nn.Module) -> dict[Layer, str]:
    layers = [module for module in network.modules() if isinstance(module, Layer)]
    return {layer: _kind(layer, layers[0]) for layer in layers}


def parameters(network: nn.Module) -> Counter[str]:
    """Trainable parameters by kind: layers' weights as `_kind` names them and their biases (`... bias`),
    `norm` (the stem's apart: `stem norm`), `prelu`, `learnable bias`, `scale`.  A parameter that two modules
    share counts once."""
    seen: set[int] = set()
    count: Counter[str] = Counter()

    def add(kind: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and id(parameter) not in seen:
            seen.add(id(parameter))
            count[kind] += parameter.numel()

    layers = _layers(network)
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for module in network.modules():
        if isinstance(module, Layer):
            add(layers[module], module.weight)
            add(f"{layers[module]} bias", module.bias)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            for parameter in module.parameters():
                add(
                    "stem norm" if module is norms[0] and isinstance(module, nn.BatchNorm2d) else "norm",
                    parameter,
                )
        else:
            kinds: dict[type[nn.Module], str] = {
                PRelu: "prelu",
                LearnableBias: "learnable bias",
                ChannelScale: "scale",
            }
            for parameter in module.parameters(recurse=False):
                add(kinds[type(module)], parameter)
    return count


class _Products(TorchFunctionMode):
    """Counts the multiply-accumulates of every convolution and product that runs, from the operands that it
    is given."""

    def __init__(self) -> None:
        self.current = ""
        self.count: Counter[str] = Counter()

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in (F.conv2d, F.linear):
            self.count[self.current] += result.numel() * args[1][0].numel()
        return result


def _run(network: nn.Module) -> None:
    device = next(network.parameters()).device
    with torch.no_grad():
        network(torch.zeros(1, *plan_of(network).image, device=device))


def macs(network: nn.Module) -> Counter[str]:
    """Multiply-accumulates for one image by kind of layer.  Works on the meta device, where nothing is
    computed."""
    products = _Products()
    layers = _layers(network)

    def enter(layer: nn.Module, _args: object) -> None:
        assert isinstance(layer, Layer)
        products.current = layers[layer]

    hooks = [layer.register_forward_pre_hook(enter) for layer in layers]
    try:
        with products:
            _run(network)
    finally:
        for hook in hooks:
            hook.remove()
    return products.count


def elementwise(network: nn.Module) -> int:
    """Per-element work for one image in the convention of THEORY section 1: an operation for each output
    element of BatchNormalization, PReLU, learnable bias, scale and binarisation, one for each output of an
    average pooling and each input element of a global one."""
    total = 0

    def hook(module: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        nonlocal total
        total += args[0].numel() if isinstance(module, nn.AdaptiveAvgPool2d) else y.numel()

    kinds = (
        nn.modules.batchnorm._BatchNorm,
        PRelu,
        LearnableBias,
        ChannelScale,
        Binarise,
        nn.AvgPool2d,
        nn.AdaptiveAvgPool2d,
    )
    hooks = [module.register_forward_hook(hook) for module in network.modules() if isinstance(module, kinds)]
    try:
        _run(network)
    finally:
        for handle in hooks:
            handle.remove()
    return total
