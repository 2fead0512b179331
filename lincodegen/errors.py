"""Errors that users see: place, what was found, what was expected, what to do."""

from __future__ import annotations


class LincodegenError(Exception):
    """Base of every error that lincodegen raises on purpose."""


class SpecError(LincodegenError):
    """One or more mistakes in a spec file, each with its place."""

    def __init__(self, problems: list[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n\n".join(self.problems))


class DerivationError(LincodegenError):
    """The proof of a derived form failed; names the equation."""


class NotChunkable(LincodegenError):
    """A step, or a group of its states, has no exact chunked form; says which line and why.

    ``reason`` is the message without the line; ``line`` is 0 until the statement is known.
    """

    def __init__(self, reason: str, line: int = 0) -> None:
        self.reason, self.line = reason, line
        super().__init__(f"line {line}: {reason}" if line else reason)


class NotAffine(NotChunkable):
    """A segment of tokens maps a state by no affine map of it alone; says which line and why."""


class ScheduleError(LincodegenError):
    """No cut into kernels exists for a program."""


class EmitError(LincodegenError):
    """Emitted text failed its own checks, or a file may not be written."""


class VerificationError(LincodegenError):
    """An op disagrees with its recurrence."""


class TuningError(LincodegenError):
    """No legal configuration for a device."""


class ReportError(LincodegenError):
    """What a report is asked to show cannot be read, or a package that it needs is missing."""


class BenchError(LincodegenError):
    """A benchmark that does not exist, or a file of results that cannot be read."""


class InternalError(LincodegenError):
    """This is a bug in lincodegen."""


class RecordError(LincodegenError):
    """A tuning record could not be written; what was acknowledged before is kept."""


class TuningWarning(UserWarning):
    """Something about tuned configurations is ignored: a damaged table, one of other kernels."""
