"""From flags to a compilation."""

from __future__ import annotations

from reptran_compiler.cli.arguments import Arguments
from reptran_compiler.compilation import Compilation
from reptran_compiler.outputs import Outputs
from reptran_compiler.pipeline import Options
from reptran_compiler.reporting import Step


def options(arguments: Arguments) -> Options:
    """What a command line asks to become of a model."""
    return Options(
        beta=arguments.beta,
        scope=arguments.scope,
        fc=arguments.fc,
        bn=arguments.bn,
        weights=arguments.weights,
        repeat=arguments.repeat,
        sign_zero=arguments.sign_zero,
        optimize=arguments.optimize,
        cpu=arguments.cpu,
        classifier=arguments.classifier,
        emit=arguments.emit,
        exclude=arguments.exclude,
        include=arguments.include,
        strict=arguments.strict,
        passes=arguments.passes,
        rules=arguments.rules,
        paranoid=arguments.paranoid,
        rule_seconds=arguments.rule_seconds,
    )


def compilation(arguments: Arguments, step: Step) -> Compilation:
    """The compilation that a command line asks for; `step` is told of its progress."""
    assert arguments.model is not None, "`parse` asks for a model"
    return Compilation(
        model=arguments.model,
        options=options(arguments),
        outputs=Outputs(
            model=arguments.output,
            map=arguments.map,
            report=arguments.json,
            dump_dir=arguments.dump_dir,
            external_data=arguments.external_data,
            dry_run=arguments.dry_run,
        ),
        dims=arguments.dims,
        threads=arguments.threads,
        seed=arguments.seed,
        verify=arguments.verify,
        quick=arguments.quick,
        target=arguments.target,
        step=step,
        embed=False,
    )
