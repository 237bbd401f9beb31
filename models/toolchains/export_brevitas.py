"""Brevitas to QONNX, by both exporters: `python models/toolchains/export_brevitas.py`, in
brevitas.requirements.txt's environment.

CNV, TFC and LFC are those of `brevitas_examples.bnn_pynq`, at their full size; `scaled` is a small network with
what they don't have: zero padding, residual additions, and weights with a scale per filter."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import brevitas.nn as qnn
import onnx
import torch
from brevitas.core.scaling import ScalingImplType
from brevitas.export import export_qonnx
from brevitas.quant import SignedBinaryActPerTensorConst, SignedBinaryWeightPerTensorConst
from brevitas_examples.bnn_pynq.models import model_with_cfg
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.util.cleanup import cleanup_model
from recording import Drawn, recorder
from torch import nn
from torch_networks import draw, run, without_traces

PACKAGES = ("brevitas", "qonnx", "onnxoptimizer", "torch", "onnx", "onnxscript", "numpy")


class PerFilter(SignedBinaryWeightPerTensorConst):  # type: ignore[misc]
    """Signs times a learnt scale of each filter, at first its mean magnitude.  (With STATS, the scale would change in
    every forward pass: brevitas clamps the weights to it in place.)"""

    scaling_per_output_channel = True
    scaling_impl_type = ScalingImplType.PARAMETER_FROM_STATS
    scaling_stats_op = "ave"
    scaling_const = None


class Act(SignedBinaryActPerTensorConst):  # type: ignore[misc]
    """Binarisation to +-1."""

    scaling_const = 1.0


class Scaled(nn.Module):
    """A stem, two residual binary blocks, pooling and a real-valued classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(16) for _ in range(3))
        self.signs = nn.ModuleList(qnn.QuantIdentity(act_quant=Act) for _ in range(2))
        self.convs = nn.ModuleList(
            qnn.QuantConv2d(16, 16, 3, padding=1, bias=False, weight_quant=PerFilter) for _ in range(2)
        )
        self.classifier = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 3, 16, 16] to [N, 10]."""
        x = self.norms[0](self.stem(x))
        for sign, conv, norm in zip(self.signs, self.convs, list(self.norms)[1:], strict=True):
            x = x + norm(conv(sign(x)))
        logits: torch.Tensor = self.classifier(x.mean((2, 3)))
        return logits


def network(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A network and the shape of its input."""
    if name == "scaled":
        return Scaled(), (3, 16, 16)
    made, _ = model_with_cfg(f"{name}_1w1a", False)
    return made, (3, 32, 32) if name == "cnv" else (1, 28, 28)


def execute(model: onnx.ModelProto, feeds: Any) -> list[Any]:
    """Run a file in qonnx's own executor."""
    wrapped = cleanup_model(ModelWrapper(model).transform(InferShapes()))
    (given,), (made,) = [v.name for v in wrapped.graph.input], [v.name for v in wrapped.graph.output]
    (image,) = feeds.values()
    return [execute_onnx(wrapped, {given: image})[made]]


def exported(net: nn.Module, shape: tuple[int, ...], exporter: str) -> onnx.ModelProto:
    """The QONNX file of a network, for one image; of "cleaned", what qonnx' own clean-up makes of dynamo's."""
    if exporter == "cleaned":
        cleaned: onnx.ModelProto = cleanup_model(ModelWrapper(exported(net, shape, "dynamo"))).model
        return cleaned
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "network.onnx")
        export_qonnx(net, args=torch.zeros(1, *shape), export_path=str(file), dynamo=exporter == "dynamo")
        model: onnx.ModelProto = without_traces(onnx.load(str(file)))
        return model


ABOUT = {
    "cnv": "CNV 1W1A of brevitas_examples.bnn_pynq (8-bit input)",
    "tfc": "TFC 1W1A of brevitas_examples.bnn_pynq (binarised input)",
    "lfc": "LFC 1W1A of brevitas_examples.bnn_pynq (binarised input)",
    "scaled": "a residual network with a scale per filter and zero padding",
}


def main() -> None:
    """Write the fixtures."""
    torch.set_num_threads(1)
    with recorder("brevitas", PACKAGES) as record:
        for number, (name, about) in enumerate(ABOUT.items()):
            for exporter in ("dynamo", "torchscript", *(("cleaned",) if name in ("tfc", "scaled") else ())):
                if not record.wants(f"{name}-{exporter}"):
                    continue
                net, shape = network(name)
                binary = (qnn.QuantConv2d, qnn.QuantLinear)
                draw(net, shape, Drawn(100 + number), lambda module, binary=binary: isinstance(module, binary))
                try:
                    model = exported(net, shape, exporter)
                except Exception as error:  # noqa: BLE001 - torch's exporters raise whatever they please
                    sys.exit(f"{name}: {exporter} does not export: {type(error).__name__}: {error}")
                record.write(
                    f"{name}-{exporter}",
                    f"{about}, export_qonnx: {exporter}",
                    model,
                    (1, *shape),
                    # The first layer of CNV, TFC and LFC is binary, and a stem.
                    sum(isinstance(module, binary) for module in net.modules()) - (name != "scaled"),
                    lambda x, net=net: run(net, x),
                    execute,
                )


if __name__ == "__main__":
    main()
