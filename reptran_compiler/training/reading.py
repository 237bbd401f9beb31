"""From an ONNX model to a network of torch modules that can be trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor, nn

from reptran_compiler.errors import BadInput
from reptran_compiler.model.symbolic import symbolic
from reptran_compiler.training.layers import Arithmetic, Conv, Layer, Linear, PRelu, Product, Stored, Windows
from reptran_compiler.training.network import Blueprint, Network, Step
from reptran_compiler.training.norms import BatchNorm, FoldedNames, FoldedNorm, FusedNorm, KeptNorm
from reptran_compiler.training.operators import OPERATORS
from reptran_compiler.training.parameters import Operand, Parameters, tensor_of
from reptran_compiler.training.recognising import (
    LAYERS,
    Binarisation,
    are_signs,
    behind_layers,
    binarised,
    in_front_of_layers,
    repetition,
)
from reptran_compiler.training.sites import Site, Unsupported
from reptran_compiler.training.sources import Trainable, trained_form
from reptran_compiler.training.straight_through import Round, Sign, WeightSign
from reptran_compiler.verification.protograph import MalformedGraph, NodeView, ProtoGraph

Array = NDArray[Any]

_ARITHMETIC = ("Add", "Sub", "Mul", "Div")


def to_torch(source: Trainable, *, activations: str = "polynomial", weights: str = "clip") -> Network:
    """A network of torch modules that computes what an ONNX model does, and can be trained.

    Latent weights are parameters behind straight-through estimators, and so are binary weights that the file stores as
    they are.  Learnable biases, slopes, scales and the affines of normalisations are parameters; numbers that stand
    alone, shapes and bounds are not.  A scale and an offset behind a layer become a batch normalisation whose
    statistics `calibrate` measures (`norms.FoldedNorm`), but for a classifier's.

    Args:
        source: a model, its file, or the result of a compilation; an original or a Rep network, not lowered.
        activations: the straight-through estimator of feature maps, one of `straight_through.ESTIMATORS`.
        weights: that of weights.

    Returns:
        The network, in training mode, on the processor.

    Raises:
        BadInput: the model cannot be read or does not run, was lowered, or has an operator that cannot be trained
            through.
        ValueError: there is no such estimator.
    """
    model = trained_form(source)
    try:
        return _Reader(ProtoGraph(model), activations, weights).network()
    except MalformedGraph as error:
        raise BadInput(f"the model is malformed: {error}") from None


class _Reader:
    """Reads one graph."""

    def __init__(self, graph: ProtoGraph, activations: str, weights: str) -> None:
        self.graph, self.activations, self.weights = graph, activations, weights
        self.parameters = Parameters(graph)
        self.varying = set(graph.inputs)
        self.absorbed: set[int] = set()
        self.modules: list[tuple[Step, nn.Module]] = []
        self.constants: dict[str, Tensor] = {}
        for node in graph.nodes:
            trains = any(self.parameters.trained(node, at) for at in range(len(node.inputs)))
            varies = any(name in self.varying for name in node.reads)
            if trains or varies or any(name not in graph.constants for name in node.outputs if name):
                self.varying.update(name for name in node.outputs if name)
        self.layered, self.inner = in_front_of_layers(graph), behind_layers(graph)
        self.ranks = {name: len(shape) for name, shape in symbolic(graph.model).shapes.items()}

    def network(self) -> Network:
        """The whole network."""
        for node in self.graph.nodes:
            if node.index not in self.absorbed and any(name in self.varying for name in node.outputs):
                try:
                    self.read(node)
                except Unsupported as error:
                    raise BadInput(f"{node.op} {node.name!r} cannot be trained through: {error}") from None
        for name in self.graph.outputs:
            if name not in self.varying:
                self.hold(name)
        model = ModelProto()
        model.CopyFrom(self.graph.model)
        modules = _read_by_some(self.modules, self.graph.outputs)
        return Network(
            modules, self.graph.inputs, self.graph.outputs, self.constants, Blueprint(model, self.parameters.operands)
        )

    def read(self, node: NodeView) -> None:
        """Add the module of a node, and of those behind it that belong to it."""
        sign = binarised(self.graph, node)
        if node.captured:
            raise Unsupported("it has a body that reads other tensors")
        if sign is not None:
            stored = sign.reader.inputs[0] in self.graph.constants
            made = WeightSign(self.weights, up=sign.up) if stored else Sign(self.activations, up=sign.up)
            self.add(node, made, [self.operand(sign.reader, 0)])
        elif node.op == "Round":
            self.add(node, Round(), node.inputs[:1])
        elif node.op == "Conv" or (node.op in LAYERS and self.weighs(node)):
            self.layer(node)
        elif node.op == "BatchNormalization":
            self.add(node, self.norm(node), node.inputs[:1])
        elif node.op == "PRelu" and self.parameters.trained(node, 1):
            self.add(
                node, self.parameters.held(PRelu(self.parameters.value(node, 1)), {"slope": (node, 1)}), node.inputs[:1]
            )
        elif node.op == "Mul" and (found := self.folded_here(node)) is not None:
            norm, nodes = found
            self.absorbed.update(each.index for each in nodes)
            self.add(node, norm, [each for each in node.inputs if each in self.varying][:1], nodes[1].outputs)
        elif node.op in _ARITHMETIC and self.parameters.trained(node, 0) != self.parameters.trained(node, 1):
            at = 0 if self.parameters.trained(node, 0) else 1
            module = Arithmetic(node.op, self.parameters.value(node, at), left=at == 0)
            self.add(node, self.parameters.held(module, {"parameter": (node, at)}), [node.inputs[1 - at]])
        else:
            self.operator(node)

    def add(self, node: NodeView, module: nn.Module, inputs: Sequence[str], outputs: Sequence[str] = ()) -> None:
        """Add a module; what it reads and is constant is held."""
        for name in inputs:
            if name not in self.varying:
                self.hold(name)
        self.modules.append((Step(node.name, tuple(inputs), tuple(outputs or node.outputs)), module))

    def hold(self, name: str) -> None:
        """Hold a constant that a module reads."""
        if name not in self.constants:
            self.constants[name] = tensor_of(self.graph.value(name))

    # Layers.

    def weighs(self, node: NodeView) -> bool:
        """Whether a product is of a map and of weights, and not of two maps."""
        return any(name in self.graph.constants for name in node.inputs[:2])

    def layer(self, node: NodeView) -> None:
        """Add a layer, with what repeats its output, and the normalisation directly behind it."""
        at = 0 if node.op == "MatMul" and node.inputs[0] in self.graph.constants else 1
        x, weight = node.inputs[1 - at], node.inputs[at]
        held: dict[str, Operand] = {}
        latent = self.latent(weight)
        value = bias = None
        if self.parameters.trained(node, at):
            held["weight"] = (node, at)
        elif latent is not None:
            held["weight"] = (latent.reader, 0)
        if held:
            value = self.parameters.value(*held["weight"])
        if self.parameters.trained(node, 2):
            bias, held["bias"] = self.parameters.value(node, 2), (node, 2)
        layer = _layer(node, value, bias, self.extents(weight), left=at == 0)
        if latent is not None:
            layer.binarise = WeightSign(self.weights, up=latent.up)
        elif value is not None and are_signs(self.graph.value(weight)):
            layer.binarise, layer.baked = WeightSign(self.weights), True
        self.parameters.held(layer, held, signs=layer.baked)
        given = [] if value is not None else [weight]
        given += [node.inputs[2]] if node.input(2) and bias is None else []
        self.add(node, layer, [x, *given], [self.behind_layer(node, layer)])

    def extents(self, weight: str) -> tuple[int, ...] | None:
        """The size of a kernel; None where its weights depend on the graph's inputs."""
        return tuple(self.graph.value(weight).shape[2:]) if weight in self.graph.constants else None

    def latent(self, weight: str) -> Binarisation | None:
        """The binarisation that makes binary weights of latent ones that are stored."""
        maker = self.graph.maker.get(weight)
        found = None if maker is None else binarised(self.graph, maker)
        return found if found is not None and self.parameters.trained(found.reader, 0) else None

    def behind_layer(self, node: NodeView, layer: Layer) -> str:
        """Let a layer take over the nodes behind it that repeat its output and normalise it; returns what they make."""
        output = node.outputs[0]
        repeat = self.only_reader(output)
        if repeat is not None and (times := repetition(self.graph, repeat)) > 1:
            layer.times, output = times, repeat.outputs[0]
            self.absorbed.add(repeat.index)
        after = self.only_reader(output)
        if after is not None and after.op == "BatchNormalization":
            norm = self.kept(after, layer.times) if layer.times > 1 else None
            if norm is not None:
                layer.norm = norm
                self.absorbed.add(after.index)
                return after.outputs[0]
            return output
        found = self.folded(output, layer) if layer.weight is not None else None
        if found is not None:
            layer.norm, nodes = found
            self.absorbed.update(each.index for each in nodes)
            return nodes[1].outputs[0]
        if output in self.layered and node.inputs[0] not in self.inner and not self.parameters.shared(node, 1):
            self.unfuse(layer)
        return output

    def folded(self, x: str, layer: Layer | None = None) -> tuple[FoldedNorm, tuple[NodeView, NodeView]] | None:
        """The normalisation that a scale and an offset per channel stand for, which a tensor has behind it.

        Args:
            x: the tensor.
            layer: the layer that makes it, which may repeat it; None where no layer does.

        Returns:
            The normalisation, and the two nodes; None where there are no such, or no layer is behind them.
        """
        scale = self.only_reader(x)
        offset = None if scale is None or scale.op != "Mul" else self.only_reader(scale.outputs[0])
        if scale is None or offset is None or offset.op != "Add" or offset.outputs[0] not in self.layered:
            return None
        operands = [self.factor(scale, x), self.factor(offset, scale.outputs[0])]
        if None in operands:
            return None
        values = [self.parameters.value(*each) for each in operands if each is not None]
        channels, times = values[0].numel(), 1 if layer is None else layer.times
        with torch.no_grad():
            variance = torch.ones(channels) if layer is None else _fan_in_variance(layer)
        if values[1].numel() != channels or len(variance) * times != channels:
            return None
        names = [self.parameters.claimed(each) for each in operands if each is not None]
        stored = FoldedNames(names[0], names[1], tuple(values[0].shape), tuple(values[1].shape))
        made = FoldedNorm(values[0].reshape(-1), values[1].reshape(-1), times, variance, stored)
        return self.parameters.named(made), (scale, offset)

    def folded_here(self, node: NodeView) -> tuple[FoldedNorm, tuple[NodeView, NodeView]] | None:
        """The normalisation that begins with a node, where nothing in front of it normalises already."""
        for position, name in enumerate(node.inputs):
            maker = self.graph.maker.get(name)
            if not self.parameters.trained(node, position) and (maker is None or maker.op != "BatchNormalization"):
                return self.folded(name)
        return None

    def unfuse(self, layer: Layer) -> None:
        """Give a stem with a bias the normalisation that an exporter fused into it."""
        if isinstance(layer, Conv) and layer.weight is not None and layer.bias is not None and layer.binarise is None:
            name, bias = layer.names.pop("bias"), layer.bias.detach()
            layer.bias = None
            with torch.no_grad():
                layer.norm = self.parameters.named(FusedNorm(bias, _fan_in_variance(layer), name))

    def factor(self, node: NodeView, x: str) -> Operand | None:
        """The operand of arithmetic that is a parameter with a number for each channel of x, along axis 1."""
        rank = self.ranks.get(x, 0)
        for position, name in enumerate(node.inputs):
            if name != x and self.parameters.trained(node, position):
                shape = self.graph.value(name).shape
                padded = (1,) * (rank - len(shape)) + tuple(shape)
                if len(padded) == rank and all(size == 1 for axis, size in enumerate(padded) if axis != 1):
                    return node, position
        return None

    def only_reader(self, name: str) -> NodeView | None:
        """The one node that reads a tensor, where it is no output of the graph."""
        readers = {each.index: each for each in self.graph.readers.get(name, ())}
        return next(iter(readers.values())) if len(readers) == 1 and name not in self.graph.outputs else None

    # Normalisation.

    def norm(self, node: NodeView) -> BatchNorm:
        """A BatchNormalization as it is."""
        _see_inference(node)
        scale, bias, mean, variance = (self.parameters.value(node, at) for at in range(1, 5))
        module = BatchNorm(len(scale), *_settings(node))
        _fill(module, weight=scale, bias=bias, running_mean=mean, running_var=variance)
        places = {"weight": 1, "bias": 2, "running_mean": 3, "running_var": 4}
        made: BatchNorm = self.parameters.held(module, {mine: (node, at) for mine, at in places.items()})
        return made

    def kept(self, node: NodeView, times: int) -> KeptNorm | None:
        """A wide BatchNormalization of a repeated map; None where its statistics differ between the copies."""
        _see_inference(node)
        scale, bias, mean, variance = (self.parameters.value(node, at) for at in range(1, 5))
        narrow = len(scale) // times
        if len(scale) % times or any(not torch.equal(each, each[:narrow].repeat(times)) for each in (mean, variance)):
            return None
        module = KeptNorm(len(scale), times, *_settings(node))
        _fill(module, weight=scale, bias=bias)
        _fill(module.statistics, running_mean=mean[:narrow], running_var=variance[:narrow])
        self.parameters.held(module.statistics, {"running_mean": (node, 3), "running_var": (node, 4)})
        made: KeptNorm = self.parameters.held(module, {"weight": (node, 1), "bias": (node, 2)})
        return made

    # All else.

    def operator(self, node: NodeView) -> None:
        """Add an operator of the table; its parameters, if it has any, are modules of their own."""
        if node.op not in OPERATORS:
            raise Unsupported("there is no torch form of it")
        static = tuple(
            self.graph.value(name)
            if name and name not in self.varying and not self.parameters.trained(node, at)
            else None
            for at, name in enumerate(node.inputs)
        )
        site = Site(node, static, self.graph.opset)
        reading = OPERATORS[node.op](site)
        site.see_attributes()
        self.add(node, Operator(node.op, reading.run), [self.operand(node, at) for at in reading.positions])

    def operand(self, node: NodeView, position: int) -> str:
        """The name of what a node reads; a parameter is a module of its own."""
        name = node.inputs[position]
        if not self.parameters.trained(node, position):
            return name
        held = self.parameters.held(Stored(self.parameters.value(node, position)), {"value": (node, position)})
        own = self.parameters.free(f"{node.name}/{name}")
        self.varying.add(own)
        self.modules.append((Step(own, (), (own,)), held))
        return own


