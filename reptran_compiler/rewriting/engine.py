"""The engine: finds matches, executes the declared effects, and commits atomically."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from reptran_compiler.model import Constant, Graph, Node, Tensor, Variable
from reptran_compiler.rewriting.application import Application, Refused, nodes_made
from reptran_compiler.rewriting.cost import Counted, count_region
from reptran_compiler.rewriting.effects import Preserves
from reptran_compiler.rewriting.facts import CannotContinue, Facts
from reptran_compiler.rewriting.guard import EditedInPlace, unedited
from reptran_compiler.rewriting.matcher import match
from reptran_compiler.rewriting.patterns import ANY, Match, Mismatch, RequirementNotMet
from reptran_compiler.rewriting.region import Region
from reptran_compiler.rewriting.rules import Rule
from reptran_compiler.runtime import RuntimeFailure, TensorFact

_ROUNDS = 8
#: How far a rule may grow a graph: to so many times its operators, and some more.
_GROWTH, _ROOM = 8, 64


@dataclass(frozen=True)
class Tagged:
    """A new tensor, and what a rule says of it beyond its values. `rewrite` may return it in place of a tensor."""

    tensor: Tensor
    tag: Any


@dataclass
class RuleReport:
    """What a rule did: where it was applied, and why it did not match where it might have, by node name."""

    rule: str
    applied: list[str] = field(default_factory=list)
    missed: dict[str, Mismatch] = field(default_factory=dict)


class Context(Protocol):
    """What rules of a phase know of the whole graph."""

    def refresh(self) -> None:
        """The graph has changed; forget what was found of it."""


class Walk(Context, Protocol):
    """A context that steers a walk."""

    def pending(self, node: Node) -> bool:
        """Whether rules are to be tried on an operator."""

    def unfinished(self, node: Node) -> bool:
        """Whether an operator that a rule wrote needs a further one."""


@dataclass
class Engine:
    """Applies rules to a graph.

    Attributes:
        graph: the graph.
        facts: shapes, types and tags of its tensors.
        context: what rules know of the whole graph.
        check: whether declared effects and costs are executed.
        reports: what each rule did, by its name.
    """

    graph: Graph
    facts: Facts
    context: Any
    check: bool = True
    reports: dict[str, RuleReport] = field(default_factory=dict)
    _executed: set[bytes] = field(default_factory=set, repr=False)

    def fixpoint(self, rule: Rule) -> int:
        """Apply a rule wherever it matches, until it no longer does (at most 8 times over the graph).

        Returns:
            How often it was applied.

        Raises:
            Refused: a rewrite does not have the effect that the rule declares, and is not committed; or there is no
                end to them.
        """
        total, start = 0, len(self.graph.nodes)
        for turn in range(1, _ROUNDS + 1):
            self._refresh()
            count = sum(self._try(rule, node) is not None for node in list(self.graph.nodes) if self._alive(node))
            total += count
            if not count:
                break
            self.graph.tidy()
            size = len(self.graph.nodes)
            if size > start and (turn == _ROUNDS or size > _GROWTH * start + _ROOM):
                words = f"grew the graph from {start} to {size} operators and matches what it wrote"
                raise Refused(f"rule {rule.name!r} {words}: let its check turn down what is done", rule)
        return total

    def walk(self, rules: Sequence[Rule], context: Walk) -> list[Node]:
        """Visit every operator once, makers first, and apply to it the first rule that matches.

        Operators inside a match of a rule whose pattern asks for several are left to that rule; where it turns the
        match down they are visited one by one.

        Returns:
            The operators that were pending and that no rule was applied to.

        Raises:
            Refused: as `fixpoint` does.
        """
        self._refresh()
        deep = [rule for rule in rules if rule.pattern.deep]
        inner: dict[int, list[Node]] = {}
        claimed: set[int] = set()
        taken: set[int] = set()
        for rule in deep:
            for root in self.graph.nodes:
                found = match(rule.pattern, self.graph, root) if rule.pattern.accepts(root) else None
                if isinstance(found, Match) and not taken & {id(node) for node in found.nodes}:
                    taken |= {id(node) for node in found.nodes}
                    claimed |= {id(node) for node in found.nodes if node is not root}
                    inner.setdefault(id(root), []).extend(n for n in found.nodes if n is not root)
        left: list[Node] = []
        for node in list(self.graph.nodes):
            if id(node) in claimed or not self._alive(node):
                continue
            parts = inner.get(id(node), [])
            if parts and any(self._try(rule, node) is not None for rule in deep if context.pending(parts[-1])):
                continue
            left += [part for part in (*reversed(parts), node) if not self._visit(part, rules, context)]
        self.graph.tidy()
        return left

    def _visit(self, node: Node, rules: Sequence[Rule], context: Walk) -> bool:
        """Apply rules to an operator while they leave something to do. Returns whether nothing is left."""
        ready = context.pending(node)
        for _ in range(_ROUNDS):
            if not ready:
                return True
            made = next((new for rule in rules if (new := self._try(rule, node)) is not None), None)
            if made is None:
                return False
            node = made
            ready = context.unfinished(node)
        return False

    def _alive(self, node: Node) -> bool:
        return any(tensor.outputs or self.graph.is_output(tensor) for tensor in node.outputs)

    def _refresh(self) -> None:
        self.facts.refresh()
        self.context.refresh()

    def _try(self, rule: Rule, node: Node) -> Node | None:
        """Apply a rule to an operator. Returns the operator that now ends the expression, None where it does not
        match."""
        if not rule.pattern.accepts(node):
            return None
        report = self.reports.setdefault(rule.name, RuleReport(rule.name))
        found = match(rule.pattern, self.graph, node)
        made = self._rewritten(rule, found) if isinstance(found, Match) else found
        if isinstance(made, Mismatch):
            report.missed[node.name] = made
            return None
        self._commit(made)
        report.applied.append(node.name)
        report.missed.pop(node.name, None)
        last = made.new[0]
        return node if isinstance(last, Constant) or not last.inputs else last.inputs[0]

    def _rewritten(self, rule: Rule, found: Match) -> Application | Mismatch:
        """What a rule makes of a match, checked; nothing stays beside the graph where it is turned down."""
        found.facts, found.context = self.facts, self.context
        self.graph.adopt(())
        found.facts, found.context = self.facts, self.context
        try:
            check, rewrite = rule.part("check"), rule.part("rewrite")
            assert rewrite is not None, "`rule` asks for it"
            with unedited(found.nodes, found.root):
                if check is not None:
                    check(found)
                made = self._application(rule, found, rewrite(found, self.graph))
                if self.check:
                    self._execute(made)
            return made
        except RequirementNotMet as no:
            self.graph.adopt(())
            return no.mismatch
        except EditedInPlace as error:
            self.graph.adopt(())
            raise Refused(f"rule {rule.name!r} at node {found.root.name!r}: {error}", rule) from None
        except (Refused, CannotContinue):
            self.graph.adopt(())
            raise
        except RuntimeFailure as error:
            self.graph.adopt(())
            place = f"rule {rule.name!r} at node {found.root.name!r}"
            raise Refused(f"{place}: what it wrote does not run: {error}", rule) from None
        except Exception as error:
            self.graph.adopt(())
            kind = type(error).__name__
            raise Refused(f"rule {rule.name!r} at node {found.root.name!r} failed: {kind}: {error}", rule) from error

    def _application(self, rule: Rule, found: Match, result: Any) -> Application:
        given = list(result) if isinstance(result, (list, tuple)) else [result]
        tensors = [each.tensor if isinstance(each, Tagged) else each for each in given]
        tags = [each.tag if isinstance(each, Tagged) else None for each in given]
        strange = [each for each in tensors if not isinstance(each, (Variable, Constant))]
        if strange:
            hint = ": return its .outputs[0]" if isinstance(strange[0], Node) else ""
            raise Refused(
                f"rule {rule.name!r} at node {found.root.name!r}: rewrite returns a {type(strange[0]).__name__}, "
                f"which is no tensor{hint}",
                rule,
            )
        old = list(found.root.outputs)
        unread = [t for t in old[len(tensors) :] if t.name and (t.outputs or self.graph.is_output(t))]
        if unread or len(tensors) > len(old):
            raise Refused(
                f"rule {rule.name!r} at node {found.root.name!r} returns {len(tensors)} tensors for {len(old)} outputs",
                rule,
            )
        made = Application(rule, found, self.graph, self.facts, old[: len(tensors)], tensors, tags)
        made.made = {id(node) for node in self.graph.beside}
        same = all(was is now and tag is None for was, now, tag in zip(made.old, made.new, tags, strict=True))
        found.require(not same or rule.effect.kind != Preserves.kind, "changes nothing")
        for was, now in zip(made.old, made.new, strict=True):
            if was is not now and not self._is_new(now, made) and self.graph.is_output(was):
                found.require(False, "is a graph output and would lose its name", was)
        return made

    def _is_new(self, tensor: Tensor, made: Application) -> bool:
        return not isinstance(tensor, Constant) and bool(tensor.inputs) and id(tensor.inputs[0]) in made.made

    def _execute(self, made: Application) -> None:
        """Run the declared effect and count the declared cost, once for each distinct application."""
        key = self._key(made)
        if key in self._executed:
            return
        made.rule.effect.execute(made)
        if made.rule.cost is not None:
            old, new = made.before_region, made.after_region
            before = self._counted(old, [self.facts.source(tensor) for tensor in old.inputs.values()])
            after = self._counted(new, [self.facts.of(tensor) for tensor in new.inputs.values()])
            wrong = made.rule.cost.violation(before, after)
            if wrong:
                raise Refused(f"{made.place} {wrong}", made.rule, made)
        self._executed.add(key)

    def _key(self, made: Application) -> bytes:
        """A digest that is equal for equal regions which read the same of their inputs in the same places."""
        regions = [made.before_region, made.after_region]
        if "witness" in made.rule.effect.needs:
            regions.append(made.witness_region)
        digest = hashlib.sha256(f"{made.rule.name} {made.tags!r}".encode())
        numbers: dict[int, int] = {}
        for region in regions:
            digest.update(region.key)
            for tensor in region.inputs.values():
                known = [self.facts.of(tensor, number) for number in range(len(self.facts.cases))]
                number = numbers.setdefault(id(tensor), len(numbers))
                digest.update(f"{number} {known!r} {self.facts.tags.get(tensor.name)!r}".encode())
        return digest.digest()

    def _counted(self, region: Region, facts: Sequence[TensorFact]) -> Counted:
        return count_region(region.model, {name: fact.shape for name, fact in region.shapes(facts).items()})

    def _commit(self, made: Application) -> None:
        fresh = nodes_made(made, self.graph)
        self.graph.adopt(fresh)
        for old, new, tag in zip(made.old, made.new, made.tags, strict=True):
            if new is old:
                pass
            elif id(new.inputs[0]) in made.made if not isinstance(new, Constant) and new.inputs else False:
                self.graph.replace(old, new, fresh)
                self.facts.renamed(new.name, old.name)
            else:
                self.graph.redirect(old, new, fresh)
            if tag is not None:
                self.facts.tags[new.name] = tag
            elif made.rule.effect.kind != Preserves.kind:
                self.facts.tags.pop(new.name, None)
        for inner, taking in made.match.names:
            inner.name, taking.name = taking.name, inner.name
        self.graph.prune(made.match.root)


__all__ = ["ANY", "Context", "Engine", "Refused", "RuleReport", "Tagged", "Walk"]
