"""The gate and the clock of candidates, in a worker process that may die.

No configuration is timed, stored or chosen that did not pass: forward and every gradient against
the recurrence in float64, and bit for bit against a second run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from lincodegen.compile.child import Child
from lincodegen.config import OpConfig
from lincodegen.errors import TuningError
from lincodegen.tune.records import Gate


@dataclass(frozen=True, slots=True)
class Subject:
    """What candidates are candidates for.

    Attributes:
        folder: the generated package of the op.
        form: ``triton`` or ``torch``.
        device: PyTorch's name of the device; kernels run in the interpreter on ``cpu``.
        dtype: PyTorch's name of the operands' dtype, as in ``bfloat16``.
        sizes: the dimensions by name.
        wrapper: ``module:function``, called with the op and a configuration and giving the op to
            use; empty for the op itself. Tests plant faults by it.
        matmul_precision: what torch.get_float32_matmul_precision() says where candidates run.
    """

    folder: Path
    form: str
    device: str
    dtype: str
    sizes: Mapping[str, int]
    wrapper: str = ""
    matmul_precision: str = "highest"

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads."""
        return {**asdict(self), "folder": str(self.folder.resolve()), "sizes": dict(self.sizes)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Subject:
        """What `to_json` wrote."""
        given: dict[str, Any] = {**value, "folder": Path(value["folder"])}
        return Subject(**given)


@dataclass(frozen=True, slots=True)
class Trials:
    """How thoroughly a candidate is judged.

    Attributes:
        lengths: tokens of typical inputs; every adversary of the recurrence has the last one.
        cases: names of `lincodegen.verify`'s cases; empty for all adversaries, repeated heads and
            packed sequences.
        repeats: runs that must agree bit for bit.
        seed: of the inputs.
        schedule: of candidates that name none, "" for that of the rule.
    """

    lengths: tuple[int, ...] = (1, 65, 200)
    cases: tuple[str, ...] = ()
    repeats: int = 2
    seed: int = 0
    schedule: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """A call that is timed: ``heads`` of one sequence of ``tokens``, with its backward or not."""

    heads: int
    tokens: int
    backward: bool = True
    seed: int = 0


class Worker:
    """A process that judges and times candidates of one subject.

    Where a candidate kills it, or breaks its device, the next one gets a new process.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        timeout_s: float = 120.0,
        prepare_s: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts nothing yet.

        Args:
            subject: what candidates are for.
            timeout_s: seconds a candidate has for its verdict or its times.
            prepare_s: likewise for the references of a new process, by default ten times that.
            environment: of the process, by default this one's.
        """
        self.subject = subject
        self.timeout_s = timeout_s
        self.prepare_s = 10 * timeout_s if prepare_s is None else prepare_s
        given = dict(os.environ if environment is None else environment)
        given.pop("TRITON_INTERPRET", None)
        if subject.form == "triton" and subject.device == "cpu":
            given["TRITON_INTERPRET"] = "1"
        self._child = Child("lincodegen.tune.worker", given)
        self._ready = False

    def turn_to(self, subject: Subject) -> None:
        """Takes candidates of another subject, of the same form and device, in the same process."""
        self.subject = subject
        self._ready = False

    def judge(self, config: OpConfig | None, trials: Trials) -> Gate:
        """The verdict on a candidate; it never raises for anything that a candidate does.

        None is the op as it runs without being told: tuned, or at its default.
        """
        # to kernels the length of segments is data: short ones are cut out of short trials, too
        if config is not None and config.schedule == "segment":
            config = config._replace(segment_chunks=1)
        job = self._job("judge", config) | {"trials": asdict(trials)}
        try:
            self._prepare(trials)
            gate = Gate(**self._ask(job))
        except TimeoutError:
            return Gate("timeout", f"no verdict after {self.timeout_s:g} s", 0, "")
        except ChildProcessError as error:
            return Gate("died", f"the worker {error}", 0, "")
        if gate.verdict == "raised" and self.subject.device != "cpu":
            # an illegal access leaves a context in which everything after it fails, too
            self._discard()
        return gate

    def trace(self, config: OpConfig | None, trials: Trials) -> str:
        """The traceback of what a candidate raises; empty where it raises nothing.

        What a worker says that died or took too long takes its place.
        """
        try:
            answer = self._ask(self._job("trace", config) | {"trials": asdict(trials)})
        except OSError as error:
            return str(error)
        self._discard()
        return answer.get("trace", answer.get("error", ""))

    def times(self, config: OpConfig | None, work: Work, repeats: int) -> tuple[float, ...]:
        """Seconds of each of several runs of a candidate that passed.

        Raises:
            TuningError: the candidate raised, died or took too long.
        """
        job = self._job("time", config) | {"work": asdict(work), "repeats": repeats}
        try:
            answer = self._ask(job)
        except OSError as error:
            raise TuningError(f"{config}: not timed: {error}") from error
        if "error" in answer:
            self._discard()
            raise TuningError(f"{config}: not timed: {answer['error']}")
        return tuple(answer["times"])

    def close(self) -> None:
        """Ends the process."""
        self._child.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _prepare(self, trials: Trials) -> None:
        """Has a new process compute the references, in time of their own."""
        if self._ready:
            return
        job = {"kind": "prepare", "subject": self.subject.to_json(), "trials": asdict(trials)}
        answer = json.loads(self._child.ask(json.dumps(job).encode(), self.prepare_s))
        if "error" in answer:
            text = f"no candidate can be judged: {answer['error']}"
            raise TuningError(f"{self.subject.folder}: {text}")
        self._ready = True

    def _job(self, kind: str, config: OpConfig | None) -> dict[str, Any]:
        given = None if config is None else config.to_json()
        return {"kind": kind, "subject": self.subject.to_json(), "config": given}

    def _ask(self, job: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return json.loads(self._child.ask(json.dumps(job).encode(), self.timeout_s))
        except OSError:
            self._ready = False
            raise

    def _discard(self) -> None:
        self._child.discard()
        self._ready = False
