"""The engine: finds matches, executes the declared effect, and commits atomically."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper

from reptran_compiler.model import Constant, Graph, Node, Tensor, Variable, export_model
from reptran_compiler.rewriting.patterns import Match, Mismatch, RequirementNotMet, match
from reptran_compiler.rewriting.rules import Rule
from reptran_compiler.runtime import TensorFact, generator, is_float, run

_ROUNDING = 2e-6


class Refused(Exception):
    """A rule broke its declaration: what it wrote does not compute what it promised."""


@dataclass
class RuleReport:
    """What a rule did: how often it was applied, and why it did not match where it might have."""

    rule: str
    applied: list[str] = field(default_factory=list)
    missed: dict[str, Mismatch] = field(default_factory=dict)


@dataclass
class Engine:
    """Applies rules to a graph.

    Attributes:
        graph: the graph.
        facts: shape and type of each tensor by name, from one run of the source; tensors that rules make are
            added when their region runs.
        check: whether declared effects are executed.
    """

    graph: Graph
    facts: dict[str, TensorFact]
    check: bool = True
    reports: dict[str, RuleReport] = field(default_factory=dict)
    uniform: dict[str, float] = field(default_factory=dict)
    data: frozenset[str] = frozenset()
    runs: Counter[str] = field(default_factory=Counter)

    def apply(self, rule: Rule, *, rounds: int = 8) -> int:
        """Apply a rule wherever it matches, at most `rounds` times over the graph; returns how often.

        Raises:
            Refused: the rewrite does not have the effect that the rule declares. The graph is as it was.
        """
        report = self.reports.setdefault(rule.name, RuleReport(rule.name))
        total = 0
        for _ in range(rounds):
            count = 0
            for node in list(self.graph.nodes):
                if node.op_type in rule.pattern.types and node.outputs:
                    count += self._try(rule, node, report)
            total += count
            if not count:
                break
            self.graph.tidy()
        return total

    def _try(self, rule: Rule, node: Node, report: RuleReport) -> bool:
        found = match(rule.pattern, self.graph, node)
        if isinstance(found, Mismatch):
            report.missed[node.name] = found
            return False
        found.bound.update(facts=self.facts, uniform=self.uniform, data=self.data)
        old = node.outputs[0]
        try:
            if hasattr(rule.body, "check"):
                _plain(rule.body, "check")(found)
            new: Tensor = _plain(rule.body, "rewrite")(found, self.graph)
        except RequirementNotMet as no:
            report.missed[node.name] = no.mismatch
            return False
        if new is old:
            return False
        made = _made(new, {id(n) for n in self.graph.nodes})
        try:
            if self.check:
                self._execute(rule, found, old, new)
        except Exception:
            for fresh in made:
                fresh.inputs.clear()
                fresh.outputs.clear()
            raise
        self.graph.nodes += made
        if old.name in self.facts:
            self.facts[new.name] = self.facts[old.name]
        self.graph.replace(old, new)
        report.applied.append(node.name)
        return True

    def _execute(self, rule: Rule, found: Match, old: Tensor, new: Tensor) -> None:
        expected = _plain(rule.body, "witness")(found, self.graph) if hasattr(rule.body, "witness") else old
        if hasattr(rule.body, "frontier"):
            frontier = list(_plain(rule.body, "frontier")(found))
        else:
            frontier = [t for t in _frontier(new, self.facts) if isinstance(t, Variable)]
        after, before = _region(new, frontier, self.graph), _region(expected, frontier, self.graph)
        for t in frontier:
            if t.name not in self.facts:
                raise Refused(f"rule {rule.name!r} at {found.root.name!r}: nothing is known of {t.name!r}")
        free = [n for n in _inputs(before) if n not in {t.name for t in frontier}]
        if free:
            raise Refused(
                f"rule {rule.name!r} at {found.root.name!r}: the rewrite no longer depends on {free[0]!r}"
            )
        for seed, special in ((0, False), (1, True)):
            feeds = {t.name: _feed(self.facts[t.name], seed + i, special) for i, t in enumerate(frontier)}
            _add_inputs(before, feeds)
            _add_inputs(after, feeds)
            want = run(before, _used(before, feeds), [expected.name])[expected.name]
            got_all = run(after, _used(after, feeds), [t for n in after.graph.node for t in n.output])
            got = got_all[new.name]
            self._compare(rule, found, want, got)
            for name, value in got_all.items():
                self.facts.setdefault(name, TensorFact(value.shape, value.dtype))
        self.runs[rule.name] += 1

    def _compare(self, rule: Rule, found: Match, want: NDArray[Any], got: NDArray[Any]) -> None:
        place = f"rule {rule.name!r} at node {found.root.name!r}"
        if want.shape != got.shape or want.dtype != got.dtype:
            raise Refused(f"{place}: {want.dtype}{list(want.shape)} became {got.dtype}{list(got.shape)}")
        if not is_float(want.dtype):
            if not np.array_equal(want, got):
                raise Refused(f"{place}: {int((want != got).sum())} of {want.size} values changed")
            return
        a, b = want.astype(np.float64), got.astype(np.float64)
        known = np.isfinite(a)
        limit = _ROUNDING * max(1.0, float(np.abs(a[known]).max(initial=0.0)))
        wrong = known & ~(np.abs(np.where(known, a, 0) - np.where(known, b, 0)) <= limit)
        if wrong.any():
            spot = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise Refused(
                f"{place} does not preserve values: {a[spot]:.7g} became {b[spot]:.7g} at {list(spot)}, "
                f"{int(wrong.sum())} of {wrong.size} values differ"
            )


def _plain(body: Any, name: str) -> Any:
    part = body.__dict__[name]
    return part.__func__ if isinstance(part, staticmethod) else part


def _made(new: Tensor, known: set[int]) -> list[Node]:
    found: dict[int, Node] = {}
    stack = list(new.inputs)
    while stack:
        node = stack.pop()
        if id(node) in known or id(node) in found:
            continue
        found[id(node)] = node
        stack += [t.inputs[0] for t in node.inputs if t.inputs]
    return list(reversed(found.values()))


def _frontier(new: Tensor, facts: dict[str, TensorFact]) -> list[Tensor]:
    """Where a new expression meets the graph: the tensors it reads that were there before."""
    found: dict[int, Tensor] = {}
    stack, seen = [new], set()
    while stack:
        tensor = stack.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if not isinstance(tensor, Constant) and (not tensor.inputs or (tensor.name in facts)):
            found[id(tensor)] = tensor
            continue
        stack += [t for n in tensor.inputs for t in n.inputs if t.name]
    return list(found.values())


def _region(end: Tensor, frontier: list[Tensor], graph: Graph) -> ModelProto:
    stop, nodes = {id(t) for t in frontier}, {}
    stack = [end]
    while stack:
        tensor = stack.pop()
        if id(tensor) in stop:
            continue
        for node in tensor.inputs:
            if id(node) not in nodes:
                nodes[id(node)] = node
                stack += node.inputs
    inner = Graph(graph.model, nodes.values(), [], [end], frozenset(), set())
    if not nodes:
        same = Node("Identity", "same", {}, [end], [Variable(end.name + "/same")])
        inner = Graph(graph.model, [same], [], [end], frozenset(), set())
        inner.nodes = []
    order: list[Node] = []
    done: set[int] = set()

    def visit(node: Node) -> None:
        todo = [(node, False)]
        while todo:
            here, ready = todo.pop()
            if ready:
                order.append(here)
                continue
            if id(here) in done:
                continue
            done.add(id(here))
            todo.append((here, True))
            todo += [(t.inputs[0], False) for t in here.inputs if t.inputs and id(t.inputs[0]) in nodes]

    for node in nodes.values():
        visit(node)
    inner.nodes = order
    model = export_model(inner)
    del model.graph.input[:], model.graph.output[:]
    model.graph.output.append(helper.make_empty_tensor_value_info(end.name))
    return model


def _inputs(model: ModelProto) -> list[str]:
    known = {n for node in model.graph.node for n in node.output} | {t.name for t in model.graph.initializer}
    return list(dict.fromkeys(n for node in model.graph.node for n in node.input if n and n not in known))


def _used(model: ModelProto, feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {value.name: feeds[value.name] for value in model.graph.input}


def _add_inputs(model: ModelProto, feeds: dict[str, NDArray[Any]]) -> None:
    del model.graph.input[:]
    read = {n for node in model.graph.node for n in node.input} | {o.name for o in model.graph.output}
    made = {n for node in model.graph.node for n in node.output}
    for name, value in feeds.items():
        if name in read and name not in made:
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            model.graph.input.append(helper.make_tensor_value_info(name, kind, list(value.shape)))


def _feed(fact: TensorFact, seed: int, special: bool) -> NDArray[Any]:
    draw = generator(seed, "effect")
    dtype = np.dtype(fact.dtype)
    if not is_float(dtype):
        return draw.integers(0, 2, fact.shape).astype(dtype)
    values = draw.normal(size=fact.shape).astype(dtype)
    if special and values.size:
        points = np.asarray([0.0, -0.0, 1.0, -1.0, np.finfo(dtype).tiny, -np.finfo(dtype).tiny], dtype)
        flat = values.reshape(-1)
        flat[: min(flat.size, points.size)] = points[: min(flat.size, points.size)]
    return values


__all__ = ["Engine", "Refused", "RuleReport"]
