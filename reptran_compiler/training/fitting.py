"""Whether a network, its images and its teacher fit together: seen before anything is measured or trained."""

from __future__ import annotations

from typing import Any

import torch
from onnx import TypeProto
from torch import Tensor, nn

from reptran_compiler.errors import BadInput
from reptran_compiler.training.data import Dataset
from reptran_compiler.training.network import Network
from reptran_compiler.training.operators import torch_dtype
from reptran_compiler.training.teachers import Teacher

_CPU = torch.device("cpu")


def float_type(network: nn.Module) -> torch.dtype:
    """The type in which a network expects its images: that of its file's input, or of its parameters."""
    stated = _stated(network)
    if stated is not None:
        return torch_dtype(stated.elem_type)
    return next((each.dtype for each in network.parameters() if each.is_floating_point()), torch.float32)


def see_images(network: nn.Module, dataset: Dataset, device: torch.device = _CPU) -> Any:
    """See that a network takes a data set's images.

    Args:
        network: it is in evaluation mode afterwards.
        dataset: the images.
        device: where the network is.

    Returns:
        What it makes of two black ones.

    Raises:
        BadInput: it does not take them, or its file would not.
    """
    shape = list(dataset.train.shape)
    stated = _stated(network)
    if stated is not None:
        axes = [axis.dim_value or axis.dim_param or "?" for axis in stated.shape.dim]
        kind = float_type(network)
        if not kind.is_floating_point:
            raise BadInput(f"the network reads {str(kind).removeprefix('torch.')}, and images are fed as floats")
        if len(axes) != 4 or any(size not in (0, own) for size, own in zip(_sizes(stated)[1:], shape, strict=True)):
            raise BadInput(f"the network does not take images {shape} of {dataset.name}: its file says {axes}")
    network.eval()
    try:
        with torch.no_grad():
            return network(torch.zeros((2, *shape), dtype=float_type(network), device=device))
    except (RuntimeError, ValueError, IndexError) as error:
        said = " ".join(str(error).split())
        fixed = _sizes(stated)[0] if stated is not None else 0
        hint = f" (its file is for batches of {fixed}: export it with a dynamic batch axis)" if fixed else ""
        raise BadInput(f"the network does not take images {shape} of {dataset.name}: {said}{hint}") from None


def see_fit(network: nn.Module, dataset: Dataset, device: torch.device = _CPU, teacher: Teacher | None = None) -> None:
    """See that a network takes a data set's images and knows its classes, and that its teacher does.

    Args:
        network, dataset, device: as for `see_images`.
        teacher: who teaches it.

    Raises:
        BadInput: it does not.
    """
    logits = see_images(network, dataset, device)
    if not isinstance(logits, Tensor):
        raise BadInput(f"the network has {len(logits)} outputs: one is trained, the numbers of the classes")
    given, classes = list(logits.shape), dataset.classes
    if given[:1] != [2] or len(given) != 2 or given[1] < classes:
        raise BadInput(f"{dataset.name} has {classes} classes, and the network gives {given[1:]} numbers an image")
    if teacher is not None:
        taught = list(teacher(torch.zeros((2, *dataset.train.shape), device=device)).shape)
        if taught != given:
            raise BadInput(f"the teacher gives {taught[1:]} numbers an image, and the network {given[1:]}")


def _stated(network: nn.Module) -> TypeProto.Tensor | None:
    """What a file says of its only input; None of a network that is from none, or has several."""
    if not isinstance(network, Network) or len(network.inputs) != 1:
        return None
    found: TypeProto.Tensor = next(
        each.type.tensor_type for each in network.blueprint.model.graph.input if each.name == network.inputs[0]
    )
    return found


def _sizes(stated: TypeProto.Tensor) -> list[int]:
    """The sizes that a file states, 0 where it leaves one open."""
    return [axis.dim_value for axis in stated.shape.dim]