class Operator(nn.Module):
    """An operator without parameters of its own."""

    def __init__(self, op: str, run: Any) -> None:
        super().__init__()
        self.op, self.run = op, run

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(*inputs)

    def _get_name(self) -> str:
        return self.op


def _layer(
    node: NodeView, weight: Tensor | None, bias: Tensor | None, extents: tuple[int, ...] | None, *, left: bool
) -> Layer:
    if node.op != "Conv":
        turned = bool(node.attribute("transB", 0))
        if node.attribute("transA", 0):
            raise Unsupported("its map is transposed")
        how = Product(turned, left, float(node.attribute("alpha", 1.0)), float(node.attribute("beta", 1.0)))
        return Linear(weight, bias, how)
    kernel = node.attribute("kernel_shape") or extents
    if kernel is None:
        raise Unsupported("its weights are computed, and it does not say the size of its kernel")
    rank = len(kernel)
    windows = Windows(
        kernel=tuple(kernel),
        strides=tuple(node.attribute("strides") or [1] * rank),
        pads=tuple(node.attribute("pads") or [0] * 2 * rank),
        dilations=tuple(node.attribute("dilations") or [1] * rank),
        auto=str(node.attribute("auto_pad", "NOTSET")),
        groups=int(node.attribute("group", 1)),
    )
    return Conv(weight, bias, windows)


