"""The judge accepts what obeys THEORY and sees every planted mistake, on networks with equal copies too."""

from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tiny_networks import Net, joined, plain, replicate, replicate_layers

from reptran_compiler.runtime import RuntimeFailure
from reptran_compiler.verification import SpecOptions, check_equivalent, check_law

NETWORKS = {"plain": plain, "joined": joined}


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "kept"])
@pytest.mark.parametrize("beta", [1, 2, 3, 4])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_correct_result_passes(network: str, beta: int, fold: bool) -> None:
    source = NETWORKS[network]()
    for fc in ("widen", "fold"):
        report = check_law(source, replicate(source, beta, fold=fold, fc=fc), SpecOptions(beta))
        assert report.ok, [str(failure) for failure in report.failures]
        assert report.coverage.compared == report.coverage.required >= 5
        assert report.worst.relative < 1e-5
        assert report.repconvs == (3 if network == "plain" else 2)


BUGS = {
    "row blocks reversed": ("one", "replicate-input"),
    "tile interleaved": ("one", "replicate-output"),
    "beta for beta^2": (None, None),
    "1/beta forgotten": ("logits", "rewrite-fc"),
    "mean and variance swapped": ("one.bn", "fold-bn"),
    "epsilon forgotten": ("one.bn", "fold-bn"),
    "a sign flipped": ("two", "replicate-input"),
    "neighbour's scale": ("one.scaled", "widen-per-channel"),
    "neighbour's slope in one copy": (None, "widen-per-channel"),
    "sign(0) is +1": ("two.sign", "binarisation"),
    "copies swapped": ("two.sign", "binarisation"),
    "stem interleaved": ("stem.bn", "replicate-output"),
    "everything a boundary": ("one", "replicate-input"),
    "weights lost": ("one", "replicate-input"),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_mistake_is_seen(bug: str, network: str) -> None:
    source = NETWORKS[network]()
    report = check_law(source, replicate(source, 2, bug), SpecOptions(2))
    assert not report.ok
    tensor, rule = BUGS[bug]
    first = report.failures[0]
    assert tensor in (None, first.tensor), [str(failure) for failure in report.failures]
    assert rule in (None, first.rule), [str(failure) for failure in report.failures]


def test_a_missing_required_tensor_is_a_failure() -> None:
    source: ModelProto = plain()
    report = check_law(source, replicate(source, 2, "tensor renamed"), SpecOptions(2))
    assert [failure.tensor for failure in report.failures] == ["one.act"]
    assert report.coverage.missing == ("one.act",)
    assert report.coverage.compared == report.coverage.required - 1


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 16, 18, 20, 22])
def test_every_opset_is_judged(opset: int) -> None:
    source = plain(opset)
    assert check_law(source, replicate(source, 3), SpecOptions(3)).ok
    assert not check_law(source, replicate(source, 3, "row blocks reversed"), SpecOptions(3)).ok


@pytest.mark.parametrize("network", NETWORKS)
def test_layers_that_cannot_be_divided_are_boundaries(network: str) -> None:
    source = NETWORKS[network]()
    report = check_law(source, replicate(source, 5), SpecOptions(5))
    assert report.ok, [str(failure) for failure in report.failures]
    assert report.layers["boundary"] == len(report.boundaries) == (3 if network == "plain" else 2)
    assert "12 filters are not divisible by 5" in report.boundaries["one"]
    assert report.coverage.required == report.coverage.compared


def test_a_boundary_must_take_the_mean_in_front_of_the_sign() -> None:
    source = plain()
    report = check_law(source, replicate(source, 5, "mean behind the sign"), SpecOptions(5))
    assert not report.ok
    assert report.failures[0].rule == "boundary"


def test_an_excluded_layer_is_a_boundary() -> None:
    source = plain()
    options = SpecOptions(2, exclude=frozenset({"one"}))
    report = check_law(source, replicate(source, 2), options)
    assert report.boundaries == {"one": "excluded"}
    assert "one" in {failure.node for failure in report.failures}


