"""The device that is checked: a GPU, the interpreter on a CPU, or one that a test makes up."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from lincodegen.config import OpConfig
from lincodegen.doctor import diagnose
from lincodegen.gpu_check.peer_runs import run_peers
from lincodegen.resources import generated_dir
from lincodegen.runtime.tables import Header
from lincodegen.runtime.tuned import device_header
from lincodegen.targets import Target, from_device, load_target
from lincodegen.tune import machine
from lincodegen.tune.gate import Subject, Trials, Worker
from lincodegen.tune.judge import recurrence_in
from lincodegen.tune.records import Provenance
from lincodegen.tune.session import CandidateWorker


class Bench(CandidateWorker, Protocol):
    """What judges and times; `lincodegen.tune.gate.Worker` is one."""

    timeout_s: float
    prepare_s: float

    def turn_to(self, subject: Subject) -> None:
        """Takes candidates of another subject."""
        ...

    def trace(self, config: OpConfig | None, trials: Trials) -> str:
        """The traceback of what it raises."""
        ...


class Site(Protocol):
    """A device and how its workers are made."""

    form: str

    def header(self) -> Header:
        """The device as tables name it."""
        ...

    def target(self) -> Target:
        """The device as candidates are chosen for it."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """What else a summary says of the machine."""
        ...

    def doubts(self) -> Sequence[str]:
        """What on the machine may make kernels fail or be wrong."""
        ...

    def subject(self, op: str, dtype: str, size: int) -> Subject:
        """An op with every dimension of a size."""
        ...

    def bench(self, subject: Subject) -> Bench:
        """A worker of its own."""
        ...

    def provenance(self, op: str, seed: int) -> Provenance:
        """Where a record of an op comes from."""
        ...

    def peers(self, out: Path, ops: Sequence[str], budget_s: float) -> str:
        """Times ops against other libraries; says what became of it."""
        ...


class Machine:
    """A device of this machine.

    Args:
        device: PyTorch's name; kernels run in Triton's interpreter on ``cpu``.
        form: ``triton`` or ``torch``.
        wrapper: as `lincodegen.tune.gate.Subject` has it.
    """

    def __init__(self, device: str = "cuda", form: str = "triton", wrapper: str = "") -> None:
        self._device, self.form, self._wrapper = device, form, wrapper

    def header(self) -> Header:
        """The device as tables name it."""
        if self._device == "cpu" and self.form == "triton":
            return Header("interpreter", "interpreter", 0)
        return device_header(torch.device(self._device))

    def target(self) -> Target:
        """Its driver's figures; of a CPU those of a GPU: the interpreter takes its tiles."""
        if self._device == "cpu":
            return load_target("sm_90")
        return from_device(torch.cuda.get_device_properties(torch.device(self._device)))

    def facts(self) -> Mapping[str, Any]:
        """Versions, the machine's name and the time."""
        return {
            "torch": torch.__version__,
            "triton": _version("triton"),
            "cuda": str(torch.version.cuda),
            "python": platform.python_version(),
            "host": socket.gethostname(),
            "form": self.form,
            "time": time.time(),
        }

    def doubts(self) -> Sequence[str]:
        """What `lincodegen doctor` warns of, where kernels are compiled for a GPU."""
        if self._device == "cpu":
            return ()
        rows = [row for row in diagnose().rows if row.status != "ok"]
        return [f"{row.check}: {row.found}; {row.advice}" for row in rows]

    def subject(self, op: str, dtype: str, size: int) -> Subject:
        """A shipped op with every dimension of a size."""
        folder = generated_dir() / op
        sizes = dict.fromkeys(map(str, recurrence_in(folder).dims), size)
        said = torch.get_float32_matmul_precision()
        return Subject(folder, self.form, self._device, dtype, sizes, self._wrapper, said)

    def bench(self, subject: Subject) -> Bench:
        """A worker whose references are computed by one thread: several work side by side.

        It sees no table of the user's: what is judged is what is shipped.
        """
        environment = {"OMP_NUM_THREADS": "1", **os.environ, "LINCODEGEN_CONFIG_DIR": os.devnull}
        return Worker(subject, environment=environment)

    def provenance(self, op: str, seed: int) -> Provenance:
        """Where a record of a shipped op comes from."""
        found = machine.provenance(generated_dir() / op, torch.device(self._device), seed)
        header = self.header()
        return replace(found, device=header.device, target=header.target)

    def peers(self, out: Path, ops: Sequence[str], budget_s: float) -> str:
        """Runs the benchmarks in processes that are killed when their time is over."""
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        environment["LINCODEGEN_CONFIG_DIR"] = str(out / "configs")
        return run_peers(self._device, out, ops, budget_s, environment)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