def _read_by_some(modules: Sequence[tuple[Step, nn.Module]], outputs: Sequence[str]) -> list[tuple[Step, nn.Module]]:
    """The modules that an output depends on."""
    needed, kept = set(outputs), []
    for step, module in reversed(modules):
        if any(name in needed for name in step.outputs):
            needed.update(step.inputs)
            kept.append((step, module))
    return kept[::-1]


def _fan_in_variance(layer: Layer) -> Tensor:
    """The variance of each channel that a layer makes of independent numbers of variance 1."""
    weight = layer.effective()
    if isinstance(layer, Conv):
        return weight.square().flatten(1).sum(1)
    assert isinstance(layer, Linear)
    axis = 1 if layer.product.turned or layer.product.left else 0
    return weight.square().sum(axis) if weight.dim() == 2 else weight.new_zeros(0)


def _see_inference(node: NodeView) -> None:
    """Raise `Unsupported` for a BatchNormalization that normalises by its batch whatever the mode."""
    if node.attribute("training_mode", 0) or len([name for name in node.outputs if name]) > 1:
        raise Unsupported("it runs in training mode: export the network in inference mode (model.eval())")


def _settings(node: NodeView) -> tuple[float, float]:
    """Epsilon, and the share of a batch in the running statistics, as torch has them."""
    return float(node.attribute("epsilon", 1e-5)), 1.0 - float(node.attribute("momentum", 0.9))


def _fill(module: nn.Module, **values: Tensor) -> None:
    """Give parameters and buffers their values and dtype."""
    for name, value in values.items():
        getattr(module, name).data = value.clone()
