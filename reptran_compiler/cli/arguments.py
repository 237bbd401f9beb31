"""What `reptran-compile` understands. Nothing heavy is imported here: `--help` is quick."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from reptran_compiler.version import __version__

_DESCRIPTION = """\
Bring a binary neural network in ONNX into its RepTran form: every inner layer
reads beta times the channels with 1/beta of the filters, at equal weights and
equal multiply-accumulates. The result has to be retrained."""

_EXIT_CODES = """exit codes:
  0  done, and verified unless --no-verify
  1  nothing could be rewritten, or a check such as --strict failed
  2  wrong usage, or input that cannot be used
  3  verification failed; no model was written
  4  an error of the compiler itself (130: interrupted)
"""


@dataclass(frozen=True)
class Arguments:
    """A command line, understood. The names are those of the flags."""

    model: str | None
    output: str | None
    beta: int
    scope: str
    fc: str
    bn: str
    weights: str
    exclude: tuple[str, ...]
    include: tuple[str, ...]
    strict: bool
    passes: tuple[str, ...] | None
    rules: tuple[str, ...]
    list_passes: bool
    explain: str | None
    verify: bool
    dry_run: bool
    external_data: bool
    json: str | None
    map: str | None
    dump_dir: str | None
    threads: int
    quiet: bool
    verbose: int
    dims: dict[str, int] = field(default_factory=dict)


class UsageError(Exception):
    """Flags that do not fit together."""


def parse(arguments: Sequence[str] | None = None) -> Arguments:
    """Understand a command line. Ends the process with code 2 (or 0 for `--help`), as argparse does."""
    parser = make_parser()
    found = parser.parse_args(arguments)
    passes = found.passes and tuple(name.strip() for name in found.passes.split(",") if name.strip())
    understood = Arguments(
        model=found.model,
        output=found.output,
        beta=found.beta,
        scope=found.scope,
        fc=found.fc,
        bn=found.bn,
        weights=found.weights,
        exclude=tuple(found.exclude),
        include=tuple(found.include),
        strict=found.strict,
        passes=passes,
        rules=tuple(found.rules),
        list_passes=found.list_passes,
        explain=found.explain,
        verify=not found.no_verify,
        dry_run=found.dry_run,
        external_data=found.external_data,
        json=found.json,
        map=found.map,
        dump_dir=found.dump_dir,
        threads=found.threads,
        quiet=found.quiet,
        verbose=found.verbose,
        dims=dict(found.dim),
    )
    try:
        check(understood)
    except UsageError as error:
        parser.error(str(error))
    return understood


def check(arguments: Arguments) -> None:
    """See that flags fit together.

    Raises:
        UsageError: they do not.
    """
    if arguments.list_passes:
        return
    if arguments.model is None:
        raise UsageError("a MODEL is needed: an ONNX file, or - for standard input")
    if arguments.output is None and not arguments.dry_run and arguments.explain is None:
        raise UsageError("an output is needed: -o OUT, or --dry-run to write none")
    if arguments.passes == ():
        raise UsageError("--passes names no pass")
    streams = [path for path in (arguments.output, arguments.json, arguments.map) if path == "-"]
    if len(streams) > 1:
        raise UsageError("only one of -o, --json and --map can go to standard output")


class _Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, without the whole usage in front of it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help lists all options)\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = _Parser(
        prog="reptran-compile",
        usage="%(prog)s MODEL -o OUT [--beta B] [options]",
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="an ONNX file; - for standard input")
    parser.add_argument("-o", "--output", metavar="OUT", help="the file to write; - for standard output")
    parser.add_argument("--beta", type=_at_least_one, default=2, metavar="B", help="replication factor (default: 2)")
    _add_rewriting(parser.add_argument_group("rewriting"))
    _add_passes(parser.add_argument_group("passes"))
    _add_verification(parser.add_argument_group("verification"))
    _add_reports(parser.add_argument_group("output and reports"))
    parser.add_argument("--version", action="version", version=f"reptran-compiler {__version__}")
    return parser


def _add_rewriting(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--scope",
        choices=["network", "layer"],
        default="network",
        help="wide maps through the whole network (default), or drop-in layers between narrow maps",
    )
    group.add_argument(
        "--fc",
        choices=["widen", "fold"],
        default="widen",
        help="the classifier reads all copies (default), or their mean with the weights it had",
    )
    group.add_argument(
        "--bn",
        choices=["fold", "keep"],
        default="fold",
        help="fold BatchNormalization into scale and bias (default), or keep its nodes, wide",
    )
    group.add_argument(
        "--weights",
        choices=["latent", "binary"],
        default="latent",
        help="keep real-valued weights with their Sign in the graph (default), or store +-1",
    )
    for flag, words in (
        ("--exclude", "leave layers alone whose node name matches; may be repeated"),
        ("--include", "rewrite layers whose node name matches, narrow input or not; may be repeated"),
    ):
        group.add_argument(flag, type=_regex, action="append", default=[], metavar="REGEX", help=words)
    group.add_argument("--strict", action="store_true", help="a boundary is an error (exit code 1)")


def _add_passes(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--list-passes", action="store_true", help="show all passes and what they declare")
    group.add_argument("--passes", metavar="A,B,...", help="run these passes only, in this order within each phase")
    group.add_argument(
        "--rules",
        action="append",
        default=[],
        metavar="FILE.py",
        help="load further rules from a file (it is executed); may be repeated",
    )
    group.add_argument(
        "--explain", metavar="NODE", help="what became of a node, and what each pass said of it; writes no model"
    )


def _add_verification(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--no-verify", action="store_true", help="do not verify; the result is marked as unverified")
    group.add_argument(
        "--dim",
        type=_dimension,
        action="append",
        default=[],
        metavar="NAME=SIZE",
        help="size of a dynamic axis other than the batch, for runs and counts; may be repeated",
    )
    group.add_argument(
        "--threads", type=_at_least_one, default=1, metavar="N", help="threads of onnxruntime (default: 1)"
    )


def _add_reports(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--dry-run", action="store_true", help="do everything but writing the model")
    group.add_argument("--external-data", action="store_true", help="write weights to OUT.data (always so above 2 GB)")
    group.add_argument("--json", metavar="FILE", help="write the report as JSON; - for standard output")
    group.add_argument("--map", metavar="FILE", help="write where each weight went, as JSON")
    group.add_argument(
        "--dump-dir", metavar="DIR", help="write the canonical source, the specification and every stage"
    )
    group.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    group.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="name the passes that were applied, and every failure; tracebacks",
    )


def _at_least_one(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer of at least 1")
    return number


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None
    return text


def _dimension(text: str) -> tuple[str, int]:
    name, equals, size = text.rpartition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=SIZE")
    return name, _at_least_one(size)
