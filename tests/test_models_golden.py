"""The layers of the zoo, put together as the worked examples in golden/ are, reproduce those examples.

Modules here have the names that they have in the files, as far as possible; `fill` finds a parameter by them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import models  # noqa: E402
from models.activations import ClipSign, NestedSign, Sign, WhereSign  # noqa: E402
from models.channels import Norm1d, Norm2d, PRelu  # noqa: E402
from models.layers import Conv2d, DepthwiseConv2d, LinearClassifier, conv, linear, replicate  # noqa: E402
from models.reactnet import Block  # noqa: E402
from models.resnet20 import OptionA  # noqa: E402
from models.shufflenet import shuffle  # noqa: E402
from models.weightings import clipped, residue, sign  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.no_grad():
        yield


class React(nn.Module):
    """`react`: three of ReActNet's blocks, the stem's BatchNormalization fused in the file."""

    names = {"conv3x3": "c3", "bn1": "b1", "bn2": "b2", "pointwise": "pw", "move1": "m1", "move2": "m4"}
    names |= {"act1.0": "m2", "act1.1": "p1", "act1.2": "m3", "act2.0": "m5", "act2.1": "p2", "act2.2": "m6"}

    def __init__(self, beta: int) -> None:
        super().__init__()
        self.beta = beta
        self.stem = Conv2d(3, 8, 3, stride=2, bias=True)
        self.bl = nn.Sequential(
            Block(8, 16, 2, beta, clipped), Block(16, 32, 2, beta, clipped), Block(32, 32, 1, beta, clipped)
        )
        self.fc = LinearClassifier(32, 5, beta=beta)

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.bl(replicate(self.stem(x), self.beta)).mean((2, 3)))


class Residual(nn.Module):
    """A binary 3x3 convolution with its shortcut and PReLU, of `bireal` and `resnet_pad`."""

    def __init__(self, inputs: int, outputs: int, beta: int, pad: bool) -> None:
        super().__init__()
        stride = outputs // inputs
        self.sign = WhereSign() if pad else ClipSign()
        weighting = standardised if pad else residue
        self.c = conv(inputs, outputs, 3, stride=stride, beta=beta, weighting=weighting)
        self.b, self.p = Norm2d(outputs, beta=beta), PRelu(outputs, beta=beta)
        self.pool = nn.AvgPool2d(2) if stride == 2 and not pad else nn.Identity()
        self.dc: nn.Module = nn.Identity()
        if stride == 2:
            self.dc = OptionA(outputs, beta, False) if pad else conv(inputs, outputs, 1, bias=True, beta=beta)

    def forward(self, x: Tensor) -> Any:
        return self.p(self.b(self.c(self.sign(x))) + self.dc(self.pool(x)))


def standardised(w: Tensor) -> Tensor:
    """The weights of `resnet_pad`: each filter centred, divided by its deviation, then mean|w| * sign(w)."""
    w = w - w.flatten(1).mean(-1).view(-1, 1, 1, 1)
    w = w / w.flatten(1).std(-1).view(-1, 1, 1, 1)
    result: Tensor = w.abs().mean((1, 2, 3), keepdim=True) * torch.sign(w)
    return result


class BiReal(nn.Module):
    """`bireal`: clip residue, real 1x1 shortcut with its BatchNormalization fused in the file."""

    names: dict[str, str] = {}
    stem_options: dict[str, Any] = {"kernel": 7, "stride": 2}
    pad = False

    def __init__(self, beta: int) -> None:
        super().__init__()
        self.beta = beta
        self.stem = Conv2d(3, 8, bias=True, **self.stem_options)
        self.pool = nn.Identity() if self.pad else nn.MaxPool2d(3, 2, 1)
        widths = ((8, 8), (8, 16), (16, 32))
        self.bl = nn.Sequential(*(Residual(a, b, beta, self.pad) for a, b in widths))
        self.fc = LinearClassifier(32, 5, beta=beta)

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.bl(replicate(self.pool(self.stem(x)), self.beta)).mean((2, 3)))


class ResNetPad(BiReal):
    """`resnet_pad`: `x >= 0` activations, standardised weights, strided Slice and Pad of channels."""

    stem_options: dict[str, Any] = {"kernel": 3}
    pad = True


class NegativeGamma(nn.Module):
    """`negative_gamma`: a binary 3x3 convolution, a real 1x1 shortcut, BatchNormalization of both signs."""

    names = {"stem_b": "stem"}

    def __init__(self, beta: int) -> None:
        super().__init__()
        self.beta = beta
        self.stem, self.stem_b = Conv2d(3, 12, 3), Norm2d(12)
        self.sign, self.c = Sign(), conv(12, 24, 3, stride=2, beta=beta, weighting=residue)
        self.b = Norm2d(24, beta=beta)
        self.dc, self.db = conv(12, 24, 1, beta=beta), Norm2d(24, beta=beta)
        self.p = PRelu(24, beta=beta)
        self.fc = LinearClassifier(24, 5, beta=beta)

    def forward(self, x: Tensor) -> Any:
        x = replicate(self.stem_b(self.stem(x)), self.beta)
        y = self.b(self.c(self.sign(x))) + self.db(self.dc(F.avg_pool2d(x, 2)))
        return self.fc(self.p(y).mean((2, 3)))


class SEGrouped(nn.Module):
    """`se_grouped`: a gate with biases and a grouped binary convolution."""

    names: dict[str, str] = {}

    def __init__(self, beta: int) -> None:
        super().__init__()
        self.beta = beta
        self.stem, self.b0 = Conv2d(3, 16, 3, stride=2, bias=True), Norm2d(16, beta=beta)
        self.f1, self.f2 = conv(16, 4, 1, bias=True, beta=beta), conv(4, 16, 1, bias=True, beta=beta)
        self.c1, self.b1 = conv(16, 16, 3, beta=beta, weighting=residue), Norm2d(16, beta=beta)
        self.c2, self.b2 = conv(16, 16, 3, groups=4, beta=beta, weighting=residue), Norm2d(16, beta=beta)
        self.fc = LinearClassifier(16, 5, beta=beta)

    def forward(self, x: Tensor) -> Any:
        x = replicate(self.stem(x), self.beta)
        y = torch.sign(self.b0(x))
        gate = torch.sigmoid(self.f2(torch.relu(self.f1(x.mean((2, 3), keepdim=True)))))
        x = self.b1(self.c1(y)) * gate + x
        return self.fc((self.b2(self.c2(torch.sign(x))) + x).mean((2, 3)))


class SplitShuffle(nn.Module):
    """`split_shuffle`: Split, Concat, channel shuffle, depthwise with multiplier 2, strided Slice of channels
    (each copy on its own)."""

    names = {"stem_b": "stem"}

    def __init__(self, beta: int) -> None:
        super().__init__()
        self.beta = beta
        self.stem, self.stem_b = Conv2d(3, 24, 3), Norm2d(24)
        self.c1, self.b1 = conv(12, 12, 3, beta=beta, weighting=residue), Norm2d(12, beta=beta)
        self.dw = DepthwiseConv2d(24, multiplier=2, beta=beta)
        self.c2, self.b2 = conv(24, 24, 1, beta=beta, weighting=sign), Norm2d(24, beta=beta)
        self.p2 = PRelu(24, beta=beta)
        self.bd, self.b3 = conv(24, 18, 3, beta=beta, weighting=residue), Norm2d(18, beta=beta)
        self.c4, self.b4 = conv(18, 12, 3, stride=2, beta=beta, weighting=residue), Norm2d(12, beta=beta)
        self.fc = LinearClassifier(12, 5, beta=beta)

    def forward(self, x: Tensor) -> Any:
        a, b = torch.chunk(replicate(self.stem_b(self.stem(x)), self.beta), 2, dim=1)
        x = shuffle(torch.cat([b, self.b1(self.c1(torch.sign(a))) + a], 1), 2)
        x = torch.cat([copy[:, ::2] for copy in torch.chunk(self.dw(x), self.beta, 1)], 1)
        x = self.p2(self.b2(self.c2(torch.sign(x))) + x)
        x = self.b3(self.bd(torch.sign(x)))
        return self.fc(self.b4(self.c4(torch.sign(x))).mean((2, 3)))


class Dense(nn.Module):
    """`dense`: nested Sign, growth by Concat, a real 1x1 transition."""

    names: dict[str, str] = {}

    def __init__(self, beta: int) -> None:
        super().__init__()
        self.beta = beta
        self.stem, self.sign = Conv2d(3, 64, 3, bias=True), NestedSign()
        self.bs = nn.ModuleList(Norm2d(n, beta=beta) for n in (64, 72))
        self.cs = nn.ModuleList(conv(n, 8, 3, beta=beta, weighting=sign) for n in (64, 72))
        self.b, self.t = Norm2d(80, beta=beta), conv(80, 40, 1, beta=beta)
        self.fc = LinearClassifier(40, 5, beta=beta)

    def forward(self, x: Tensor) -> Any:
        x = replicate(self.stem(x), self.beta)
        for b, c in zip(self.bs, self.cs, strict=True):
            x = torch.cat([x, c(self.sign(b(x)))], 1)
        return self.fc(self.t(torch.relu(F.max_pool2d(self.b(x), 2))).mean((2, 3)))


class HiddenLinear(nn.Module):
    """`hidden_linear`: zeros in front of `x >= 0`, Flatten of (C, H, W) into a hidden binary linear layer."""

    names = {"stem_b": "stem"}

    def __init__(self, beta: int) -> None:
        super().__init__()
        self.beta = beta
        self.sign = WhereSign()
        self.stem, self.stem_b = Conv2d(3, 12, 3, stride=2), Norm2d(12)
        self.c, self.b = conv(12, 24, 3, stride=2, beta=beta, weighting=residue), Norm2d(24, beta=beta)
        self.l, self.a = linear(96, 24, beta=beta, weighting=sign), Norm1d(24, beta=beta)
        self.a.eps = 0.0  # in the file: a factor and a bias
        self.fc = LinearClassifier(24, 5, beta=beta)

    def forward(self, x: Tensor) -> Any:
        x = replicate(torch.relu(self.stem_b(self.stem(x))), self.beta)
        x = torch.relu(self.b(self.c(self.sign(x)))).flatten(1)
        return self.fc(torch.relu(self.a(self.l(self.sign(x)))))


Example = React | BiReal | NegativeGamma | SEGrouped | SplitShuffle | Dense | HiddenLinear


def initializers(file: str) -> dict[str, Tensor]:
    """A file's initializers; one that the exporter numbered is named after the node that reads it."""
    model = onnx.load(GOLDEN / f"{file}.onnx")
    values: dict[str, Tensor] = {}
    for initializer in model.graph.initializer:
        values[initializer.name] = torch.from_numpy(onnx.numpy_helper.to_array(initializer).copy())
    for node in model.graph.node:
        steps = node.name.split("/")[1:-1]  # /bl/bl.0/p/PRelu is of module bl.0.p
        following = [*steps[1:], ""]
        module = ".".join(s for s, n in zip(steps, following, strict=False) if not n.startswith(f"{s}."))
        for suffix, tensor in zip(("weight", "bias"), node.input[1:], strict=False):
            if tensor.startswith("onnx::") and tensor in values:
                values[f"{module}.{suffix}"] = values[tensor]
    return values


