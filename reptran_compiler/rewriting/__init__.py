"""The public pass API: patterns, rules with declared effects, and the engine that executes the declarations."""

from reptran_compiler.rewriting.application import Application, Case, Overflows, Refused
from reptran_compiler.rewriting.attempts import Tagged
from reptran_compiler.rewriting.cost import Cost
from reptran_compiler.rewriting.effects import preserves, reparametrises
from reptran_compiler.rewriting.engine import Engine, RuleReport, Walk
from reptran_compiler.rewriting.facts import RANDOM, CannotContinue, Facts
from reptran_compiler.rewriting.limit import TimeLimit
from reptran_compiler.rewriting.matcher import match
from reptran_compiler.rewriting.patterns import Match, Mismatch, PatternBuilder
from reptran_compiler.rewriting.registry import NoSuchRule, is_built_in, known_rules, select
from reptran_compiler.rewriting.rules import PHASES, Effect, Rule, rule

__all__ = [
    "PHASES",
    "RANDOM",
    "Application",
    "CannotContinue",
    "Case",
    "Cost",
    "Effect",
    "Engine",
    "Facts",
    "Match",
    "Mismatch",
    "NoSuchRule",
    "Overflows",
    "PatternBuilder",
    "Refused",
    "Rule",
    "RuleReport",
    "Tagged",
    "TimeLimit",
    "Walk",
    "is_built_in",
    "known_rules",
    "match",
    "preserves",
    "reparametrises",
    "rule",
    "select",
]