@pytest.mark.parametrize("beta", [2, 3])
@pytest.mark.parametrize("network", NETWORKS)
def test_scope_layer(network: str, beta: int) -> None:
    source = NETWORKS[network]()
    options = SpecOptions(beta, scope="layer")
    report = check_law(source, replicate_layers(source, beta), options)
    assert report.ok, [str(failure) for failure in report.failures]
    assert report.repconvs == (3 if network == "plain" else 2)
    for bug, rule in (("row blocks reversed", "replicate-input"), ("tiled once", "replicate-output")):
        report = check_law(source, replicate_layers(source, beta, bug), options)
        assert not report.ok
        assert report.failures[0].rule == rule or "does not run" in report.failures[0].detail


def test_the_report_is_json() -> None:
    source = plain()
    report = check_law(source, replicate(source, 2, "neighbour's scale"), SpecOptions(2))
    text = json.dumps(report.to_json(), allow_nan=False)
    assert json.loads(text)["failures"][0]["tensor"] == "one.scaled"


def _as_type(model: ModelProto, kind: int) -> ModelProto:
    """The model with another floating type."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(value.astype(dtype), tensor.name))
    for value_info in (*model.graph.input, *model.graph.output):
        value_info.type.tensor_type.elem_type = kind
    return model


def test_half_precision_has_its_own_tolerance() -> None:
    source = _as_type(plain(), TensorProto.FLOAT16)
    report = check_law(source, _as_type(replicate(plain(), 2), TensorProto.FLOAT16), SpecOptions(2))
    assert report.ok, [str(failure) for failure in report.failures]
    assert 1e-5 < report.worst.relative < 2.0**-7
    for bug in ("row blocks reversed", "neighbour's scale", "1/beta forgotten", "mean and variance swapped"):
        result = _as_type(replicate(plain(), 2, bug), TensorProto.FLOAT16)
        assert not check_law(source, result, SpecOptions(2)).ok


def test_a_type_that_cannot_run_is_said_aloud() -> None:
    source = _as_type(plain(), TensorProto.DOUBLE)
    with pytest.raises(RuntimeFailure, match="Conv"):
        check_law(source, _as_type(replicate(plain(), 2), TensorProto.DOUBLE), SpecOptions(2))


def _with_wide_output(model: ModelProto, beta: int | None = None) -> ModelProto:
    """The model with `one.act` as a second output; in a result (beta given) the mean of its copies."""
    value = helper.make_tensor_value_info("one.act", TensorProto.FLOAT, ["N", 12, 8, 8])
    model.graph.output.append(value)
    if beta is not None:
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = ["one.act/wide" if name == "one.act" else name for name in names]
        parts = [f"part{r}" for r in range(beta)]
        model.graph.node.append(helper.make_node("Split", ["one.act/wide"], parts, axis=1))
        model.graph.node.append(helper.make_node("Mean", parts, ["one.act"]))
    return model


@pytest.mark.parametrize("beta", [2, 4])
def test_wide_graph_outputs_are_means(beta: int) -> None:
    source = _with_wide_output(plain())
    report = check_law(source, _with_wide_output(replicate(plain(), beta), beta), SpecOptions(beta))
    assert report.ok, [str(failure) for failure in report.failures]
    assert report.coverage.compared == report.coverage.required
    bug = "neighbour's slope in one copy"
    report = check_law(source, _with_wide_output(replicate(plain(), beta, bug), beta), SpecOptions(beta))
    assert report.failures[0].tensor == "one.act"


def _with_stem_output(model: ModelProto, operator: str, *, wide: bool) -> ModelProto:
    """A model with another output: where the stem's output, which may be wide, is `Less` or `Greater` than a number."""
    made = "dark/wide" if wide else "dark"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "tenth"))
    model.graph.node.append(helper.make_node(operator, ["stem.bn", "tenth"], [made], name="dark"))
    if wide:
        model.graph.initializer.append(numpy_helper.from_array(np.arange(12), "first"))
        model.graph.node.append(helper.make_node("Gather", [made, "first"], ["dark"], axis=1))
    model.graph.output.append(helper.make_tensor_value_info("dark", TensorProto.BOOL, None))
    return model


