"""What `reptran-verify` understands. Nothing heavy is imported here: `--help` is quick."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field

from reptran_compiler.cli.flags import Parser, add_rewriting, add_rules, add_runs, at_least_one
from reptran_compiler.version import __version__

_DESCRIPTION = """\
Check a Rep network against the network that it was made from: as a file, layer by
layer, tensor by tensor against the specification, and its costs. What is not asked
for with flags is as REP's metadata records, or as reptran-compile has it."""

_EPILOG = """budgets: macs, bops, ops, per-element-work, total-params (or params), conv-params,
binary-params, bytes, activation-bytes, peak-activation-bytes, file-bytes, nodes.
  NAME=0, NAME=+1000   allowed growth over ORIGINAL, in units
  NAME=0%, NAME=+4%    allowed growth in per cent
  NAME<=12MB           the most that is allowed

exit codes:
  0  all checks passed
  1  a budget is exceeded, and nothing else is wrong
  2  wrong usage, or input that cannot be used
  3  REP is not what RepTran makes of ORIGINAL
  4  an error of the compiler itself (130: interrupted, 143: terminated)
"""
#: Flags that REP's metadata may answer for.
_RECORDED = ("beta", "scope", "fc", "bn", "weights", "repeat", "sign_zero", "exclude", "include", "rules")


@dataclass(frozen=True)
class VerifyArguments:
    """A command line, understood. The names are those of the flags; None for what is not said."""

    original: str
    rep: str
    beta: int | None
    scope: str | None
    fc: str | None
    bn: str | None
    weights: str | None
    repeat: str | None
    sign_zero: str | None
    exclude: tuple[str, ...] | None
    include: tuple[str, ...] | None
    rules: tuple[str, ...] | None
    ignore_metadata: bool
    retrained: bool
    layers_only: bool
    budgets: tuple[str, ...]
    json: str | None
    junit: str | None
    threads: int
    seed: int
    reproducer: str | None
    quiet: bool
    verbose: int
    dims: dict[str, int] = field(default_factory=dict)


def parse(arguments: Sequence[str] | None = None) -> VerifyArguments:
    """Understand a command line. Ends the process with code 2 (or 0 for `--help`), as argparse does."""
    parser = make_parser()
    found = parser.parse_args(arguments)
    if "-" == found.original == found.rep:
        parser.error("only one of ORIGINAL and REP can come from standard input")
    if "-" == found.json == found.junit:
        parser.error("only one of --json and --junit can go to standard output")
    for key in ("exclude", "include", "rules"):
        setattr(found, key, None if getattr(found, key) is None else tuple(getattr(found, key)))
    return VerifyArguments(
        original=found.original,
        rep=found.rep,
        **{key: getattr(found, key) for key in _RECORDED},
        ignore_metadata=found.ignore_metadata,
        retrained=found.retrained or found.layers_only,
        layers_only=found.layers_only,
        budgets=tuple(found.budget),
        json=found.json,
        junit=found.junit,
        threads=found.threads,
        seed=found.seed,
        reproducer=found.reproducer,
        quiet=found.quiet,
        verbose=found.verbose,
        dims=dict(found.dim),
    )


def make_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = Parser(
        prog="reptran-verify",
        usage="%(prog)s ORIGINAL REP [--beta B] [--retrained] [--budget NAME=LIMIT ...] [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("original", metavar="ORIGINAL", help="the network before, an ONNX file; - for standard input")
    parser.add_argument("rep", metavar="REP", help="the Rep network, an ONNX file; - for standard input")
    group = parser.add_argument_group("what is checked")
    group.add_argument("--retrained", action="store_true", help="REP was trained since: its values are not compared")
    group.add_argument(
        "--layers-only",
        action="store_true",
        help="as --retrained, and how the layers are connected is not compared either",
    )
    group.add_argument(
        "--budget", action="append", default=[], metavar="NAME=LIMIT", help="limit a cost; may be repeated: see below"
    )
    group = parser.add_argument_group("how REP was compiled (default: as its metadata records)")
    group.add_argument("--beta", type=at_least_one, metavar="B", help="replication factor")
    add_rewriting(group)
    add_rules(group)
    group.add_argument("--ignore-metadata", action="store_true", help="what REP's metadata records counts for nothing")
    add_runs(parser.add_argument_group("runs"))
    group = parser.add_argument_group("reports")
    group.add_argument("--json", metavar="FILE", help="write the checks as JSON; - for standard output")
    group.add_argument("--junit", metavar="FILE", help="write the checks as JUnit XML; - for standard output")
    group.add_argument(
        "--reproducer", metavar="DIR", help="where the law is broken, write the part that shows it, with a script"
    )
    group.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    group.add_argument(
        "-v", "--verbose", action="count", default=0, help="print every layer, and every failure; tracebacks"
    )
    parser.add_argument("--version", action="version", version=f"reptran-compiler {__version__}")
    parser.set_defaults(**dict.fromkeys(_RECORDED))
    return parser
