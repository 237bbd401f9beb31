"""Networks that teach: torch modules, and ONNX files that onnxruntime runs."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

from reptran_compiler.errors import BadInput
from reptran_compiler.model.io import read_model
from reptran_compiler.runtime import Level, RuntimeFailure, Session

#: Images, floats [n, C, H, W], to logits, floats [n, K].
Teacher = Callable[[Tensor], Tensor]


def module_teacher(network: nn.Module) -> Teacher:
    """A torch network as a teacher: in eval mode, without gradients."""
    network.eval()

    def teach(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = network(images)
        return logits

    return teach


def onnx_teacher(path: str | os.PathLike[str], threads: int = 1) -> Teacher:
    """An ONNX file as a teacher, run on the CPU: its first output is the logits.

    Args:
        path: the file.
        threads: of onnxruntime.

    Raises:
        BadInput: it cannot be read, does not load, or has not one input. The teacher itself raises it where images do
            not fit.
    """
    name = os.fspath(path)
    model = read_model(path).model
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in stored]
    if len(inputs) != 1:
        raise BadInput(f"the teacher {name} has {len(inputs)} inputs: one is fed, images")
    try:
        session = Session(model, level=Level.ALL, threads=threads)
    except RuntimeFailure as error:
        raise BadInput(f"the teacher {name} does not load in onnxruntime: {error}") from None

    def teach(images: Tensor) -> Tensor:
        feed = images.detach().to("cpu", torch.float32).numpy()
        try:
            logits = session.run({inputs[0]: feed})[session.output_names[0]]
        except RuntimeFailure as error:
            raise BadInput(f"the teacher {name} does not run on images {list(images.shape)}: {error}") from None
        return torch.from_numpy(logits.copy()).to(images.device)

    return teach
