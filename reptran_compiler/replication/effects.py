"""The effects that rules of replication declare, executed on copies that differ."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.replication.facts import WideFacts
from reptran_compiler.replication.state import Wide
from reptran_compiler.rewriting import Application, Case, Effect

Array = NDArray[Any]


class Replicates(Effect):
    """On wide operands, the rule's operator gives each copy what the source's gives on that copy's operands."""

    kind = "replicates"
    phases = ("replicate",)

    def execute(self, application: Application) -> None:
        facts = _facts(application)
        for case in application.cases():
            copies = [application.before(_narrow(application, case, copy)) for copy in range(facts.beta)]
            expected = []
            for place, tag in enumerate(application.tags):
                found = [copy[place] for copy in copies]
                if isinstance(tag, Wide):
                    expected.append(tag.join(found))
                else:
                    for other in found[1:]:
                        application.compare(found[:1], [other])
                    expected.append(found[0])
            application.compare(expected, application.after(case), case.steps)


class Averages(Effect):
    """The rule's operator reads the mean of each operand's copies; a wide output is that result, tiled."""

    kind = "averages"
    phases = ("replicate",)

    def execute(self, application: Application) -> None:
        facts = _facts(application)
        for case in application.cases():
            found = application.before(_narrow(application, case, None))
            expected = [
                tag.join([each] * facts.beta) if isinstance(tag, Wide) else each
                for each, tag in zip(found, application.tags, strict=True)
            ]
            application.compare(expected, application.after(case), case.steps)


def replicates() -> Effect:
    """The operator acts on each copy alone: `after(x^) == [before(x(0)) | ... | before(x(beta-1))]`."""
    return Replicates()


def averages() -> Effect:
    """The operator acts on the mean of the copies: `after(x^) == before(mean over r of x(r))`, tiled where wide."""
    return Averages()


def _facts(application: Application) -> WideFacts:
    facts = application.facts
    assert isinstance(facts, WideFacts), "rules of replication run in the phase `replicate`"
    return facts


def _narrow(application: Application, case: Case, copy: int | None) -> Case:
    """The case for the source's operator: one copy of each wide operand, or with None the mean of all."""
    facts = _facts(application)
    values = dict(case.values)
    for region in (application.before_region, application.after_region):
        for tensor in region.inputs.values():
            tag = facts.tags.get(tensor.name)
            if not isinstance(tag, Wide):
                continue
            copies = tag.cut(case.values[id(tensor)], facts.beta)
            if copy is not None:
                values[id(tensor)] = copies[copy]
            elif copies[0].dtype.kind in "iub":
                values[id(tensor)] = copies[0]
            else:
                mean = np.mean([each.astype(np.float64) for each in copies], axis=0)
                values[id(tensor)] = mean.astype(copies[0].dtype)
    return Case(case.number, values, case.steps)
