"""The zoo in torch and its RepTran forms, against the tables of the specification and cases worked by
hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from torch import nn  # noqa: E402

import models  # noqa: E402
from models import activations, counting, weightings  # noqa: E402
from models.__main__ import main  # noqa: E402
from models.channels import Fused  # noqa: E402
from models.layers import Conv2d, DepthwiseConv2d, Layer, LinearClassifier, RepConv2d, RepLinear  # noqa: E402

FILE = Path(models.__file__).parent / "files" / "reactnet-tiny.onnx"


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.no_grad():
        yield


def on_meta(name: str, beta: int, size: int | None = None) -> nn.Module:
    """A network without numbers: enough to count."""
    with torch.device("meta"):
        return models.plan(name, beta=beta, size=size).construct()


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (
            1,
            {
                "stem": 864,
                "stem norm": 64,
                "binary 3x3": 25_113_600,
                "binary 1x1": 3_139_584,
                "norm": 21_824,
                "prelu": 10_912,
                "learnable bias": 31_744,
                "classifier": 1_024_000,
                "classifier bias": 1_000,
            },
        ),
        (
            2,
            {
                "stem": 864,
                "stem norm": 64,
                "binary 3x3": 25_113_600,
                "binary 1x1": 3_139_584,
                "norm": 43_648,
                "prelu": 21_824,
                "learnable bias": 63_488,
                "classifier": 2_048_000,
                "classifier bias": 1_000,
            },
        ),
    ],
)
def test_reactnet_a_has_the_authors_parameters(beta: int, expected: dict[str, int]) -> None:
    counted = counting.parameters(on_meta("reactnet-a", beta, 224))
    assert dict(counted) == expected
    assert sum(counted.values()) == {1: 29_343_592, 2: 30_432_072}[beta]


@pytest.mark.parametrize(
    ("beta", "classifier", "ops", "elementwise"),
    [(1, 1_024_000, 87_126_016, 29_378_048), (2, 2_048_000, 88_150_016, 58_354_688)],
)
def test_reactnet_a_has_the_authors_macs(beta: int, classifier: int, ops: int, elementwise: int) -> None:
    network = on_meta("reactnet-a", beta, 224)
    macs = counting.macs(network)
    assert dict(macs) == {
        "stem": 10_838_016,
        "binary 3x3": 4_277_403_648,
        "binary 1x1": 539_492_352,
        "classifier": classifier,
    }
    assert macs["stem"] + macs["classifier"] + (macs["binary 3x3"] + macs["binary 1x1"]) // 64 == ops
    assert counting.elementwise(network) == elementwise


@pytest.mark.parametrize("name", models.ZOO)
@pytest.mark.parametrize("beta", [2, 4])
def test_repconvs_keep_weights_and_macs(name: str, beta: int) -> None:
    original, wide = on_meta(name, 1), on_meta(name, beta)
    layers = dict(original.named_modules())
    repconvs = {n: m for n, m in wide.named_modules() if isinstance(m, (RepConv2d, RepLinear))}
    assert repconvs
    for where, layer in repconvs.items():
        assert layer.weight.shape == layers[where].weight.shape
        assert layer.rearrange(layer.weight).numel() == layers[where].weight.numel()
    before, after = counting.macs(original), counting.macs(wide)
    grown = {"classifier", "depthwise"}
    assert {k: v for k, v in before.items() if k not in grown} == {k: v for k, v in after.items() if k not in grown}
    assert all(after[k] == beta * before[k] for k in grown & set(before))


def test_a_repconv_by_hand() -> None:
    """Co = 4, Ci = 2, beta = 2, 1x1, one pixel: filters 0 and 1 read copy 0, filters 2 and 3 read copy 1."""
    layer = RepConv2d(2, 4, 1, bias=True, beta=2, weighting=weightings.residue)
    original = Conv2d(2, 4, 1, weighting=weightings.residue, bias=True)
    original.weight.copy_(
        torch.tensor([[1.0, -3.0], [0.5, 0.5], [-2.0, 4.0], [-1.0, -1.0]]).view(4, 2, 1, 1)
    )  # scales 2, .5, 3, 1
    original.bias = nn.Parameter(torch.tensor([10.0, 20.0, 30.0, 40.0]))
    layer.inherit(original)
    assert layer.rearrange(torch.sign(layer.weight)).flatten(1).tolist() == [[1, -1, -1, 1], [1, 1, -1, -1]]
    x = torch.tensor([1.0, -1.0, 1.0, 1.0]).view(1, 4, 1, 1)  # copy 0: (1, -1), copy 1: (1, 1)
    # y'_0 = (1*1 + -1*-1) + (-1*1 + 1*1) = 2;  y'_1 = (1*1 + 1*-1) + (-1*1 + -1*1) = -2; repeated 4 times;
    # times 2 .5 3 1 2 .5 3 1, plus 10 20 30 40 10 20 30 40
    assert layer(x).flatten().tolist() == [14, 19, 36, 38, 14, 19, 36, 38]


def test_a_grouped_repconv_by_hand() -> None:
    """Two groups of one input channel and two filters each, beta = 2: x^ = [g0c0, g0c1 | g1c0, g1c1]."""
    original = Conv2d(2, 4, 1, groups=2)
    original.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1, 1))
    layer = RepConv2d(2, 4, 1, groups=2, beta=2)
    layer.inherit(original)
    x = torch.tensor([1.0, 10.0, 100.0, 1000.0]).view(1, 4, 1, 1)
    assert layer(x).flatten().tolist() == [1 + 20, 300 + 4000] * 4


def test_a_repconv_is_the_sum_over_row_blocks() -> None:
    """THEORY section 2: y' = sum over r of Conv(x(r); W(r)), for copies that differ."""
    torch.manual_seed(0)
    original = Conv2d(4, 6, 3, stride=2)
    original.weight.copy_(torch.randn_like(original.weight))
    layer = RepConv2d(4, 6, 3, stride=2, beta=3)
    layer.inherit(original)
    copies = torch.randn(3, 2, 4, 7, 7)
    summed = sum(
        torch.nn.functional.conv2d(x, w, stride=2, padding=1)
        for x, w in zip(copies, original.weight.chunk(3), strict=True)
    )
    torch.testing.assert_close(layer(torch.cat(list(copies), 1)), torch.cat([summed] * 9, 1))


