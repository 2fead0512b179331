"""What a proof says: every equation that was checked, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Claim:
    """One equation at one size: whether it holds, and how that was shown."""

    equation: str
    state: str
    how: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Proof:
    """Every claim that was checked; ``ok`` when all hold."""

    claims: tuple[Claim, ...]

    @property
    def ok(self) -> bool:
        """Whether every claim holds."""
        return all(c.holds for c in self.claims)

    @property
    def failed(self) -> tuple[str, ...]:
        """The equations that do not hold, first cause first."""
        return tuple(
            dict.fromkeys(f"{c.equation} (state {c.state})" for c in self.claims if not c.holds)
        )

    def __str__(self) -> str:
        rows: dict[tuple[str, str], list[Claim]] = {}
        for claim in self.claims:
            rows.setdefault((claim.state, claim.equation), []).append(claim)
        lines = []
        for (state, equation), claims in rows.items():
            hows = ", ".join(dict.fromkeys(c.how for c in claims))
            mark = "holds" if all(c.holds for c in claims) else "FAILS"
            lines.append(f"  {mark}  {state}: {equation:10s} {hows}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The claims as plain data."""
        names = ("equation", "state", "how", "holds")
        return {"ok": self.ok, "claims": [{n: getattr(c, n) for n in names} for c in self.claims]}
