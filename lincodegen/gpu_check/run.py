"""Runs the phases within a budget; one that raises does not stop the next."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

from lincodegen.gpu_check import phases
from lincodegen.gpu_check.crew import Crew
from lincodegen.gpu_check.log import Log
from lincodegen.gpu_check.options import SHARES, Options
from lincodegen.gpu_check.phases import Scene
from lincodegen.gpu_check.site import Site
from lincodegen.gpu_check.summary import summary

_PHASES: dict[str, Callable[[Scene], None]] = {
    "check": phases.check,
    "tune": phases.tune,
    "bench": phases.bench,
}


def run(options: Options, site: Site, say: Callable[[str], None]) -> dict[str, Any]:
    """Runs all phases and gives the summary, which also lies in the folder.

    Raises:
        RecordError: the folder cannot be written.
    """
    end = time.monotonic() + options.budget_s
    log, crew = Log(options.out), Crew(site, options.workers)
    try:
        header = site.header()._asdict()
        given = {"budget_s": options.budget_s, "ops": options.ops, "phases": options.phases}
        log.add("started", **header, **site.facts(), **given)
        for doubt in site.doubts():
            log.add("note", text=doubt)
        for number, name in enumerate(options.phases):
            now = time.monotonic()
            later = sum(SHARES[n] for n in options.phases[number:])
            until = now + max(0.0, end - now) * SHARES[name] / later
            _run_phase(name, Scene(options, site, crew, log, until, say))
        log.add("finished")
        return summary(log.events)
    finally:
        crew.close()
        log.close()


def _run_phase(name: str, scene: Scene) -> None:
    begun = time.monotonic()
    share = round(scene.until - begun, 1)
    scene.log.add("phase", phase=name, state="begun", share_s=share)
    try:
        _PHASES[name](scene)
        state: dict[str, object] = {"state": "done"}
    except Exception as error:
        kept = scene.log.traceback(f"phase-{name}", traceback.format_exc())
        state = {"state": "raised", "error": f"{type(error).__name__}: {error}", "traceback": kept}
    seconds = round(time.monotonic() - begun, 1)
    scene.log.add("phase", phase=name, **state, share_s=share, seconds=seconds)
