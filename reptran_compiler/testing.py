"""For the tests of rules: `check_rule` runs a rule in the test mode, on a model that it is written for."""

from __future__ import annotations

from onnx import ModelProto

from reptran_compiler.compiler import compile_model
from reptran_compiler.outputs import PathLike
from reptran_compiler.rewriting import Rule, RuleReport

__all__ = ["check_rule"]


def check_rule(
    rule: Rule, model: ModelProto | PathLike, *, beta: int = 2, scope: str = "network", seconds: float = 60.0
) -> RuleReport:
    """Compile a model with a rule among the others, in the test mode, and verify the result.

    The graph is watched around every call of every rule, each rule is called twice on every match, its declared effect
    and cost are executed, and the judge compares the result with its specification.

    Args:
        rule: the rule.
        model: a model, or the file that it is in; a binary network with something that the rule matches.
        beta: the replication factor.
        scope: "network" or "layer".
        seconds: how long each function of the rule may take.

    Returns:
        Where the rule was applied, and where it turned a match down and why: what a test looks at.

    Raises:
        Refusal: the rule is refused, or the model cannot be rewritten; the message says which and why.
        VerificationFailed: the rule passes for itself, and the result is wrong.
    """
    result = compile_model(model, beta, scope=scope, rules=[rule], paranoid=True, rule_seconds=seconds)
    reports = () if result.transformation is None else result.transformation.reports
    return next((report for report in reports if report.rule == rule.name), RuleReport(rule.name))
