"""What stops a compilation: one class for each exit code of the command line (4 is for bugs)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reptran_compiler.reporting import Summary


class CompileError(Exception):
    """A compilation that ends without a result. The message is for people.

    Attributes:
        exit_code: what the command line ends with.
    """

    exit_code = 4


class NothingToDo(CompileError):
    """A model that is well but cannot be rewritten as asked (exit code 1)."""

    exit_code = 1


class BadInput(CompileError):
    """A model that does not run, or options that cannot be carried out (exit code 2)."""

    exit_code = 2


class OutOfMemory(BadInput):
    """A model, or what became of it, that needs more memory than there is (exit code 2)."""


class VerificationFailed(CompileError):
    """The result is not what the theory asks for; nothing was written (exit code 3).

    Attributes:
        summary: what is known of the compilation, with the failure in its verification.
        failures: every failure in words, the first one first.
    """

    exit_code = 3

    def __init__(self, message: str, summary: Summary, failures: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.summary = summary
        self.failures = failures


class Differs(CompileError):
    """A trained network and what was to be written of it do not compute the same; nothing was written (exit code 3)."""

    exit_code = 3
