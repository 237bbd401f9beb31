"""What is written of a network is verified before."""

from __future__ import annotations

from onnx import ModelProto
from torch import nn

from reptran_compiler.errors import Differs
from reptran_compiler.gate.trained import parameter_failures
from reptran_compiler.runtime import RuntimeFailure
from reptran_compiler.training.agreement import agreement
from reptran_compiler.training.writing import network_in, to_onnx


def verified(network: nn.Module) -> ModelProto:
    """The ONNX model of a network, which onnxruntime was seen to compute the same with.

    Args:
        network: as of `to_onnx`. It is in evaluation mode afterwards.

    Raises:
        Differs: a parameter is no number, onnxruntime does not run the model, or a tensor differs by more
            than the judge allows its type, binarisations forced to agree (exit code 3).
        ValueError: there is no network that `to_torch` made.
    """
    model = to_onnx(network)
    for failure in parameter_failures(model):
        raise Differs(f"the network cannot be written: {failure}; train it with a lower learning rate")
    try:
        found = agreement(network_in(network), model)
    except RuntimeFailure as error:
        raise Differs(f"the network that was made does not run in onnxruntime: {error}") from None
    if not found.share <= 1:
        where = f"tensor {found.tensor!r}: torch and onnxruntime differ by {found.worst:.1e} of its largest value"
        raise Differs(f"verification failed: {where}; nothing was written, please report it")
    return model
