"""A graph on the workbench: a few nodes in, an engine with the facts that it needs, what was exported out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import FunctionProto, ModelProto, NodeProto, helper, numpy_helper

from reptran_compiler.model import Graph, Node, export_model, import_model
from reptran_compiler.rewriting import Engine, Facts, Match, Mismatch, Rule, match
from reptran_compiler.rewriting.patterns import build
from reptran_compiler.runtime import random_feeds, tensor_facts

OPSET = 17


class NoContext:
    """What rules know of the whole graph: nothing."""

    def refresh(self) -> None:
        """Nothing to forget."""


@dataclass
class Bench:
    """A graph with an engine.

    Attributes:
        graph: the graph.
        engine: an engine on it.
    """

    graph: Graph
    engine: Engine

    @property
    def bytes(self) -> bytes:
        """A fingerprint of the graph: what would be written of it."""
        return export_model(self.graph).SerializeToString(deterministic=True)

    @property
    def ops(self) -> list[str]:
        """The types of its operators, in order."""
        return [node.op_type for node in self.graph.nodes]

    def node(self, name: str) -> Node:
        """The operator of a name."""
        return next(node for node in self.graph.nodes if node.name == name)

    def match(self, pattern: Any, name: str) -> Match | Mismatch:
        """A pattern function against the expression that ends in the node of a name."""
        return match(build(pattern), self.graph, self.node(name))

    def apply(self, rule: Rule) -> int:
        """A rule wherever it matches; how often that was."""
        return self.engine.fixpoint(rule)


def model_of(
    *nodes: NodeProto,
    outputs: Sequence[str] = ("y",),
    shape: Sequence[int | str] = ("N", 4, 3, 3),
    functions: Sequence[FunctionProto] = (),
    domains: Sequence[str] = (),
    opset: int = OPSET,
    **stored: Any,
) -> ModelProto:
    """A model with the input `x` (float) of some shape, and initializers by name."""
    graph = helper.make_graph(
        list(nodes),
        "workbench",
        [helper.make_tensor_value_info("x", 1, list(shape))],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [numpy_helper.from_array(_stored(value), name) for name, value in stored.items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=8)


def bench(model: ModelProto, *, check: bool = True) -> Bench:
    """A model on the workbench, with the shapes of two runs."""
    graph = import_model(model)
    facts = Facts(graph, [tensor_facts(model, random_feeds(model, batch=batch)) for batch in (2, 1)])
    return Bench(graph, Engine(graph, facts, NoContext(), check))


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """A node that has the name of its first output; "-" stands for an absent operand."""
    read = ["" if name == "-" else name for name in inputs.split()]
    made = outputs.split()
    return helper.make_node(op, read, made, **{"name": made[0], **attributes})


def norm(channels: int = 4, seed: int = 0) -> dict[str, Any]:
    """Parameters of a BatchNormalization in which nothing is degenerate: gamma, beta, mean, var."""
    draw = np.random.default_rng(seed)
    return {
        "gamma": draw.uniform(0.5, 1.5, channels) * draw.choice([-1, 1], channels),
        "beta": draw.normal(size=channels),
        "mean": draw.normal(size=channels),
        "var": draw.uniform(0.05, 2, channels),
    }


def _stored(value: Any) -> Any:
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float64 else array
