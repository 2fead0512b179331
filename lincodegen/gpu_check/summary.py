"""The summary of a check, from its events alone: whole at any moment, after a cut-off too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Event = Mapping[str, Any]
_DEPTHS = ("quick", "thorough")
_CHECK_HEAD = ("op", "dtype", "depth", "schedule", "verdict", "found")


def summary(events: Sequence[Event]) -> dict[str, Any]:
    """What was done, what was found, what was under way and what was not reached."""
    started = [e for e in events if e["event"] == "started"]
    checks = _checks(events)
    return {
        "ok": bool(checks) and all(c["verdict"] == "passed" for c in checks),
        "finished": bool(events) and events[-1]["event"] == "finished",
        "machine": dict(started[-1]) if started else {},
        "runs": len(started),
        "phases": _phases(events),
        "checks": checks,
        "passed": sum(c["verdict"] == "passed" for c in checks),
        "rejected": [c for c in checks if c["verdict"] != "passed"],
        "under_way": _under_way(events),
        "tuned": _last(events, "tuned", ("op", "bucket")),
        "times": _last(events, "times", ("op", "bucket", "configuration", "direction")),
        "notes": list(dict.fromkeys(e["text"] for e in events if e["event"] == "note")),
    }


def _checks(events: Sequence[Event]) -> list[dict[str, Any]]:
    """The verdict on each op, dtype and schedule: that of the thorough check if there is one."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for e in events:
        if e["event"] != "checked":
            continue
        key = e["op"], e["dtype"], e["schedule"]
        before = found.get(key)
        # a later run looked at a later text; a quick pass is no answer to a thorough failure
        if (
            before is None
            or before["code"] != e["code"]
            or _DEPTHS.index(e["depth"]) >= _DEPTHS.index(before["depth"])
        ):
            found[key] = {n: v for n, v in e.items() if n != "event"}
    return list(found.values())


def _phases(events: Sequence[Event]) -> dict[str, Any]:
    """The last state of each phase of the last run."""
    found: dict[str, Any] = {}
    for e in events:
        if e["event"] == "started":
            found = {name: {"state": "not begun"} for name in e["phases"]}
        elif e["event"] == "phase":
            found[e["phase"]] = {n: v for n, v in e.items() if n not in ("event", "phase")}
    return found


def _under_way(events: Sequence[Event]) -> list[str]:
    """What was begun and not ended."""
    open_: dict[str, None] = {}
    for e in events:
        if e["event"] in ("started", "finished"):
            open_.clear()
        elif e["event"] == "begun":
            open_[e["what"]] = None
        elif e["event"] == "ended":
            open_.pop(e["what"], None)
    return list(open_)


def _last(events: Sequence[Event], kind: str, keys: Sequence[str]) -> list[dict[str, Any]]:
    found = {tuple(e[k] for k in keys): dict(e) for e in events if e["event"] == kind}
    return list(found.values())


def summary_page(data: Mapping[str, Any]) -> str:
    """The summary as Markdown."""
    machine = data["machine"]
    state = "finished" if data["finished"] else "not finished, or cut off"
    lines = [
        f"# Check of {machine.get('device', 'an unknown device')}",
        "",
        ", ".join(f"{n} {machine[n]}" for n in ("target", "torch", "triton") if n in machine),
        "",
        f"State: {state}.",
        "",
        *_table(("phase", "state", "seconds"), _phase_rows(data["phases"])),
    ]
    if data["under_way"]:
        lines += ["", f"Under way at the end: {'; '.join(data['under_way'])}."]
    if data["checks"]:
        lines += ["", f"## Gate: {data['passed']} of {len(data['checks'])} passed", ""]
        lines += _table(_CHECK_HEAD, _check_rows(data["checks"]))
    if data["tuned"]:
        lines += ["", "## Tuned", ""]
        lines += _table(("op", "bucket", "us", "tried", "rejected"), _tuned_rows(data["tuned"]))
    if data["times"]:
        lines += ["", "## Times", ""]
        head = ("op", "bucket", "configuration", "direction", "us", "p20", "p80")
        lines += _table(head, _time_rows(data["times"]))
    if data["notes"]:
        lines += ["", "## Notes", "", *(f"* {note}" for note in data["notes"])]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Iterator[Sequence[object]]) -> list[str]:
    cells = [tuple(str(x).replace("|", "\\|").replace("\n", " ") for x in row) for row in rows]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *cells)]


def _phase_rows(phases: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    for name, facts in phases.items():
        error = f": {facts['error']}" if facts.get("error") else ""
        yield name, facts["state"] + error, facts.get("seconds", "")


def _check_rows(checks: Sequence[Event]) -> Iterator[Sequence[object]]:
    for c in checks:
        trace = f" ({c['traceback']})" if c.get("traceback") else ""
        schedule = c["schedule"] or "by the rule"
        yield c["op"], c["dtype"], c["depth"], schedule, c["verdict"], c["detail"] + trace


def _tuned_rows(tuned: Sequence[Event]) -> Iterator[Sequence[object]]:
    for t in tuned:
        time = f"{1e6 * t['times']['median']:.1f}" if t["times"] else "none can be used"
        rejected = ", ".join(sorted({r["verdict"] for r in t["rejected"]})) or "none"
        yield t["op"], t["bucket"], time, t["tried"], f"{len(t['rejected'])}: {rejected}"


def _time_rows(times: Sequence[Event]) -> Iterator[Sequence[object]]:
    for t in times:
        figures = (f"{1e6 * t[n]:.1f}" for n in ("median", "p20", "p80"))
        yield t["op"], t["bucket"], t["configuration"], t["direction"], *figures