def fill(network: Example, file: str) -> Example:
    """Give an original network the parameters of a worked example."""
    values = initializers(file)
    for own, tensor in network.state_dict().items():
        module, _, leaf = own.rpartition(".")
        for mine, theirs in network.names.items():
            module = f"{module}.".replace(f"{mine}.", f"{theirs}.").rstrip(".")
        names = [f"{module}.{inner}{leaf}" for inner in ("", "c.", "b.", "l.")]
        if leaf in ("weight", "bias"):
            shorts = ("c.w", "w", "a", "g") if leaf == "weight" else ("v",)
            names += [module, *(f"{module}.{short}" for short in shorts)]
        found = [values[n] for n in names if n in values and values[n].numel() == tensor.numel()]
        if found:
            tensor.copy_(found[0].reshape(tensor.shape))
        elif leaf != "num_batches_tracked" and (own not in ("a.running_mean", "a.running_var")):
            raise KeyError(own)
    network.eval()
    return network


def check(original: nn.Module, file: str, betas: tuple[int, ...]) -> None:
    expected = np.load(GOLDEN / f"{file}.npz")
    images = torch.from_numpy(expected["input"])
    outputs = {"logits": original(images)}
    for beta in betas:
        outputs[f"rep{beta}"] = models.inherit(type(original)(beta), original).eval()(images)
    for key, output in outputs.items():
        tolerance = 1e-4 * np.abs(expected[key]).max()
        np.testing.assert_allclose(output.numpy(), expected[key], atol=tolerance, err_msg=f"{file} {key}")


