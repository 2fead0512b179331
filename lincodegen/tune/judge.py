"""What a worker does to judge a candidate: the op against its recurrence and against itself."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lincodegen.config import OpConfig
from lincodegen.loading import load_package
from lincodegen.runtime.backend import backend
from lincodegen.runtime.schedules import use_schedule
from lincodegen.runtime.tuned import use_op_config
from lincodegen.spec.serialize import from_json
from lincodegen.spec.step import Recurrence
from lincodegen.tune.gate import Subject, Trials
from lincodegen.tune.records import PASSED, Gate
from lincodegen.verify.adversaries import applicable
from lincodegen.verify.call import Op
from lincodegen.verify.gradients import evaluate_op
from lincodegen.verify.harness import GEOMETRIES, Plan, verify_trials
from lincodegen.verify.trials import Trial
from lincodegen.verify.verdict import Row
from lincodegen.version import VERSION


class Judge:
    """References of one subject, drawn and computed once, and the verdicts that they give."""

    def __init__(self, subject: Subject, trials: Trials) -> None:
        self._subject, self._repeats, self._schedule = subject, trials.repeats, trials.schedule
        self._recurrence = recurrence_in(subject.folder)
        plan = Plan(
            sizes=subject.sizes,
            dtype=getattr(torch, subject.dtype),
            lengths=trials.lengths,
            cases=trials.cases or (*applicable(self._recurrence), *GEOMETRIES),
            seed=trials.seed,
        )
        self._trials = tuple(plan.trials(self._recurrence))
        allowed = [] if subject.matmul_precision == "highest" else [subject.matmul_precision]
        given = [VERSION, subject.dtype, dict(subject.sizes), asdict(trials), *allowed]
        said = json.dumps(given)
        labels = "\n".join(trial.case.label for trial in self._trials)
        self._check = hashlib.sha256(f"{said}\n{labels}".encode()).hexdigest()[:16]

    def __call__(self, config: OpConfig | None) -> Gate:
        """Right within the tolerances of `lincodegen.verify`, and the same bits every time.

        A candidate with tf32 must be right with it and, as it runs for who asks torch for the
        ``highest`` precision, without it; the others are held to the tolerances without it.
        """
        first, *others = self._switches(config)
        gate = self._judged(config, first)
        for switch in others:
            gate = self._judged(config, switch) if gate.passed else gate
        return gate

    def _switches(self, config: OpConfig | None) -> tuple[str, ...]:
        """What torch allows of float32 products in the runs that count."""
        allowed = self._subject.matmul_precision
        if config is None:
            return (allowed,)
        chosen = {c.precision for _, c in config.kernels}
        relaxed = self._subject.dtype == "float32" and not chosen <= {"ieee", "tf32x3"}
        return ("highest", allowed) if relaxed and allowed != "highest" else ("highest",)

    def _judged(self, config: OpConfig | None, switch: str) -> Gate:
        op = subject_op(self._subject, config)
        with self._surroundings(config, switch):
            verdict = verify_trials(self._recurrence, op, self._trials, self._subject.device)
            if verdict.passed:
                changed = self._first_change(op)
                if changed is None:
                    worst = max(verdict.rows, key=lambda row: (not row.ill_conditioned, row.margin))
                    return self._gate(PASSED, f"at worst {worst.margin:.2f} of its bound")
                return self._gate("nondeterministic", changed)
        if not verdict.failures:
            return self._gate("wrong", "no case could be judged")
        row = verdict.failures[0]
        return self._gate("raised" if row.tensor == "call" else "wrong", _said(row))

    def run(self, config: OpConfig | None) -> None:
        """Runs every case; what one of them raises comes through as it is."""
        op = subject_op(self._subject, config)
        with self._surroundings(config, self._subject.matmul_precision):
            for trial in self._trials:
                self._evaluated(op, trial)

    @contextmanager
    def _surroundings(self, config: OpConfig | None, switch: str) -> Generator[None]:
        subject = replace(self._subject, matmul_precision=switch)
        with surroundings(subject, config) as stack:
            if self._schedule:
                # a chunk a segment, so that sequences of few chunks are cut
                cut = int(self._schedule == "segment")
                stack.enter_context(use_schedule(self._schedule, cut))
            yield

    def _gate(self, verdict: str, detail: str) -> Gate:
        return Gate(verdict, detail, len(self._trials), self._check)

    def _first_change(self, op: Op) -> str | None:
        """A tensor that differs between two runs."""
        for trial in self._trials:
            first = self._evaluated(op, trial)
            for _ in range(self._repeats - 1):
                second = self._evaluated(op, trial)
                for name, x in first.items():
                    count = int((_bits(x) != _bits(second[name])).sum())
                    if count:
                        return f"{trial.case.label}: {name} differs in {count} bytes of two runs"
        return None

    def _evaluated(self, op: Op, trial: Trial) -> dict[str, Tensor]:
        device = self._subject.device
        return evaluate_op(self._recurrence, trial.case, op, device, trial.view).named()


@cache
def recurrence_in(folder: Path) -> Recurrence:
    """The recurrence that a generated package keeps in its manifest."""
    manifest: Any = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return from_json(manifest["recurrence"])


def subject_op(subject: Subject, config: OpConfig | None) -> Op:
    """The op of a subject, wrapped where it names a wrapper."""
    op = load_package(subject.folder)
    if not subject.wrapper:
        return op
    module, name = subject.wrapper.split(":")
    return getattr(importlib.import_module(module), name)(op, config)


def surroundings(subject: Subject, config: OpConfig | None) -> ExitStack:
    """Around calls of a candidate: torch's switch, its form, its configuration if it has one."""
    stack = ExitStack()
    stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
    torch.set_float32_matmul_precision(subject.matmul_precision)
    stack.enter_context(backend(subject.form))
    if config is not None:
        stack.enter_context(use_op_config(recurrence_in(subject.folder).name, config))
    return stack


def _said(row: Row) -> str:
    if row.tensor == "call":
        return f"{row.case}: {row.note}"
    return f"{row.case}: {row.tensor}, {row.rule}: error {row.error:.1e}, bound {row.bound:.1e}"


def _bits(x: Tensor) -> Tensor:
    return x.contiguous().reshape(-1).view(torch.uint8)
