"""Torch modules drawn from a seed and exported: shared by the toolchains that are made of torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from recording import Drawn, Recorder
from torch import nn

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class Network:
    """A network to export.

    Attributes:
        build: makes it.
        shape: an input's shape, without the batch.
        about: a sentence on it.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    about: str


@torch.no_grad()
def draw(network: nn.Module, shape: tuple[int, ...], drawn: Drawn, binary: Callable[[nn.Module], bool]) -> None:
    """Fill all parameters and statistics of a network, and leave it in eval mode.

    Args:
        network: the network; statistics come from one pass over random images.
        shape: an input's shape, without the batch.
        drawn: what is drawn from.
        binary: whether a layer's weights are binarised."""
    norms = [module for module in network.modules() if isinstance(module, NORMS)]
    for module in network.modules():
        if isinstance(module, NORMS):
            module.momentum = 1.0
            _set(module.weight, drawn.gamma(module.num_features))
            _set(module.bias, drawn.offset(module.num_features))
        elif isinstance(module, nn.PReLU):
            _set(module.weight, drawn.slope(module.weight.numel()))
        elif isinstance(module, (nn.Conv2d, nn.Linear)) and not _blurs(module):
            size = tuple(module.weight.shape)
            values = drawn.latent(size) if binary(module) else drawn.real(size, module.weight[0].numel())
            _set(module.weight, values)
            if module.bias is not None:
                _set(module.bias, drawn.offset(size[0]))
        alpha = getattr(module, "alpha", None)
        if isinstance(alpha, nn.Parameter):
            _set(alpha, drawn.scale(alpha.numel()))
    network.train()
    torch.manual_seed(0)  # of Dropout
    network(torch.from_numpy(drawn.images((16, *shape))))
    network.eval()
    for norm in norms:
        assert norm.running_mean is not None and norm.running_var is not None, "they track statistics"
        mean, variance = drawn.statistics(norm.running_mean.numpy(), norm.running_var.numpy())
        _set(norm.running_mean, mean)
        _set(norm.running_var, variance)


def _set(tensor: torch.Tensor, values: Any) -> None:
    tensor.copy_(torch.from_numpy(values).view_as(tensor))


def _blurs(module: nn.Conv2d | nn.Linear) -> bool:
    """Whether a layer is depthwise with one kernel for all channels: anti-aliased pooling, which is not trained."""
    if not isinstance(module, nn.Conv2d) or not module.groups == module.in_channels > 1:
        return False
    return bool(torch.equal(module.weight, module.weight[:1].expand_as(module.weight)))


@torch.no_grad()
def run(network: nn.Module, images: Any) -> Any:
    """The network's output as numpy."""
    return network(torch.from_numpy(images)).numpy()


def exported(network: nn.Module, shape: tuple[int, ...], dynamo: bool) -> onnx.ModelProto:
    """The file that torch's own exporters make of a network, its batch dynamic."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "network.onnx")
        images = torch.zeros(2, *shape)
        names: dict[str, Any] = dict(input_names=["images"], output_names=["logits"])
        if dynamo:
            batch = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(network, (images,), file, dynamo=True, dynamic_shapes=batch, verbose=False, **names)
        else:
            axes = {"images": {0: "batch"}, "logits": {0: "batch"}}
            torch.onnx.export(network, (images,), file, dynamo=False, dynamic_axes=axes, opset_version=17, **names)
        return without_traces(onnx.load(str(file)))


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model less the stack traces that dynamo notes for each node: paths of the machine, which no reader needs."""
    for node in model.graph.node:
        kept = [note for note in node.metadata_props if note.key != "pkg.torch.onnx.stack_trace"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    return model


def write(record: Recorder, networks: Mapping[str, Network], binary: Callable[[nn.Module], bool], seed: int) -> None:
    """Export networks with both exporters, and write them down.

    Args:
        record: what writes.
        networks: by name.
        binary: whether a layer's weights are binarised.
        seed: of the parameters."""
    torch.set_num_threads(1)
    for number, (name, network) in enumerate(networks.items()):
        for exporter in ("dynamo", "torchscript"):
            if not record.wants(f"{name}-{exporter}"):
                continue
            net = network.build()
            draw(net, network.shape, Drawn(seed + number), binary)
            record.write(
                f"{name}-{exporter}",
                f"{network.about}, torch.onnx.export(dynamo={exporter == 'dynamo'})",
                exported(net, network.shape, exporter == "dynamo"),
                (2, *network.shape),
                sum(map(binary, net.modules())),
                lambda x, net=net: run(net, x),
            )