@pytest.mark.parametrize(
    ("example", "file", "betas"),
    [
        (React, "react.torchscript", (2, 4)),
        (BiReal, "bireal.torchscript", (2, 4)),
        (ResNetPad, "resnet_pad.torchscript", (2, 4)),
        (SEGrouped, "se_grouped.torchscript", (2, 4)),
        (SplitShuffle, "split_shuffle.unfused", (2, 3)),  # its layer of 18 filters is a boundary at 4
        (Dense, "dense.torchscript", (2, 4)),
        (HiddenLinear, "hidden_linear.unfused", (2, 3, 4)),
    ],
)
def test_example(example: type[Example], file: str, betas: tuple[int, ...]) -> None:
    check(fill(example(1), file), file, betas)


@pytest.mark.parametrize(
    ("file", "fused"),
    [
        ("negative_gamma.unfused", []),
        ("negative_gamma.torchscript", ["stem_b", "db"]),
        ("negative_gamma.dynamo", ["stem_b", "db", "b"]),
    ],
)
def test_negative_gamma(file: str, fused: list[str]) -> None:
    """Three exports of one network start from three Rep networks; `fuse` gives each from the unfused one."""
    filled = fill(NegativeGamma(1), "negative_gamma.unfused")
    check(models.fuse(filled, fused, image=(3, 8, 8)), file, (2, 3, 4))