def test_indivisible_filters_are_refused() -> None:
    with pytest.raises(ValueError, match="6 filters in 1 groups cannot be shared by beta = 4"):
        RepConv2d(4, 6, beta=4)


def test_for_beta_1_a_repconv_is_the_convolution() -> None:
    torch.manual_seed(0)
    original = Conv2d(4, 6, 3, bias=True, weighting=weightings.clipped)
    original.weight.copy_(torch.randn_like(original.weight))
    original.bias = nn.Parameter(torch.randn(6))
    layer = RepConv2d(4, 6, 3, bias=True, weighting=weightings.clipped, beta=1)
    layer.inherit(original)
    x = torch.sign(torch.randn(2, 4, 5, 5))
    torch.testing.assert_close(layer(x), original(x))


@pytest.mark.parametrize("name", ["reactnet-tiny", "recu-resnet20", "binary-mlp"])
def test_beta_1_is_the_original(name: str) -> None:
    network = models.build(name)
    images = np.random.default_rng(0).standard_normal((2, *models.plan_of(network).image), dtype=np.float32)
    assert np.array_equal(
        models.trace(models.rep_form(network, 1), images).output, models.trace(network, images).output
    )


@pytest.mark.parametrize("weighting", [None, weightings.sign])
def test_a_widened_classifier_averages_the_copies(weighting: weightings.Weighting | None) -> None:
    torch.manual_seed(0)
    original = LinearClassifier(5, 3, weighting=weighting)
    for parameter in original.parameters():
        parameter.copy_(torch.randn_like(parameter))
    wide = LinearClassifier(5, 3, beta=4, weighting=weighting)
    wide.inherit(original)
    copies = torch.randn(4, 2, 5)
    torch.testing.assert_close(wide(torch.cat(list(copies), 1)), original(copies.mean(0)))
    if weighting is None:
        assert torch.equal(wide.weight, torch.cat([original.weight] * 4, 1) / 4)


