"""ONNX operators without parameters, as functions of torch tensors.

A feature map has the layout of the file, [N, C, ...] for convolutions and pooling. What a file stores of an operator
(shapes, axes, pads, bounds) is taken when the operator is read; only what depends on the inputs is computed in a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, reduce
from types import MappingProxyType

import numpy as np
import torch
from onnx import TensorProto, helper
from torch import Tensor
from torch.nn import functional as F

from reptran_compiler.training.pooling import pool, pool_globally
from reptran_compiler.training.shaping import SHAPING
from reptran_compiler.training.sites import Reading, Run, Site, Unsupported, integers

#: The defaults of Selu's attributes.
_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def torch_dtype(kind: int) -> torch.dtype:
    """The torch dtype of an ONNX data type.

    Raises:
        Unsupported: torch has none.
    """
    if kind == TensorProto.BFLOAT16:
        return torch.bfloat16
    try:
        return torch.from_numpy(np.zeros((), helper.tensor_dtype_to_np_dtype(kind))).dtype
    except TypeError:
        raise Unsupported(f"torch has no {TensorProto.DataType.Name(kind).lower()}") from None


def _all(run: Run) -> Callable[[Site], Reading]:
    return lambda site: Reading(run, tuple(range(len(site.node.inputs))))


def _fold(run: Run, *tensors: Tensor) -> Tensor:
    return reduce(run, tensors)


def _divide(x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.dtype.is_floating_point else torch.div(x, y, rounding_mode="trunc")


def _average(*tensors: Tensor) -> Tensor:
    return reduce(torch.add, tensors) / len(tensors)


def _clip(site: Site) -> Reading:
    bounds = [site.value(1, "min"), site.value(2, "max")]
    low, high = (None if each is None else float(np.asarray(each).reshape(-1)[0]) for each in bounds)
    if low is None and high is None:
        return Reading(_same, (0,))
    return Reading(partial(_clamp, low=low, high=high), (0,))


def _clamp(x: Tensor, low: float | None, high: float | None) -> Tensor:
    if low is not None and high is not None and low < high and x.dtype.is_floating_point:
        return F.hardtanh(x, low, high)  # the same, with a gradient in one pass
    return torch.clamp(x, min=low, max=high)


def _same(x: Tensor) -> Tensor:
    return x


def _cast(site: Site) -> Reading:
    return Reading(partial(torch.Tensor.to, dtype=torch_dtype(int(site.attribute("to")))), (0,))


def _softmax(site: Site, run: Run) -> Reading:
    if site.opset >= 13:
        return Reading(partial(run, dim=int(site.attribute("axis", -1))), (0,))
    return Reading(partial(_flat_softmax, run=run, axis=int(site.attribute("axis", 1))), (0,))


def _flat_softmax(x: Tensor, run: Run, axis: int) -> Tensor:
    """Before opset 13, over all axes from one on."""
    made: Tensor = run(x.flatten(axis % x.dim()), dim=-1).reshape(x.shape)
    return made


def _reduce(site: Site, run: Run) -> Reading:
    axes, keep = site.value(1, "axes"), bool(site.attribute("keepdims", 1))
    held, noop = () if axes is None else integers(axes), bool(site.attribute("noop_with_empty_axes", 0))
    if noop and not held:
        return Reading(partial(_alone, run=run), (0,))
    return Reading(partial(_reduced, run=run, axes=held, keep=keep), (0,))


def _reduced(x: Tensor, run: Run, axes: tuple[int, ...], keep: bool) -> Tensor:
    """Over some axes, or over all where none is named."""
    made: Tensor = run(x, dim=axes or tuple(range(x.dim())), keepdim=keep)
    return made


def _alone(x: Tensor, run: Run) -> Tensor:
    """Each number by itself: over an axis of one."""
    made: Tensor = run(x[..., None], dim=(-1,), keepdim=False)
    return made


def _l2(x: Tensor, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    return x.square().sum(dim=dim, keepdim=keepdim).sqrt()


def _l1(x: Tensor, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    return x.abs().sum(dim=dim, keepdim=keepdim)


def _sum_of_squares(x: Tensor, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    return x.square().sum(dim=dim, keepdim=keepdim)


def _leaky(site: Site) -> Reading:
    return Reading(partial(F.leaky_relu, negative_slope=float(site.attribute("alpha", 0.01))), (0,))


def _selu(site: Site) -> Reading:
    alpha, gamma = (float(site.attribute(*each)) for each in (("alpha", _SELU_ALPHA), ("gamma", _SELU_GAMMA)))
    return Reading(partial(_scaled_elu, alpha=alpha, gamma=gamma), (0,))


def _scaled_elu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    return gamma * F.elu(x, alpha)


def _mod(site: Site) -> Reading:
    return Reading(torch.fmod if site.attribute("fmod", 0) else torch.remainder, (0, 1))


def _dropout(site: Site) -> Reading:
    if len([name for name in site.node.outputs if name]) > 1:
        raise Unsupported("its mask is read")
    if site.opset >= 12 and np.any(site.value(2, default=False)):
        raise Unsupported("it runs in training mode: export the network in inference mode (model.eval())")
    return Reading(_same, (0,))


def _elu(site: Site) -> Reading:
    return Reading(partial(F.elu, alpha=float(site.attribute("alpha", 1.0))), (0,))


def _hard_sigmoid(site: Site) -> Reading:
    alpha, beta = float(site.attribute("alpha", 0.2)), float(site.attribute("beta", 0.5))
    return Reading(partial(_hard, alpha=alpha, beta=beta), (0,))


def _hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


def _power(x: Tensor, y: Tensor) -> Tensor:
    return torch.pow(x, y).to(x.dtype)


_FUNCTIONS: Mapping[str, Run] = MappingProxyType(
    {
        "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": _divide, "Pow": _power,
        "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Less": torch.lt, "LessOrEqual": torch.le,
        "Equal": torch.eq, "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
        "Where": torch.where, "MatMul": torch.matmul,
        "Max": partial(_fold, torch.maximum), "Min": partial(_fold, torch.minimum),
        "Sum": partial(_fold, torch.add), "Mean": _average,
        "Abs": torch.abs, "Ceil": torch.ceil, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor,
        "HardSwish": F.hardswish, "Identity": _same, "Log": torch.log, "Mish": F.mish, "Neg": torch.neg,
        "Not": torch.logical_not, "Reciprocal": torch.reciprocal, "Relu": torch.relu,
        "Sigmoid": torch.sigmoid, "Softplus": F.softplus, "Softsign": F.softsign, "Sqrt": torch.sqrt,
        "Tanh": torch.tanh,
        "GlobalAveragePool": partial(pool_globally, run=torch.mean),
        "GlobalMaxPool": partial(pool_globally, run=torch.amax),
    }
)  # fmt: skip
_REDUCTIONS: Mapping[str, Run] = MappingProxyType(
    {"Mean": torch.mean, "Sum": torch.sum, "Max": torch.amax, "Min": torch.amin, "L1": _l1, "L2": _l2,
     "SumSquare": _sum_of_squares}
)  # fmt: skip

#: How the operators without parameters run, by type.
OPERATORS: Mapping[str, Callable[[Site], Reading]] = MappingProxyType(
    {
        **{name: _all(run) for name, run in _FUNCTIONS.items()},
        **SHAPING,
        **{f"Reduce{name}": partial(_reduce, run=run) for name, run in _REDUCTIONS.items()},
        "AveragePool": partial(pool, average=True),
        "Cast": _cast,
        "Clip": _clip,
        "Dropout": _dropout,
        "Elu": _elu,
        "HardSigmoid": _hard_sigmoid,
        "LeakyRelu": _leaky,
        "LogSoftmax": partial(_softmax, run=F.log_softmax),
        "MaxPool": partial(pool, average=False),
        "Mod": _mod,
        "Selu": _selu,
        "Softmax": partial(_softmax, run=F.softmax),
    }
)
