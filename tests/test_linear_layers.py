"""Linear layers in unusual spellings: carried and verified, a boundary, or refused with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import compile_file
from onnx import ModelProto, NodeProto, helper
from small_networks import SIGN, network

DRAW = np.random.default_rng(5)
SIGNS = np.sign(DRAW.normal(size=(8, 8)))


def node(op: str, reads: list[str], makes: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, reads, [makes], name=makes, **attributes)


def headed(*nodes: NodeProto, **stored: Any) -> ModelProto:
    """The network with other nodes between its pooled features `f` and its output `o`."""
    model = network(SIGN, **stored)
    del model.graph.node[-1:]
    model.graph.node.extend(nodes)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("o", 1, None))
    return model


def hidden(**attributes: Any) -> list[NodeProto]:
    """A binary hidden layer, and the classifier behind it."""
    turned = [node("Transpose", ["fs"], "ft")] if attributes.get("transA") else []
    reads = ["ft" if turned else "fs", "hw", *(["hb"] if "beta" in attributes else [])]
    return [
        node("Sign", ["f"], "fs"),
        *turned,
        node("Gemm", reads, "hid", **attributes),
        node("Relu", ["hid"], "hr"),
        node("Gemm", ["hr", "fc.w"], "o", transB=1),
    ]


MODELS = {
    "hidden, alpha and beta": headed(*hidden(alpha=0.5, beta=2.0), hw=SIGNS, hb=DRAW.normal(size=8)),
    "hidden, transA": headed(*hidden(transA=1), hw=SIGNS),
    "classifier, transA": headed(node("Transpose", ["f"], "ft"), node("Gemm", ["ft", "fc.w"], "o", transA=1, transB=1)),
    "classifier, binary": headed(node("Sign", ["f"], "fs"), node("MatMul", ["fs", "bw"], "o"), bw=SIGNS[:, :5] * 0.2),
    "classifier, a stack of matrices": headed(
        node("Reshape", ["f", "three"], "f3"),
        node("MatMul", ["f3", "w3"], "o"),
        three=np.array([0, 1, 8], np.int64),
        w3=DRAW.normal(size=(1, 8, 5)),
    ),
}


@pytest.mark.parametrize("fc", ["widen", "fold"])
@pytest.mark.parametrize("name", MODELS)
def test_a_linear_layer_is_verified(name: str, fc: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = compile_file(MODELS[name], tmp_path, capsys, "--fc", fc)
    assert done.code == 0, done.err
    assert "verified: " in done.out


def in_space(weight: Any, *reads: str) -> ModelProto:
    """A product with a constant behind the binary layer, in front of another one."""
    behind = [
        node("MatMul", list(reads), "mm"),
        node("Sign", ["mm"], "ms"),
        node("Conv", ["ms", "last"], "t"),
    ]
    return network(SIGN, behind=behind, w2=weight, last=np.sign(DRAW.normal(size=(8, 8, 1, 1))))


def test_a_product_over_space_is_a_boundary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = compile_file(in_space(DRAW.normal(size=(6, 6)), "y", "w2"), tmp_path, capsys)
    assert done.code == 0, done.err
    assert "boundary" in done.out and "does not contract the channel axis" in done.out


def test_weights_on_the_left_are_refused_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = in_space(DRAW.normal(size=(6, 6)), "w2", "y")
    done = compile_file(model, tmp_path, capsys)
    assert done.code == 1 and done.written == ()
    assert "'mm'" in done.err and "on the left" in done.err and "--exclude" in done.err
    done = compile_file(model, tmp_path, capsys, "--exclude", "^mm$")
    assert done.code == 0, done.err
