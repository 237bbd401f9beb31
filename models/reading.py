"""What a raw export shows of the network it was made from: fusions that the exporter did, and where each
binarisation went."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
from torch import nn

from models.activations import Binarise
from models.fusing import norm_names

DECIDING = {"Sign", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"}


def _load(file: str | Path | onnx.ModelProto) -> onnx.ModelProto:
    return file if isinstance(file, onnx.ModelProto) else onnx.load(str(file), load_external_data=False)


def fused_norms(network: nn.Module, file: str | Path | onnx.ModelProto) -> list[str]:
    """The names of those BatchNormalization modules that an export of `network` no longer has, for
    `models.fuse`."""
    model = _load(file)
    alias = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Identity"}

    def resolve(name: str) -> str:
        while name in alias:
            name = alias[name]
        return name

    kept = {resolve(node.input[3]) for node in model.graph.node if node.op_type == "BatchNormalization"}
    return [name for name in norm_names(network) if f"{name}.running_mean" not in kept]


@dataclass(frozen=True)
class Binarised:
    """One binarisation of a map: its module's name, the tensor that enters it in the file, and the one that
    leaves it."""

    name: str
    before: str
    after: str


def _origin(node: onnx.NodeProto) -> str:
    """The module that a node was exported from: dynamo's dotted name, TorchScript's path, or "" where the
    file does not say."""
    for note in node.metadata_props:
        if note.key == "pkg.torch.onnx.name_scopes":
            scopes: list[str] = [part.strip(" '\"") for part in note.value.strip("[]").split(",")]
            return scopes[-2] if len(scopes) > 1 else ""
    return node.name.rpartition("/")[0]


def _path(name: str) -> str:
    """TorchScript's path of a module: `blocks.0.sign1` is /blocks/blocks.0/sign1."""
    steps: list[str] = []
    for part in name.split("."):
        steps.append(f"{steps[-1]}.{part}" if part.isdigit() and steps else part)
    return "/" + "/".join(steps)


def binarisations(network: nn.Module, file: str | Path | onnx.ModelProto) -> list[Binarised]:
    """Where each binarisation of a map is in an export of `network`, in the order of the file.

    Nodes are recognised by the module that the exporter says they came from, never by what they compute.
    Raises ValueError if a binarisation cannot be found, so that the result always has all of them."""
    model = _load(file)
    names = {name for name, module in network.named_modules() if isinstance(module, Binarise)}
    owners = {spelling: name for name in names for spelling in (name, _path(name))}
    inside: dict[str, list[onnx.NodeProto]] = {}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        if _origin(node) in owners:
            inside.setdefault(owners[_origin(node)], []).append(node)
        for tensor in node.input:
            readers.setdefault(tensor, []).append(node)
    if names - set(inside):
        raise ValueError(f"not in the file: {', '.join(sorted(names - set(inside)))}")
    found = []
    for name, nodes in inside.items():
        deciding = [node for node in nodes if node.op_type in DECIDING]
        mine = {id(node) for node in nodes}
        leaving = [
            node.output[0]
            for node in nodes
            if any(id(r) not in mine and r.op_type != "Shape" for r in readers.get(node.output[0], []))
            and node.op_type not in ("Constant", "Shape")
        ]
        if not deciding or len(leaving) != 1:
            raise ValueError(f"{name}: {len(deciding)} deciding nodes and results {leaving}")
        found.append(Binarised(name, deciding[0].input[0], leaving[0]))
    return found