def test_depthwise_copies_keep_their_order() -> None:
    torch.manual_seed(0)
    original = DepthwiseConv2d(3, multiplier=2)
    original.weight.copy_(torch.randn_like(original.weight))
    wide = DepthwiseConv2d(3, multiplier=2, beta=2)
    wide.inherit(original)
    a, b = torch.randn(2, 1, 3, 4, 4)
    torch.testing.assert_close(wide(torch.cat([a, b], 1)), torch.cat([original(a), original(b)], 1))


@pytest.mark.parametrize(
    ("spelling", "at_zero"),
    [
        (activations.Sign, 0),
        (activations.ResidueSign, 0),
        (activations.ClipSign, 0),
        (activations.TanhSign, 0),
        (activations.PolynomialSign, 0),
        (activations.NestedSign, 1),
        (activations.WhereSign, 1),
        (activations.CastSign, 1),
    ],
)
def test_binarisations(spelling: type[activations.Binarise], at_zero: int) -> None:
    x = torch.tensor([-3.0, -0.7, -1e-20, -0.0, 0.0, 1e-20, 0.7, 3.0])
    torch.testing.assert_close(spelling()(x), torch.tensor([-1.0, -1, -1, at_zero, at_zero, 1, 1, 1]))


@pytest.mark.parametrize(
    "weighting",
    [
        weightings.clipped,
        weightings.residue,
        weightings.sign,
        weightings.clipped_sign,
        weightings.rectified_clamp,
        weightings.balanced,
    ],
)
def test_weightings_give_one_magnitude_a_filter(weighting: weightings.Weighting) -> None:
    torch.manual_seed(0)
    latent = 0.1 * torch.randn(8, 5, 3, 3)
    weights = weighting(latent)
    magnitude = weights.abs().flatten(1)
    torch.testing.assert_close(magnitude, magnitude[:, :1].expand_as(magnitude))
    assert torch.equal(torch.sign(weighting(-latent)), -torch.sign(weights))
    assert 0.2 < (weights > 0).float().mean() < 0.8


def test_building_is_deterministic_and_nothing_is_degenerate() -> None:
    one, two, other = (models.build("recu-resnet20", seed=s).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(one[k], two[k]) for k in one) and not torch.equal(one["fc.weight"], other["fc.weight"])
    for name, value in one.items():
        if value.dim() and not name.endswith("gain"):
            assert value.unique().numel() > value.numel() // 4, name
        if "running" not in name and name.endswith("weight") and value.dim() > 1:
            assert 0.3 < (value > 0).float().mean() < 0.7, name
    with_negative = models.build("recu-resnet20", negative_gamma=True)
    assert any((m.weight < 0).any() for m in with_negative.modules() if isinstance(m, nn.BatchNorm2d))


def test_fusing_keeps_the_function_and_moves_the_start() -> None:
    network = models.build("reactnet-tiny", negative_gamma=True)
    fused = models.fuse(network, models.norm_names(network))
    assert not models.norm_names(fused)
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    plain = models.trace(network, images)
    run = models.trace(fused, images, forced=plain.after)
    for a, b in zip([*plain.before, plain.output], [*run.before, run.output], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(a).max())
    rep, rep_fused = models.rep_form(network, 2), models.rep_form(fused, 2)
    assert any(isinstance(m, Fused) for m in rep_fused.modules())
    forced = models.trace(rep, images)
    assert not np.allclose(forced.output, models.trace(rep_fused, images, forced=forced.after).output, atol=1e-3)
    with pytest.raises(KeyError, match="no BatchNormalization 'fc'"):
        models.fuse(network, ["fc"])


def test_a_norm_without_a_layer_in_front_is_not_fused() -> None:
    with pytest.raises(ValueError, match="nothing to fuse 'bn2' into"):
        models.fuse(models.build("recu-resnet20"), ["bn2"])


