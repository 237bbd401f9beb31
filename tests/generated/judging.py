"""Everything that must hold of a compilation, asked of the judge and of the files themselves."""

from __future__ import annotations

from typing import Literal, cast

import onnx

from generated.cases import Case
from reptran_compiler.pipeline import Transformation
from reptran_compiler.verification import SpecOptions, check_equivalent, check_law, check_well_formed


def complaints(case: Case, made: Transformation) -> list[str]:
    """What is wrong with a compilation; nothing when all of it is as THEORY asks.

    Args:
        case: the source and the options.
        made: what the compiler made of them.
    """
    found = [f"file: {failure}" for failure in check_well_formed(made.result, case.model).failures]
    found += [f"canonical: {failure}" for failure in check_equivalent(case.model, made.canonical).failures]
    law = check_law(made.canonical, made.result, spec_options(case, made))
    found += [f"law: {failure}" for failure in law.failures]
    if law.coverage.compared < law.coverage.required:
        found.append(f"coverage: {law.coverage.missing} were not compared")
    try:
        onnx.checker.check_model(made.result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        found.append(f"checker: {error}")
    return found


def spec_options(case: Case, made: Transformation) -> SpecOptions:
    """What the law depends on."""
    return SpecOptions(
        beta=case.options.beta,
        scope=cast(Literal["network", "layer"], case.options.scope),
        fc=cast(Literal["widen", "fold"], case.options.fc),
        exclude=made.excluded,
        include=made.included,
    )
