"""One binary layer between a stem and a classifier, with room for whatever a test puts around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import FunctionProto, ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper

Array = NDArray[Any]

#: The plain binarisation, from the stem's output `a` to the layer's input `s`.
SIGN = helper.make_node("Sign", ["a"], ["s"], name="sign")


def network(
    *between: NodeProto,
    filters: int = 8,
    behind: Sequence[NodeProto] = (),
    inputs: Sequence[ValueInfoProto] = (),
    functions: Sequence[FunctionProto] = (),
    domains: Sequence[str] = (),
    opset: int = 17,
    **stored: Any,
) -> ModelProto:
    """stem -> `between` (a to s, 8 channels) -> binary layer -> `behind` (y to t) -> pooling -> classifier.

    Args:
        between: the nodes between the stem's output `a` and the layer's input `s`; `SIGN` when none is given.
        filters: of the layer.
        behind: the nodes between the layer's output `y` and `t`; none to pool `y`.
        inputs: graph inputs besides the image `x` [N, 3, 6, 6].
        functions, domains: local functions, and further domains that are imported.
        opset: the version of ONNX' operators.
        stored: further initializers, or others in the place of "stem.w", "w" (the layer) and "fc.w".
    """
    draw = np.random.default_rng(0)
    values = {
        "stem.w": draw.normal(size=(8, 3, 3, 3)),
        "w": np.sign(draw.normal(size=(filters, 8, 3, 3))),
        "fc.w": draw.normal(size=(5, filters)),
        **stored,
    }
    nodes = [
        helper.make_node("Conv", ["x", "stem.w"], ["a"], name="stem", pads=[1] * 4),
        *(between or (SIGN,)),
        helper.make_node("Conv", ["s", "w"], ["y"], name="layer", pads=[1] * 4),
        *behind,
        helper.make_node("GlobalAveragePool", ["t" if behind else "y"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "fc.w"], ["o"], name="fc", transB=1),
    ]
    tensors = [numpy_helper.from_array(_float32(np.asarray(value)), name) for name, value in values.items()]
    image = helper.make_tensor_value_info("x", 1, ["N", 3, 6, 6])
    logits = helper.make_tensor_value_info("o", 1, ["N", 5])
    graph = helper.make_graph(nodes, "network", [image, *inputs], [logits], tensors)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=8)


def if_node(read: str, made: str) -> NodeProto:
    """`flag ? 2 * read : -read`, both read from inside of the branches; 2 is the initializer `two`."""
    value = helper.make_tensor_value_info
    then = helper.make_graph(
        [helper.make_node("Mul", [read, "two"], ["doubled"], name="then")], "then", [], [value("doubled", 1, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", [read], ["negated"], name="else")], "else", [], [value("negated", 1, None)]
    )
    return helper.make_node("If", ["flag"], [made], name="choice", then_branch=then, else_branch=other)


def loop_node(read: str, made: str) -> NodeProto:
    """`read` doubled `trips` times."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go on"]),
            helper.make_node("Add", ["state", "state"], ["next state"], name="double"),
        ],
        "body",
        [value("trip", 7, []), value("go", 9, []), value("state", 1, None)],
        [value("go on", 9, []), value("next state", 1, None)],
    )
    return helper.make_node("Loop", ["trips", "", read], [made], name="loop", body=body)


def custom_operator(read: str, made: str) -> NodeProto:
    """`acme.Twice`, which is known only where `local_function` is in the file."""
    return helper.make_node("Twice", [read], [made], name="custom", domain="acme")


def local_function() -> FunctionProto:
    """The body of `acme.Twice`."""
    body = [helper.make_node("Add", ["i", "i"], ["j"])]
    return helper.make_function("acme", "Twice", ["i"], ["j"], body, [helper.make_opsetid("", 17)])


def norm_values(channels: int = 8, prefix: str = "bn", seed: int = 3) -> dict[str, Array]:
    """Parameters of a BatchNormalization that nothing is degenerate in: scale, bias, mean, variance."""
    draw = np.random.default_rng(seed)
    return {
        f"{prefix}.scale": draw.uniform(0.5, 1.5, channels) * draw.choice([-1, 1], channels),
        f"{prefix}.bias": draw.normal(size=channels),
        f"{prefix}.mean": draw.normal(size=channels),
        f"{prefix}.var": draw.uniform(0.5, 2, channels),
    }


def _float32(value: Array) -> Array:
    return value.astype(np.float32) if value.dtype == np.float64 else value