@pytest.mark.parametrize("bug", ["", "row blocks reversed", "copies swapped", "stem interleaved"])
def test_booleans_of_a_stem_may_be_outputs(bug: str) -> None:
    """The copies of a stem are equal, so that their booleans have a mean; copies that are fed apart have none."""
    source = _with_stem_output(plain(), "Less", wide=False)
    report = check_law(source, _with_stem_output(replicate(plain(), 2, bug), "Less", wide=True), SpecOptions(2))
    assert report.ok is (not bug), [str(failure) for failure in report.failures]
    assert report.coverage.compared == report.coverage.required
    report = check_law(source, _with_stem_output(replicate(plain(), 2), "Greater", wide=True), SpecOptions(2))
    assert [failure.tensor for failure in report.failures] == ["dark"]


def test_an_interface_that_changed_is_the_first_failure() -> None:
    result = replicate(plain(), 2)
    result.graph.output[0].name = "scores"
    report = check_law(plain(), result, SpecOptions(2))
    assert [failure.rule for failure in report.failures] == ["interface"]


def test_a_result_that_does_not_run_is_a_failure() -> None:
    result = replicate(plain(), 2)
    result.graph.node[4].op_type = "Nonsense"
    report = check_law(plain(), result, SpecOptions(2))
    assert not report.ok
    assert report.failures[0].rule == "runs"
    result = replicate(plain(), 2)
    result.graph.node[4].input[0] = "logits"
    report = check_law(plain(), result, SpecOptions(2))
    assert report.failures[0].rule == "well-formed"


@pytest.mark.parametrize("space", [1, 3])
def test_other_numbers_of_space_axes(space: int) -> None:
    def build(beta: int, reverse: bool = False) -> ModelProto:
        """Stem, Sign, RepConv, classifier with `space` axes of space; for beta 1 the source."""
        net = Net(4)
        ones = [1] * space
        x = net.add(
            "Conv",
            ["input", net.store("stem.w", net.normal(8, 3, *[3] * space))],
            "s0" if beta > 1 else "stem",
        )
        net.nodes[-1].name = "stem"
        if beta > 1:
            x = net.add("Concat", [x] * beta, "stem", axis=1)
            net.nodes[-1].name = "tile"
        x = net.add("Sign", [x], "sign")
        rows = np.split(np.sign(net.normal(12, 8, *[3] * space)), beta)
        weight = net.store("one.w", np.concatenate(rows[::-1] if reverse else rows, axis=1))
        x = net.add("Conv", [x, weight], "y" if beta > 1 else "one")
        net.nodes[-1].name = "one"
        if beta > 1:
            x = net.add("Concat", [x] * beta**2, "one", axis=1)
            net.nodes[-1].name = "tile2"
        x = net.add("Flatten", [net.add("GlobalAveragePool", [x], "pool")], "flat")
        fc = net.normal(5, 12)
        weight = net.store("fc.w", np.concatenate([fc] * beta, axis=1) / np.float32(beta))
        net.nodes.append(helper.make_node("Gemm", [x, weight], ["logits"], name="fc", transB=1))
        model = net.model()
        del model.graph.input[:]
        model.graph.input.append(
            helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, *[7 * one for one in ones]])
        )
        return model

    assert check_law(build(1), build(3), SpecOptions(3)).ok
    report = check_law(build(1), build(3, reverse=True), SpecOptions(3))
    assert [failure.rule for failure in report.failures] == ["replicate-input", "replicate-output"]


@pytest.mark.parametrize("version", [3, 8])
def test_initializers_may_be_graph_inputs(version: int) -> None:
    def backed(model: ModelProto) -> ModelProto:
        model.ir_version = version
        for tensor in model.graph.initializer:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            model.graph.input.append(value)
        return model

    source = backed(plain(9))
    report = check_law(source, backed(replicate(plain(9), 2)), SpecOptions(2))
    assert report.ok, [str(failure) for failure in report.failures]
    assert not check_law(source, backed(replicate(plain(9), 2, "1/beta forgotten")), SpecOptions(2)).ok
    assert check_equivalent(source, source).ok
