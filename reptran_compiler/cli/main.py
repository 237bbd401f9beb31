"""`reptran-compile`: from arguments to an exit code. Heavy modules are imported once there is work."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from reptran_compiler.cli.arguments import Arguments, parse
from reptran_compiler.cli.ending import Command
from reptran_compiler.errors import VerificationFailed
from reptran_compiler.text import printable

if TYPE_CHECKING:
    from reptran_compiler.pipeline import Transformation
    from reptran_compiler.reporting import Summary

_SHOWN_FAILURES = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words behind the command's name; those of the process when absent.

    Returns:
        The exit code: 0 done and verified, 1 nothing rewritten or a check failed, 2 usage or bad input,
        3 verification failed and nothing written, 4 an error of the compiler, 130 and 143 interrupted and
        terminated.
    """
    try:
        understood = parse(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    command = Command("reptran-compile", arguments, bool(understood.verbose))
    return command.run(lambda: _run(understood, command))


def _run(arguments: Arguments, command: Command) -> int:
    from reptran_compiler.pipeline import Refusal

    try:
        if arguments.list_passes:
            from reptran_compiler.cli.passes import list_passes

            return list_passes(arguments)
        if arguments.explain is not None:
            from reptran_compiler.cli.passes import explain

            return explain(arguments)
        return _compile(arguments, command)
    except Refusal as error:
        return command.stop(str(error), error.exit_code)


def _compile(arguments: Arguments, command: Command) -> int:
    from reptran_compiler.cli.options import compilation
    from reptran_compiler.model.io import STREAM
    from reptran_compiler.reporting import make_console, progress
    from reptran_compiler.runtime.memory import keep_freed

    keep_freed()
    if arguments.output == STREAM and not arguments.dry_run and sys.stdout.isatty():
        return command.stop("standard output is a terminal: redirect it to a file, or name one with -o", 2)
    try:
        with _reproduced(arguments), progress(make_console(stderr=True), quiet=arguments.quiet) as step:
            result = compilation(arguments, step).run()
    except VerificationFailed as error:
        _report(error.summary, arguments)
        shown = error.failures if arguments.verbose else error.failures[:_SHOWN_FAILURES]
        for failure in shown[1:]:
            print(f"  also: {printable(failure)}", file=sys.stderr)
        if len(shown) < len(error.failures):
            print(f"  and {len(error.failures) - len(shown)} more (all with -v)", file=sys.stderr)
        return command.stop(str(error), error.exit_code, "no model was written")
    _report(result.summary, arguments)
    if arguments.verbose and not arguments.quiet and result.transformation is not None:
        _report_passes(result.transformation, arguments)
    return 0


@contextmanager
def _reproduced(arguments: Arguments) -> Iterator[None]:
    """Where a block ends in a fault, write a reproducer, if one is wanted, and say so; the exception goes on."""
    if arguments.reproducer is None:
        yield
        return
    from reptran_compiler.cli.options import compilation
    from reptran_compiler.reporting import silent
    from reptran_compiler.reproducer import check_folder, write_reproducer

    check_folder(arguments.reproducer)
    try:
        yield
    except Exception as error:
        try:
            written = write_reproducer(compilation(arguments, silent), error, arguments.reproducer)
            found = "" if written is None else str(written)
        except Exception as problem:  # noqa: BLE001 - the failure that the user asked about comes first
            found = f"no reproducer: {type(problem).__name__}: {' '.join(str(problem).split())}"
        if found:
            print(f"reptran-compile: {found}", file=sys.stderr)
        raise


def _report(summary: Summary, arguments: Arguments) -> None:
    """Print the summary."""
    from reptran_compiler.reporting import make_console, print_summary

    if arguments.quiet:
        return
    stream = _stream(arguments)
    if summary.status == "unchanged":
        for note in summary.notes:
            print(printable(f"{summary.model}: {note}"), file=stream)
        return
    print_summary(summary, make_console(stream))


def _report_passes(transformation: Transformation, arguments: Arguments) -> None:
    """Print how often each pass was applied."""
    applied = [f"{each.rule} {len(each.applied)}" for each in transformation.reports if each.applied]
    print(f"passes applied: {', '.join(applied)}", file=_stream(arguments))


def _stream(arguments: Arguments) -> IO[str]:
    """Where the report goes: standard error where a file takes standard output."""
    return sys.stderr if "-" in (arguments.output, arguments.json, arguments.map) else sys.stdout


if __name__ == "__main__":
    sys.exit(main())
