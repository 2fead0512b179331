"""The manifest of a generated op: what it is, for programs that read it."""

from __future__ import annotations

import json
from typing import Any

from lincodegen.emit.op_plan import OpPlan
from lincodegen.program.token_heads import head_sources
from lincodegen.spec.serialize import to_json
from lincodegen.spec.step import Recurrence
from lincodegen.version import VERSION

FORMAT = 1


def manifest_text(
    recurrence: Recurrence, digest: str, *, tier: int, reason: str, plan: OpPlan | None
) -> str:
    """The manifest as JSON, one line an entry of its first two levels."""
    states, outputs = head_sources(recurrence)
    data: dict[str, Any] = {
        "format": FORMAT,
        "name": recurrence.name,
        "generator": f"lincodegen {VERSION}. Do not edit.",
        "version": VERSION,
        "digest": digest,
        "tier": tier,
        "reason": reason,
        "constants": [c.name for c in recurrence.constants],
        "heads": {"states": states, "outputs": outputs},
        "groups": _groups(plan),
        "recurrence": to_json(recurrence),
    }
    return _text(data, 2) + "\n"


def _groups(plan: OpPlan | None) -> list[dict[str, Any]]:
    if plan is None:
        return []
    return [
        {
            "state": group.state,
            "transposed": group.group.flipped,
            "operands": [[o.name, o.source or "computed"] for o in group.operands],
            "scalars": [s.name for s in group.scalars],
            "reads": len(group.reads),
        }
        for group in plan.groups
    ]


def _text(value: object, levels: int, indent: str = "") -> str:
    """JSON with objects and lists of the first levels broken, the others on one line."""
    if levels == 0 or not isinstance(value, dict | list) or not value:
        return json.dumps(value, ensure_ascii=False)
    inner = indent + "  "
    if isinstance(value, dict):
        items = [f"{json.dumps(k)}: {_text(v, levels - 1, inner)}" for k, v in value.items()]
    else:
        items = [_text(v, levels - 1, inner) for v in value]
    left, right = ("{", "}") if isinstance(value, dict) else ("[", "]")
    body = ",\n".join(f"{inner}{item}" for item in items)
    return f"{left}\n{body}\n{indent}{right}"
