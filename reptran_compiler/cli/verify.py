"""`reptran-verify`: from arguments to an exit code. Heavy modules are imported once there is work."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from reptran_compiler.cli.ending import Command
from reptran_compiler.cli.verify_arguments import VerifyArguments, parse
from reptran_compiler.errors import BadInput
from reptran_compiler.text import printable

if TYPE_CHECKING:
    from reptran_compiler.reporting import Verification

_SHOWN_FAILURES = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words behind the command's name; those of the process when absent.

    Returns:
        The exit code: 0 all checks passed, 1 a budget is exceeded, 2 usage or bad input, 3 the Rep network is not what
        it should be, 4 an error of the compiler.
    """
    try:
        understood = parse(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    command = Command("reptran-verify", arguments, bool(understood.verbose))
    return command.run(lambda: _run(understood, command))


def _run(arguments: VerifyArguments, command: Command) -> int:
    from reptran_compiler.pipeline import Refusal
    from reptran_compiler.runtime.memory import keep_freed

    keep_freed()
    _see_outputs(arguments)
    try:
        made = _verification(arguments)
    except (BadInput, Refusal) as error:
        _report_stop(arguments, str(error))
        return command.stop(str(error), error.exit_code)
    _report(made, arguments)
    failures = made.failures
    shown = failures if arguments.verbose else failures[:_SHOWN_FAILURES]
    for failure in shown[1:]:
        print(f"  also: {printable(failure)}", file=sys.stderr)
    if len(shown) < len(failures):
        print(f"  and {len(failures) - len(shown)} more (all with -v)", file=sys.stderr)
    return command.stop(printable(failures[0]), made.exit_code) if failures else made.exit_code


def _verification(arguments: VerifyArguments) -> Verification:
    from reptran_compiler.gate import verify_pair
    from reptran_compiler.reporting import make_console, progress

    with progress(make_console(stderr=True), quiet=arguments.quiet) as step:
        return verify_pair(
            arguments.original,
            arguments.rep,
            arguments.beta,
            scope=arguments.scope,
            fc=arguments.fc,
            bn=arguments.bn,
            weights=arguments.weights,
            repeat=arguments.repeat,
            sign_zero=arguments.sign_zero,
            exclude=arguments.exclude,
            include=arguments.include,
            rules=arguments.rules,
            ignore_metadata=arguments.ignore_metadata,
            retrained=arguments.retrained,
            layers_only=arguments.layers_only,
            budgets=arguments.budgets,
            dims=arguments.dims,
            threads=arguments.threads,
            seed=arguments.seed,
            reproducer=arguments.reproducer,
            progress=step,
        )


def _see_outputs(arguments: VerifyArguments) -> None:
    """See that every report can be written, that no two are one, and that none is a file that is read."""
    from reptran_compiler.model.io import STREAM
    from reptran_compiler.outputs import Outputs

    Outputs(map=arguments.junit, report=arguments.json).check_writable()
    read = [os.path.realpath(path) for path in (arguments.original, arguments.rep) if path != STREAM]
    for path in (arguments.json, arguments.junit):
        if path not in (None, STREAM) and os.path.realpath(str(path)) in read:
            raise BadInput(f"{path} is read and cannot be written as well")


def _report(made: Verification, arguments: VerifyArguments) -> None:
    """Write and print what was checked, in every form that is asked for."""
    from reptran_compiler.model.writing import write_bytes
    from reptran_compiler.reporting import (
        error_annotations,
        make_console,
        print_verification,
        to_junit,
        to_markdown,
        verification_json,
    )

    if not arguments.quiet:
        print_verification(made, make_console(_stream(arguments)), every_layer=bool(arguments.verbose))
    if arguments.json is not None:
        write_bytes(verification_json(made).encode() + b"\n", arguments.json)
    if arguments.junit is not None:
        write_bytes(to_junit(made).encode() + b"\n", arguments.junit)
    _tell_github(error_annotations(made), to_markdown(made), arguments)


def _report_stop(arguments: VerifyArguments, message: str) -> None:
    """Say in the reports of continuous integration that nothing could be verified."""
    from reptran_compiler.model.writing import write_bytes
    from reptran_compiler.reporting import annotation, stopped_junit

    if arguments.junit is not None:
        write_bytes(stopped_junit(arguments.rep, message).encode() + b"\n", arguments.junit)
    _tell_github([annotation(arguments.rep, "reptran-verify", message)], "", arguments)


def _tell_github(commands: Sequence[str], summary: str, arguments: VerifyArguments) -> None:
    """Print workflow commands, and append to the job's summary, where GitHub Actions runs this."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for command in commands:
            print(command, file=_stream(arguments), flush=True)
    place = os.environ.get("GITHUB_STEP_SUMMARY")
    if place and summary:
        try:
            with open(place, "a", encoding="utf-8") as file:
                file.write(summary + "\n")
        except OSError as error:
            raise BadInput(f"cannot write {place}, which GITHUB_STEP_SUMMARY names: {error.strerror}") from None


def _stream(arguments: VerifyArguments) -> IO[str]:
    """Where people's text goes: standard error where a report takes standard output."""
    return sys.stderr if "-" in (arguments.json, arguments.junit) else sys.stdout


if __name__ == "__main__":
    sys.exit(main())
