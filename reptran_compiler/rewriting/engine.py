"""The engine: finds matches, executes the declared effects, and commits atomically."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from reptran_compiler.model import Constant, Graph, Node
from reptran_compiler.rewriting.application import Application, Refused, nodes_made
from reptran_compiler.rewriting.attempts import Attempt, Attempts
from reptran_compiler.rewriting.effects import Preserves
from reptran_compiler.rewriting.facts import Facts
from reptran_compiler.rewriting.guard import EditedInPlace, Watch
from reptran_compiler.rewriting.limit import TimeLimit
from reptran_compiler.rewriting.patterns import ANY, Match, Mismatch
from reptran_compiler.rewriting.region import fingerprint
from reptran_compiler.rewriting.rules import Rule

_ROUNDS = 8
#: How far a rule may grow a graph: to so many times its operators, and some more.
_GROWTH, _ROOM = 8, 64
#: How many rules a refusal names where several may have edited the graph.
_NAMED = 3


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
        paranoid: the test mode: the whole graph is watched around every call of a rule, each rule is called twice,
            and one that does something else than it reports is refused.
        limit: how long each function of a rule may take.
        trust: whether effects and costs of the compiler's own rules are taken as declared.
    """

    graph: Graph
    facts: Facts
    context: Any
    check: bool = True
    reports: dict[str, RuleReport] = field(default_factory=dict)
    paranoid: bool = False
    limit: TimeLimit = field(default_factory=TimeLimit)
    trust: bool = False
    _touched: set[int] = field(default_factory=set, repr=False)
    _watching: bool = field(default=False, repr=False)
    _attempts: Attempts = field(init=False, repr=False)
    _rules: dict[int, tuple[Rule, RuleReport, Attempt]] = field(default_factory=dict, repr=False)
    _places: dict[str, list[int]] = field(default_factory=dict, repr=False)
    _seen: int = field(default=-1, repr=False)

    def __post_init__(self) -> None:
        self._attempts = Attempts(
            self.graph, self.facts, self.context, self.check, self.paranoid, self.limit, self.trust
        )

    def fixpoint(self, rule: Rule) -> int:
        """Apply a rule wherever it matches, until it no longer does (at most 8 times over the graph).

        Returns:
            How often it was applied.

        Raises:
            Refused: a rewrite does not have the effect that the rule declares, and is not committed; the rule edits
                the graph, or there is no end to its rewrites.
        """
        total, start = 0, len(self.graph.nodes)
        half = b""
        for turn in range(1, _ROUNDS + 1):
            self._refresh()
            if self._lacks(rule):
                break
            with self._watched([rule]), self._tidied():
                count = 0
                for node in self._roots(rule):
                    if not node.gone and self._try(rule, node) is not None:
                        count += 1
            total += count
            if not count:
                break
            self.graph.tidy()
            size = len(self.graph.nodes)
            hint = "let its check turn down what is done"
            if size > start and (turn == _ROUNDS or size > _GROWTH * start + _ROOM):
                words = f"grew the graph from {start} to {size} operators and matches what it wrote"
                raise Refused(f"rule {rule.name!r} {words}: {hint}", rule)
            if turn == _ROUNDS // 2 and not rule.ours:
                half = fingerprint(self.graph)
            elif turn == _ROUNDS and not rule.ours and fingerprint(self.graph) == half:
                words = f"rewrites for ever: after {turn} times the graph is what it was after {turn // 2}"
                raise Refused(f"rule {rule.name!r} {words}: {hint}", rule)
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
        with self._watched(rules), self._tidied():
            left = self._walked(rules, context)
        self.graph.tidy()
        return left

    def _walked(self, rules: Sequence[Rule], context: Walk) -> list[Node]:
        deep = [rule for rule in rules if rule.pattern.deep]
        inner: dict[int, list[Node]] = {}
        claims: Counter[int] = Counter()
        for rule in deep:
            for root in self._roots(rule):
                found = self._attempts.matched(rule, root)
                if isinstance(found, Match):
                    inner.setdefault(id(root), []).extend(node for node in found.nodes if node is not root)
        for parts in inner.values():
            claims.update(id(part) for part in parts)
        left: list[Node] = []
        by_type: dict[str, list[Rule]] = {}
        for node in list(self.graph.nodes):
            parts = inner.get(id(node), [])
            if parts:
                claims.subtract(id(part) for part in parts)
            if node.gone:
                continue
            if parts and any(
                self._try(rule, node) is not None
                for rule in deep
                if context.pending(parts[-1]) and rule.pattern.accepts(node)
            ):
                continue
            # What a match behind this one may still take is left to it.
            free = [each for each in (*reversed(parts), node) if claims[id(each)] == 0 and not each.gone]
            left += [each for each in free if not self._visit(each, rules, context, by_type)]
        return left

    @contextmanager
    def _tidied(self) -> Iterator[None]:
        """Drop what was replaced where a block ends in a refusal, too: the graph can be used still."""
        try:
            yield
        except BaseException:
            self.graph.tidy()
            raise

    @contextmanager
    def _watched(self, rules: Sequence[Rule]) -> Iterator[None]:
        """See that in a block no operator is edited but by what rules report; where they are the compiler's own, in
        the test mode only."""
        strange = list(rules) if self.paranoid else [rule for rule in rules if not rule.ours]
        watch = Watch(self.graph, self.graph.nodes) if strange else None
        self._touched.clear()
        self._watching = watch is not None
        yield
        if watch is not None:
            try:
                watch.see_but(self._touched)
            except EditedInPlace as error:
                self.graph.tidy()
                names = " or ".join(f"rule {rule.name!r}" for rule in strange[:_NAMED])
                raise Refused(f"{names}: {error}", strange[0]) from None

    def _visit(self, node: Node, rules: Sequence[Rule], context: Walk, by_type: dict[str, list[Rule]]) -> bool:
        """Apply rules to an operator while they leave something to do. Returns whether nothing is left.

        `by_type` holds, of the rules, those for each type of operator that was visited.
        """
        ready = context.pending(node)
        for _ in range(_ROUNDS):
            if not ready:
                return True
            fitting = by_type.get(node.op_type)
            if fitting is None:
                fitting = by_type[node.op_type] = [rule for rule in rules if rule.pattern.accepts(node)]
            for rule in fitting:
                made = self._try(rule, node)
                if made is not None:
                    node = made
                    break
            else:
                return False
            ready = context.unfinished(node)
        return False

    def _refresh(self) -> None:
        """Look at the graph anew where it has changed since it was looked at."""
        if self._seen == self.graph.version:
            return
        self._seen = self.graph.version
        self._places = {}
        for place, node in enumerate(self.graph.nodes):
            self._places.setdefault(node.op_type, []).append(place)
        self.facts.refresh()
        self.context.refresh()

    def _lacks(self, rule: Rule) -> bool:
        """Whether the graph has no operator of a type that a rule's expression needs, whatever it ends in."""
        there = self._places.keys()
        lacking = [some for some in rule.pattern.needs if ANY not in some and some.isdisjoint(there)]
        names = [node.name for node in self._roots(rule)] if lacking else []
        if names:
            why = Mismatch(min("/".join(sorted(some)) for some in lacking), "", "there is none in the graph")
            self._report(rule).missed.update(dict.fromkeys(names, why))
        return bool(lacking)

    def _report(self, rule: Rule) -> RuleReport:
        return self.reports.setdefault(rule.name, RuleReport(rule.name))

    def _roots(self, rule: Rule) -> list[Node]:
        """The operators that a rule's expression may end in, in the graph's order."""
        types = rule.pattern.ends
        if ANY in types:
            return list(self.graph.nodes)
        return [self.graph.nodes[place] for place in sorted(i for t in set(types) for i in self._places.get(t, ()))]

    def _try(self, rule: Rule, node: Node) -> Node | None:
        """Apply a rule to an operator of a type that its expression may end in. Returns the operator that now ends the
        expression, None where it does not match."""
        known = self._rules.get(id(rule))
        if known is None:
            known = self._rules[id(rule)] = (rule, self._report(rule), self._attempts.of(rule))
        _, report, attempt = known
        made = attempt(node)
        if isinstance(made, Mismatch):
            report.missed[node.name] = made
            return None
        self._commit(made)
        report.applied.append(node.name)
        report.missed.pop(node.name, None)
        last = made.new[0]
        return node if isinstance(last, Constant) or not last.inputs else last.inputs[0]

    def _commit(self, made: Application) -> None:
        fresh = nodes_made(made, self.graph)
        if self._watching:
            readers = (reader for tensor in made.old for reader in tensor.outputs)
            self._touched.update(id(node) for node in (*fresh, *made.match.nodes, *readers))
        self.graph.adopt(fresh)
        for old, new, tag in zip(made.old, made.new, made.tags, strict=True):
            if new is old:
                pass
            elif made.is_new(new):
                self.graph.replace(old, new, fresh)
                self.facts.renamed(new.name, old.name)
            else:
                self.graph.redirect(old, new, fresh)
            if tag is not None:
                self.facts.tags[new.name] = tag
            elif self.facts.tags and made.rule.effect.kind != Preserves.kind:
                self.facts.tags.pop(new.name, None)
        for inner, taking in made.match.names:
            self.facts.exchanged(inner.name, taking.name)
            inner.name, taking.name = taking.name, inner.name
        self.graph.prune(made.match.root)
        left = {node.name for node in made.match.nodes if not node.gone}
        for node in fresh if left else ():
            if node.name in left:
                node.name = self.graph.fresh(node.name)


__all__ = ["ANY", "Context", "Engine", "Refused", "RuleReport", "Walk"]
