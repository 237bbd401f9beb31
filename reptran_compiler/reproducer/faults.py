"""What kind of fault a compilation ends with, so that two faults can be told to be the same."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass, replace

from onnx import ModelProto

from reptran_compiler.compilation import Compilation, transform_source
from reptran_compiler.errors import CompileError, VerificationFailed
from reptran_compiler.outputs import Outputs
from reptran_compiler.pipeline import Refusal
from reptran_compiler.reporting import silent
from reptran_compiler.trial import try_source

_PACKAGES = ("reptran_compiler", "reptran_passes")


@dataclass(frozen=True)
class Fault:
    """A fault, as far as another run can have the same.

    Attributes:
        kind: the class of the exception.
        place: the rule that is refused, the check that fails, or where in the compiler the exception was raised.
        message: the first line of its message; it names tensors, and is not compared.
    """

    kind: str
    place: str
    message: str

    @property
    def names(self) -> tuple[str, ...]:
        """What the message has in quotes: operators and tensors among it."""
        return tuple(re.findall(r"'([^']*)'", self.message))

    def same(self, other: Fault | None) -> bool:
        """Whether another fault is this one."""
        return other is not None and (self.kind, self.place) == (other.kind, other.place)


def fault_of(error: BaseException) -> Fault | None:
    """The fault that an exception of a compilation shows.

    None where it is none: an unsuitable model or option, nothing to rewrite, an interruption.
    """
    message = (str(error).splitlines() or [""])[0]
    kind = type(error).__name__
    if isinstance(error, VerificationFailed):
        found = re.match(r"verification failed: ([^\[]*\[[^\]]*\])", message)
        return Fault(kind, found.group(1) if found else message[:40], message)
    if isinstance(error, Refusal):
        return Fault(kind, f"rule {error.rule!r}", message) if error.rule else None
    if isinstance(error, CompileError) or not isinstance(error, Exception):
        return None
    return Fault(kind, _raised_at(error), message)


def fault_in(model: ModelProto, like: Compilation, *, judged: bool = True) -> Fault | None:
    """The fault that a model shows when it is compiled as another one was; None where there is none.

    Args:
        model: the model.
        like: the compilation of the other one.
        judged: whether to go on to the judge, and not only as far as rules go.
    """
    try:
        if judged:
            replace(like, model=model, outputs=Outputs(), step=silent).run()
        else:
            trial = try_source(model, dims=like.dims, batches=like.batches, threads=like.threads)
            transform_source(model, replace(like.options, check=like.verify, trust=like.quick), trial)
    except Exception as error:  # noqa: BLE001 - any exception may be the fault that is looked for
        return fault_of(error)
    return None


def _raised_at(error: Exception) -> str:
    """The last function of the compiler that an exception came through, by file and name."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        parts = frame.filename.replace("\\", "/").split("/")
        package = next((name for name in _PACKAGES if name in parts), None)
        if package is not None:
            return "/".join([*parts[len(parts) - 1 - parts[::-1].index(package) :], frame.name])
    return ""
