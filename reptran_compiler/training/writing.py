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
    written = {name: _stored(name, value) for name, value in _written(inner).items()}
    apart: set[str] = set()
    for (index, position), name in inner.blueprint.operands.items():
        read, made = model.graph.node[index].input, written[name]
        _see_type(name, before[read[position]].data_type, made.data_type)
        # What the file stores once, and training has not made differ, is stored once again.
        if not _same(made, written.get(read[position], before[read[position]])):
            read[position] = name
        if read[position] == name:
            apart.add(name)
    for name in (each for each in written if each in apart):
        made = written[name]
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


def _see_type(name: str, there: int, here: int) -> None:
    if there != here:
        words = [TensorProto.DataType.Name(kind).lower() for kind in (there, here)]
        raise ValueError(f"{name!r} is {words[0]} in the file and {words[1]} here: convert the network, as by .float()")


def _same(one: TensorProto, other: TensorProto) -> bool:
    """Whether two stored tensors are equal to the bit."""
    if one is other or (one.data_type, one.dims) != (other.data_type, other.dims):
        return one is other
    return bool(numpy_helper.to_array(one).tobytes() == numpy_helper.to_array(other).tobytes())


def _stored(name: str, value: Tensor) -> TensorProto:
    value = value.detach().cpu().contiguous()
    if value.dtype is torch.bfloat16:
        raw = value.view(torch.int16).numpy().tobytes()
        return TensorProto(name=name, dims=list(value.shape), data_type=TensorProto.BFLOAT16, raw_data=raw)
    return numpy_helper.from_array(value.numpy(), name)
