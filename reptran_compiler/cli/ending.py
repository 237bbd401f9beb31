"""How a command ends: every exception becomes one clear line on standard error and an exit code."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reptran_compiler.cli.signals import TERMINATED, Terminated, terminable
from reptran_compiler.errors import CompileError
from reptran_compiler.text import printable
from reptran_compiler.version import __version__

INTERNAL_ERROR = 4
INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """A command line that runs.

    Attributes:
        program: the command's name.
        words: the words behind it; those of the process when absent.
        verbose: whether an internal error shows where it happened.
    """

    program: str
    words: Sequence[str] | None = None
    verbose: bool = False

    def run(self, work: Callable[[], int]) -> int:
        """Do the work of a command, which gives the exit code; whatever stops it becomes a line and a code."""
        try:
            with terminable():
                return work()
        except CompileError as error:
            return self.stop(str(error), error.exit_code)
        except MemoryError as error:
            return self.stop(f"not enough memory for this model ({error})" if str(error) else "not enough memory", 2)
        except Terminated:
            return self.stop("terminated", TERMINATED)
        except KeyboardInterrupt:
            return self.stop("interrupted", INTERRUPTED)
        except SystemExit as end:
            what = f"a file given to --rules ended the process (exit code {end.code})"
            return self.stop(f"{what}: it must only define rules", 2)
        except BrokenPipeError:
            # The reader of standard output went away; nothing more can be said there.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return self.stop("standard output was closed", 2)
        except Exception as error:  # noqa: BLE001 - the last line of defence: one clear line, and the exit code
            return self._unexpected(error)

    def stop(self, message: str, code: int, *more: str) -> int:
        """Say why the command ends, in one line or with further ones, and give its exit code."""
        for line in (f"{self.program}: {message}", *more):
            print(printable(line), file=sys.stderr)
        return code

    def _unexpected(self, error: Exception) -> int:
        if self.verbose:
            traceback.print_exception(error, file=sys.stderr)
        text = " ".join(str(error).split())
        hint = "" if self.verbose else " (-v shows where)"
        command = shlex.join((self.program, *(sys.argv[1:] if self.words is None else self.words)))
        return self.stop(
            f"internal error, please report it with the model: {type(error).__name__}: {text}{hint}",
            INTERNAL_ERROR,
            f"reproduce with version {__version__}, Python {sys.version.split()[0]}: {command}",
        )
