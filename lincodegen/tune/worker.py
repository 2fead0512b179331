"""The child process behind `lincodegen.tune.gate.Worker`."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lincodegen.compile.serving import serve
from lincodegen.config import OpConfig
from lincodegen.tune.clock import Bench
from lincodegen.tune.gate import Subject, Trials, Work
from lincodegen.tune.judge import Judge

_ERROR_CHARACTERS = 500


class _Desk:
    """References and inputs of the last jobs: the next candidate needs the same."""

    def __init__(self) -> None:
        self._judges: dict[str, Judge] = {}
        self._benches: dict[str, Bench] = {}

    def answer(self, line: str) -> Mapping[str, object]:
        """The answer to one job."""
        job: dict[str, Any] = json.loads(line)
        try:
            return self._done(job)
        except Exception as error:  # noqa: BLE001 - whatever a candidate raises is the answer
            text = f"{type(error).__name__}: {error}"[:_ERROR_CHARACTERS]
            if job["kind"] == "judge":
                return {"verdict": "raised", "detail": text, "cases": 0, "check": ""}
            if job["kind"] == "trace":
                return {"trace": traceback.format_exc()}
            return {"error": text}

    def _done(self, job: Mapping[str, Any]) -> Mapping[str, object]:
        subject = Subject.from_json(job["subject"])
        if job["kind"] == "time":
            bench = self._bench(subject, Work(**job["work"]))
            return {"times": bench.times(_config(job), job["repeats"])}
        judge = self._judge(subject, job["trials"])
        if job["kind"] == "prepare":
            return {}
        if job["kind"] == "trace":
            judge.run(_config(job))
            return {"trace": ""}
        return asdict(judge(_config(job)))

    def _judge(self, subject: Subject, given: Mapping[str, Any]) -> Judge:
        lists: dict[str, Any] = {n: tuple(given[n]) for n in ("lengths", "cases")}
        key = json.dumps([subject.to_json(), given])
        if key not in self._judges:
            self._judges = {key: Judge(subject, Trials(**(dict(given) | lists)))}
        return self._judges[key]

    def _bench(self, subject: Subject, work: Work) -> Bench:
        key = json.dumps([subject.to_json(), asdict(work)])
        if key not in self._benches:
            self._benches = {key: Bench.of(subject, work)}
        return self._benches[key]


def _config(job: Mapping[str, Any]) -> OpConfig | None:
    return None if job["config"] is None else OpConfig.from_json(job["config"])


if __name__ == "__main__":
    serve(_Desk().answer)
