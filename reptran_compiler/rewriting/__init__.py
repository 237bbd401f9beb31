"""The public pass API: patterns, rules with declared effects, and the engine that executes the declarations."""

from reptran_compiler.rewriting.engine import Engine, Refused, RuleReport
from reptran_compiler.rewriting.patterns import Match, Mismatch, PatternBuilder, match
from reptran_compiler.rewriting.rules import Effect, Rule, preserves, reparametrises, rule

__all__ = [
    "Effect",
    "Engine",
    "Match",
    "Mismatch",
    "PatternBuilder",
    "Refused",
    "Rule",
    "RuleReport",
    "match",
    "preserves",
    "reparametrises",
    "rule",
]
