"""What commands print: the outcome of a check, a build or a comparison, as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lincodegen.program.claims import Proof

if TYPE_CHECKING:
    from lincodegen.verify.verdict import Verdict


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The proof of a recurrence, or why it has no chunked form."""

    name: str
    proof: Proof | None
    reason: str

    @property
    def ok(self) -> bool:
        """Whether every equation holds; a recurrence without chunked form has none to fail."""
        return self.proof is None or self.proof.ok

    def __str__(self) -> str:
        if self.proof is None:
            return f"{self.name}: runs token by token (tier 3)\n  {self.reason}"
        if self.proof.ok:
            return f"{self.name}: chunked form proved (tier 1)\n{self.proof}"
        failed = ", ".join(self.proof.failed)
        return f"{self.name}: the proof FAILED for {failed}\n{self.proof}"

    def to_json(self) -> Mapping[str, object]:
        """The same facts as JSON values."""
        found: dict[str, object] = {"ok": self.ok, "name": self.name}
        if self.proof is None:
            return found | {"tier": 3, "reason": self.reason}
        failed = list(self.proof.failed)
        return found | {"tier": 1, "proof": self.proof.to_json(), "failed": failed}


@dataclass(frozen=True, slots=True)
class BuildReport:
    """A written package and how its op compares with its recurrence."""

    check: CheckReport
    path: str
    changed: tuple[str, ...]
    verdict: Verdict

    @property
    def ok(self) -> bool:
        """Whether the proof holds and the op agrees with its recurrence."""
        return self.check.ok and self.verdict.passed

    def __str__(self) -> str:
        changes = ", ".join(self.changed) if self.changed else "nothing changed"
        return f"{self.check}\n\nwritten to {self.path}: {changes}\n\n{self.verdict}"

    def to_json(self) -> Mapping[str, object]:
        """The same facts as JSON values."""
        return {
            "ok": self.ok,
            "check": self.check.to_json(),
            "path": self.path,
            "changed": list(self.changed),
            "verdict": self.verdict.to_json(),
        }


@dataclass(frozen=True, slots=True)
class CompareReport:
    """The files of a package that are not what would be written."""

    name: str
    path: str
    differing: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all files are as they would be written."""
        return not self.differing

    def __str__(self) -> str:
        if self.ok:
            return f"{self.path} is up to date"
        return f"{self.path} is out of date: {', '.join(self.differing)}"

    def to_json(self) -> Mapping[str, object]:
        """The same facts as JSON values."""
        return {"ok": self.ok, "path": self.path, "differing": list(self.differing)}
