"""From a network of torch modules to an ONNX model."""

from __future__ import annotations

import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from reptran_compiler import provenance
from reptran_compiler.model.convert import INITIALIZERS_ARE_NO_INPUTS
from reptran_compiler.training.holding import Holding
from reptran_compiler.training.network import Network
from reptran_compiler.training.straight_through import WeightSign


def to_onnx(network: nn.Module) -> ModelProto:
    """The ONNX model of a network that `to_torch` made, with its parameters as they are now.

    The graph is the one that it was read from: operators, names, dynamic axes and metadata.  Normalisations that were
    folded are folded again, binary weights that were stored as such are stored so.  The metadata of a Rep network no
    longer says that it was verified: `reptran-verify ORIGINAL REP --retrained` does that.

    Args:
        network: a network of `to_torch`, or a module around one (`DistributedDataParallel`, an average of weights).

    Raises:
        ValueError: there is no such network in it, or there are several; it was converted to another type; or its
            binary weights are real just now, as in the first of two steps of training.
    """
    inner = network_in(network)
    model = ModelProto()
    model.CopyFrom(inner.blueprint.model)
    before = {tensor.name: tensor for tensor in model.graph.initializer}
    kinds: dict[str, int] = {}
    for (index, position), name in inner.blueprint.operands.items():
        read = model.graph.node[index].input
        kinds[name] = before[read[position]].data_type
        read[position] = name
    for name, value in _written(inner).items():
        made = _stored(name, value)
        if made.data_type != kinds[name]:
            there, here = (TensorProto.DataType.Name(kind).lower() for kind in (kinds[name], made.data_type))
            raise ValueError(f"{name!r} is {there} in the file and {here} here: convert the network, as by .float()")
        if name in before:
            made.doc_string = before[name].doc_string
            before[name].CopyFrom(made)
        else:
            model.graph.initializer.append(made)
            if model.ir_version < INITIALIZERS_ARE_NO_INPUTS:
                model.graph.input.append(helper.make_tensor_value_info(name, made.data_type, list(made.dims)))
    provenance.record_training(model)
    return model


def network_in(network: nn.Module) -> Network:
    """The one network of `to_torch` that a module is, or holds.

    Raises:
        ValueError: there is none, or there are several.
    """
    found = [each for each in network.modules() if isinstance(each, Network)]
    if len(found) != 1:
        raise ValueError(f"{type(network).__name__} holds {len(found) or 'no'} networks that to_torch made; give one")
    return found[0]


def _written(network: Network) -> dict[str, Tensor]:
    """What the file stores, by name.

    Raises:
        ValueError: binary weights are real just now.
    """
    made: dict[str, Tensor] = {}
    if any(isinstance(module, WeightSign) and module.real for module in network.modules()):
        raise ValueError("its binary weights are used as real ones just now (`real`), which the file cannot say")
    with torch.no_grad():
        for module in network.modules():
            for name, value in module.written().items() if isinstance(module, Holding) else ():
                there = made.setdefault(name, value)
                assert torch.allclose(there, value, 0, 0, equal_nan=True), f"{name!r} would be written differently"
    return made


def _stored(name: str, value: Tensor) -> TensorProto:
    value = value.detach().cpu().contiguous()
    if value.dtype is torch.bfloat16:
        raw = value.view(torch.int16).numpy().tobytes()
        return TensorProto(name=name, dims=list(value.shape), data_type=TensorProto.BFLOAT16, raw_data=raw)
    return numpy_helper.from_array(value.numpy(), name)
