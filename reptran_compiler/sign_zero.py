"""`--sign-zero plus`: Sign, which is 0 at 0, is changed to be +1 there, as kernels of one bit have it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from reptran_compiler.model.protos import copy_fields
from reptran_compiler.runtime import TensorFact, is_float, random_feeds, tensor_facts
from reptran_compiler.trial import Trial

#: The opset that brought GreaterOrEqual; Sign itself came with 9, as Where did.
_NOT_BELOW_SINCE = 12


def plus_at_zero(model: ModelProto, trial: Trial, *, threads: int = 1) -> tuple[ModelProto, tuple[str, ...]]:
    """A model in whose main graph every Sign of floating-point numbers is +1 at 0, and what to tell of it.

    Tensors keep their names, and what was a Sign node keeps its name, documentation and metadata.

    Args:
        model: the model; it is not changed. The model itself comes back where it has no such Sign.
        trial: what it runs with.
        threads: threads of onnxruntime.
    """
    facts = tensor_facts(model, random_feeds(model, batch=trial.batches[0], dims=trial.dims), threads=threads)
    signs = [node for node in model.graph.node if _is_sign(node, facts)]
    if not signs:
        return model, ("--sign-zero plus: no Sign is 0 at 0",)
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    made = ModelProto()
    copy_fields(model, made, without=("graph",))
    copy_fields(model.graph, made.graph, without=("node",))
    names = _fresh(model)
    stored: dict[tuple[np.dtype[np.generic], float], str] = {}

    def constant(value: float, dtype: np.dtype[np.generic]) -> str:
        if (dtype, value) not in stored:
            stored[dtype, value] = next(names)
            made.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), stored[dtype, value]))
        return stored[dtype, value]

    for node in model.graph.node:
        if not _is_sign(node, facts):
            made.graph.node.append(node)
            continue
        dtype, mask = facts[node.output[0]].dtype, next(names)
        operands = [node.input[0], constant(0.0, dtype)]
        if opset >= _NOT_BELOW_SINCE:
            made.graph.node.append(helper.make_node("GreaterOrEqual", operands, [mask], name=mask))
        else:
            below = next(names)
            made.graph.node.append(helper.make_node("Less", operands, [below], name=below))
            made.graph.node.append(helper.make_node("Not", [below], [mask], name=mask))
        chosen = NodeProto(op_type="Where", input=[mask, constant(1.0, dtype), constant(-1.0, dtype)])
        copy_fields(node, chosen, without=("op_type", "input"))
        made.graph.node.append(chosen)
    return made, (
        f"--sign-zero plus: Sign was made +1 at 0 ({len(signs)} in the source); the result is verified against that",
    )


def _is_sign(node: NodeProto, facts: Mapping[str, TensorFact]) -> bool:
    plain = node.op_type == "Sign" and node.domain in ("", "ai.onnx")
    return plain and is_float(facts[node.output[0]].dtype)


def _fresh(model: ModelProto) -> Iterator[str]:
    """Names that nothing in the main graph has."""
    taken = {name for node in model.graph.node for name in (node.name, *node.input, *node.output)}
    taken.update(each.name for each in (*model.graph.initializer, *model.graph.input))
    candidates = (f"sign_zero/{number}" for number in range(1 << 62))
    return (name for name in candidates if name not in taken)