def test_shared_latent_weights_stay_shared() -> None:
    network = models.build("fracbnn-resnet20")
    for each in (network, models.rep_form(network, 2)):
        unit = each.get_submodule("blocks.0.unit1")
        assert unit.get_parameter("high.weight") is unit.get_parameter("low.weight")


def test_forcing_checks_what_it_is_given() -> None:
    network = models.build("reactnet-tiny")
    images = np.zeros((1, 3, 32, 32), np.float32)
    maps = models.trace(network, images).after
    with pytest.raises(ValueError, match="the forced map is"):
        models.trace(network, images, forced=[m[:, :1] for m in maps])
    with pytest.raises(ValueError, match="there are more binarisations"):
        models.trace(network, images, forced=maps[:-1])
    with pytest.raises(ValueError, match="7 maps are forced, and there are 6"):
        models.trace(network, images, forced=[*maps, maps[-1]])


@pytest.mark.parametrize("variant", models.VARIANTS)
def test_exports_run_at_any_batch_and_can_be_read_back(variant: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    network = models.build("reactnet-tiny", negative_gamma=True)
    file = models.export(network, tmp_path / "x.onnx", models.VARIANTS[variant])
    model = onnx.load(file)
    assert [v.name for v in (*model.graph.input, *model.graph.output)] == ["input", "logits"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert (
        b"stack_trace" not in file.read_bytes() and str(Path(models.__file__).parent).encode() not in file.read_bytes()
    )
    fused = models.fused_norms(network, model)
    assert bool(fused) == (variant in ("dynamo", "torchscript"))
    original = models.fuse(network, fused)
    found = models.binarisations(network, model)
    names = [tensor for one in found for tensor in (one.before, one.after)]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        images = np.random.default_rng(batch).standard_normal((batch, 3, 32, 32), dtype=np.float32)
        logits, *maps = session.run(["logits", *names], {"input": images})
        run = models.trace(original, images, forced=maps[1::2])
        assert run.names == [one.name for one in found]
        for mine, theirs in zip([*run.before, run.output], [*maps[::2], logits], strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5 * np.abs(mine).max())


def test_export_is_deterministic_and_options_exclude_each_other(tmp_path: Path) -> None:
    network = models.build("reactnet-tiny")
    one, two = (
        models.export(network, tmp_path / f"{i}.onnx", models.VARIANTS["torchscript"]).read_bytes() for i in range(2)
    )
    assert one == two
    with pytest.raises(ValueError, match="TorchScript"):
        models.Variant("dynamo", folding=False)
    with pytest.raises(ValueError, match="dynamo"):
        models.Variant("torchscript", optimize=False)


def test_the_committed_file_is_the_network_that_its_command_makes() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(FILE)
    assert FILE.stat().st_size < 400_000
    state = models.build("reactnet-tiny").state_dict()
    same = [
        t.name
        for t in model.graph.initializer
        if t.name in state and np.allclose(onnx.numpy_helper.to_array(t), state[t.name].numpy(), rtol=1e-3)
    ]
    assert {"fc.weight", "blocks.0.move1.bias", "blocks.1.conv3x3.weight"} <= set(same)


def test_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(models.ZOO)
    out = tmp_path / "x.onnx"
    assert (
        main(
            [
                "export",
                "reactnet-tiny",
                "--exporter",
                "torchscript",
                "--batch",
                "3",
                "--classes",
                "7",
                "-o",
                str(out),
            ]
        )
        == 0
    )
    assert out.exists()
    with pytest.raises(SystemExit) as refused:
        main(["export", "reactnet-tiny", "--no-folding", "-o", str(out)])
    assert refused.value.code == 2


def test_every_layer_of_the_zoo_is_one_of_ours() -> None:
    """A stray nn.Conv2d would have no RepTran form."""
    for name in models.ZOO:
        for module in on_meta(name, 2).modules():
            assert isinstance(module, Layer) or not isinstance(module, (nn.Conv2d, nn.Linear)), name
