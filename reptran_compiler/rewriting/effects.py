"""The two effects that know nothing of replication."""

from __future__ import annotations

from reptran_compiler.rewriting.application import Application
from reptran_compiler.rewriting.rules import Effect


class Preserves(Effect):
    """What the rule wrote computes what it read."""

    kind = "preserves"
    denormals = True
    phases = ("canonicalise", "finish", "lower")

    def execute(self, application: Application) -> None:
        for case in application.cases():
            application.compare(application.before(case), application.after(case), case.steps)
        large = application.large_case()
        if large is not None:
            application.compare(application.before(large), application.after(large), large.steps, large.size)


class Reparametrises(Effect):
    """What the rule wrote computes what its `witness(m, g)` computes, which is built as `rewrite` is."""

    kind = "reparametrises"
    needs = ("witness",)

    def execute(self, application: Application) -> None:
        for case in application.cases():
            application.compare(application.witness(case), application.after(case), case.steps)


class PreservesNormal(Preserves):
    """What the rule wrote computes what it read, of numbers that are not denormal."""

    denormals = False


def preserves(*, denormals: bool = True) -> Effect:
    """The rule changes no value: the engine runs the region before and after. Not for the phase `replicate`.

    Args:
        denormals: whether that holds for numbers other than 0 that are smaller than the smallest normal one, too.
    """
    return Preserves() if denormals else PreservesNormal()


def reparametrises() -> Effect:
    """The rule changes what is computed, into what its class' `witness` computes with the parameters of the match."""
    return Reparametrises()
