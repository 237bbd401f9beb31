"""Calling rules: what a rule makes of an operator, held against what it declares. The graph stays as it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, ParamSpec, TypeVar

from reptran_compiler.errors import BadInput, OutOfMemory
from reptran_compiler.model import Constant, Graph, Node, Tensor, Variable
from reptran_compiler.rewriting.application import Application, Refused
from reptran_compiler.rewriting.cost import Counted, count_region
from reptran_compiler.rewriting.effects import Preserves
from reptran_compiler.rewriting.facts import CannotContinue, Facts
from reptran_compiler.rewriting.guard import EditedInPlace, Watch
from reptran_compiler.rewriting.limit import TimeLimit, TookTooLong
from reptran_compiler.rewriting.patterns import Match, Mismatch, RequirementNotMet
from reptran_compiler.rewriting.region import Region
from reptran_compiler.rewriting.rules import Rule
from reptran_compiler.rewriting.shield import shielded
from reptran_compiler.rewriting.validity import flaw
from reptran_compiler.runtime import RuntimeFailure, TensorFact

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True)
class Tagged:
    """A new tensor, and what a rule says of it beyond its values. `rewrite` may return it in place of a tensor."""

    tensor: Tensor
    tag: Any


#: What a rule makes of an operator, or why it makes nothing of it.
Attempt = Callable[[Node], Application | Mismatch]


@dataclass
class Attempts:
    """Rules called on the operators of a graph.

    Attributes:
        graph: the graph.
        facts: shapes, types and tags of its tensors.
        context: what rules know of the whole graph.
        check: whether declared effects and costs are executed.
        paranoid: whether to watch the whole graph around every call, and to call each rule twice.
        limit: how long each function of a rule may take.
        trust: whether the effects and costs of the compiler's own rules are not executed.
    """

    graph: Graph
    facts: Facts
    context: Any
    check: bool
    paranoid: bool
    limit: TimeLimit
    trust: bool = False
    _executed: set[bytes] = field(default_factory=set, repr=False)

    def matched(self, rule: Rule, node: Node) -> Match | Mismatch:
        """A rule's pattern against an operator.

        Raises:
            Refused: a test in the pattern raises, edits the graph, or does not come back.
        """
        return self._answered(rule, node, self._matched, rule, node)

    def of(self, rule: Rule) -> Attempt:
        """What tells what a rule makes of an operator, checked; nothing stays beside the graph where it is turned down.

        It raises:
            Refused: the rule fails, edits the graph, does not come back, or breaks its declaration.
            CannotContinue: a rule of the compiler says that the model cannot be compiled.
        """
        graph, trusted, match, check, rewrite = self.graph, self._trusted(rule), rule.match, rule.check, rule.rewrite

        def made(node: Node) -> Application | Mismatch:
            try:
                if not trusted:
                    return self._checking(rule, node)
                found = match(graph, node)
                if isinstance(found, Mismatch):
                    return found
                found.facts, found.context = self.facts, self.context
                if check is not None:
                    _see_nothing(rule, found, check(found))
                return self._application(rule, found, rewrite(found, graph))
            except RequirementNotMet as no:
                graph.adopt(())
                return no.mismatch
            except BaseException as error:  # noqa: BLE001 - a rule may raise anything
                graph.adopt(())
                _refuse(rule, node, error)

        return made

    def _trusted(self, rule: Rule) -> bool:
        """Whether a rule is called as it is: it is the compiler's own, and nothing is checked."""
        return rule.ours and (self.trust or not self.check) and not self.paranoid

    def _checked(self, rule: Rule) -> bool:
        """Whether what a rule declares is executed."""
        return self.check and not (self.trust and rule.ours)

    def _checking(self, rule: Rule, node: Node) -> Application | Mismatch:
        """What a rule makes of an operator, held against what it declares."""
        found = self.matched(rule, node)
        if isinstance(found, Mismatch):
            return found
        self.graph.adopt(())
        return self._watched(rule, found)

    def _matched(self, rule: Rule, node: Node) -> Match | Mismatch:
        if self._trusted(rule):
            return rule.match(self.graph, node)
        watch = Watch(self.graph, self.graph.nodes) if self.paranoid else None
        found = self._call(rule, rule.match, self.graph, node)
        if watch is not None:
            watch.see()
        return found

    def _answered(self, rule: Rule, node: Node, attempt: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What an attempt gives; whatever a rule raises becomes a refusal that names it and the operator."""
        try:
            return attempt(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - a rule may raise anything
            _refuse(rule, node, error)

    def _call(self, rule: Rule, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a function of a rule returns, within the time limit."""
        with nullcontext() if rule.ours else shielded():
            return self.limit.run(lambda: function(*args, **kwargs))

    def _watched(self, rule: Rule, found: Match) -> Application:
        """What a rule writes for a match, executed if declarations are, and the graph watched meanwhile."""
        watch = Watch(self.graph, self.graph.nodes) if self.paranoid else Watch.around(found)
        try:
            made = self._twice(rule, found) if self.paranoid else self._built(rule, found)
            if self._checked(rule):
                self._execute(made)
        finally:
            watch.see()
        return made

    def _built(self, rule: Rule, found: Match) -> Application:
        """What a rule writes for a match, not yet executed."""
        found.facts, found.context = self.facts, self.context
        if rule.check is not None:
            _see_nothing(rule, found, self._call(rule, rule.check, found))
        made = self._application(rule, found, self._call(rule, rule.rewrite, found, self.graph))
        wrong = flaw(found, made.new, names=self.paranoid or not rule.ours)
        if wrong:
            raise Refused(f"{_place(rule, found.root)}: {wrong}", rule)
        return made

    def _application(self, rule: Rule, found: Match, result: Any) -> Application:
        given = result if isinstance(result, (list, tuple)) else (result,)
        tensors = [each.tensor if isinstance(each, Tagged) else each for each in given]
        tags = [each.tag if isinstance(each, Tagged) else None for each in given]
        strange = [each for each in tensors if not isinstance(each, (Variable, Constant))]
        if strange:
            hint = ": return its .outputs[0]" if isinstance(strange[0], Node) else ""
            kind = type(strange[0]).__name__
            raise Refused(f"{_place(rule, found.root)}: rewrite returns a {kind}, which is no tensor{hint}", rule)
        old = list(found.root.outputs)
        if len(tensors) != len(old):
            unread = [t for t in old[len(tensors) :] if t.name and (t.outputs or self.graph.is_output(t))]
            if unread or len(tensors) > len(old):
                place = _place(rule, found.root)
                raise Refused(f"{place} returns {len(tensors)} tensors for {len(old)} outputs", rule)
            del old[len(tensors) :]
        beside = {id(node) for node in self.graph.beside}
        made = Application(rule, found, self.graph, self.facts, old, tensors, tags, beside)
        changes = rule.effect.kind != Preserves.kind
        for was, now, tag in zip(old, tensors, tags, strict=True):
            changes = changes or was is not now or tag is not None
            if was is not now and not made.is_new(now) and self.graph.is_output(was):
                found.turn_down("is a graph output and would lose its name", was)
        found.require(changes, "changes nothing")
        return made

    def _twice(self, rule: Rule, found: Match) -> Application:
        """What a rule writes for a match, called twice.

        Raises:
            Refused: it does not write the same twice, or it writes what was there.
        """
        with self.graph.rehearsal():
            first = self._built(rule, replace(found, names=[]))
            written = first.what_it_writes
        try:
            made = self._built(rule, found)
        except RequirementNotMet as no:
            raise Refused(f"{first.place} turns down at a second call what it took at the first: {no}", rule) from no
        if made.what_it_writes != written:
            raise Refused(f"{made.place} writes something else when it is called a second time", rule)
        if rule.effect.kind == Preserves.kind and not any(made.tags) and made.repeats:
            raise Refused(f"{made.place} reports a rewrite, and what it wrote is what was there", rule)
        return made

    def _execute(self, made: Application) -> None:
        """Run the declared effect and count the declared cost, once for each distinct application."""
        effect = made.rule.effect
        if "witness" in effect.needs:
            self._call(made.rule, lambda: made.witness_region)
        key = self._key(made)
        if key in self._executed:
            return
        if type(effect).__module__.startswith("reptran_compiler."):
            effect.execute(made)
        else:
            self._call(made.rule, effect.execute, made)
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


def _see_nothing(rule: Rule, found: Match, answer: Any) -> None:
    """Refuse a rule whose check returns something."""
    if answer is not None:
        hint = "it turns matches down with m.require(...)"
        raise Refused(f"{_place(rule, found.root)}: check returns {answer!r}: {hint}", rule)


def _refuse(rule: Rule, node: Node, error: BaseException) -> NoReturn:
    """Raise what an error comes out as that a rule raised: a refusal that names it and the operator."""
    if isinstance(error, (RequirementNotMet, Refused, OutOfMemory, KeyboardInterrupt)):
        raise error
    if isinstance(error, (CannotContinue, BadInput)) and rule.ours:
        raise error
    place = _place(rule, node)
    if isinstance(error, (EditedInPlace, TookTooLong, CannotContinue, BadInput)):
        raise Refused(f"{place}: {error}", rule) from None
    if isinstance(error, RuntimeFailure):
        raise Refused(f"{place}: what it wrote does not run: {error}", rule) from None
    if isinstance(error, SystemExit):
        raise Refused(f"{place} ends the process (exit code {error.code})", rule) from None
    words = " ".join(f"{type(error).__name__}: {error}".split())
    raise Refused(f"{place} failed: {words}", rule) from error


def _place(rule: Rule, node: Node) -> str:
    """A rule and an operator, for messages."""
    return f"rule {rule.name!r} at node {node.name!r}"
