"""What is compiled and what comes of it: plain data that crosses process borders as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lincodegen.targets import Target

Argument = str | int | float | bool | None
"""A pointer ("*bf16"), a tensor descriptor and its block ("tensordesc<bf16[64,128]>"), an integer
or floating-point value, or None for an absent pointer."""

_LATE = "no kernel after"


@dataclass(frozen=True, slots=True)
class CompileJob:
    """One kernel, with the arguments of a typical call, for one target.

    Integers should be realistic: Triton compiles another kernel for a value that is 1 or that
    is no multiple of 16. Floats are passed as they are and do not specialise anything.

    Attributes:
        source_path: Python file that defines the kernel.
        kernel_name: name of the ``@triton.jit`` function in it; wrappers such as
            ``triton.autotune`` are looked through.
        arguments: run-time arguments by name.
        constexprs: compile-time arguments by name.
        options: further launch options, such as ``maxnreg`` or ``waves_per_eu``.
    """

    source_path: Path
    kernel_name: str
    arguments: Mapping[str, Argument]
    constexprs: Mapping[str, Argument]
    target: Target
    num_warps: int = 4
    num_stages: int = 2
    options: Mapping[str, Argument] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line of JSON; the target goes by value, since it may be unlisted."""
        return json.dumps(
            {
                "source_path": str(self.source_path.resolve()),
                "kernel_name": self.kernel_name,
                "arguments": dict(self.arguments),
                "constexprs": dict(self.constexprs),
                "target": asdict(self.target),
                "num_warps": self.num_warps,
                "num_stages": self.num_stages,
                "options": dict(self.options),
            }
        )

    @staticmethod
    def from_json(text: str) -> CompileJob:
        """The job that `to_json` wrote."""
        fields = json.loads(text)
        fields["source_path"] = Path(fields["source_path"])
        fields["target"] = Target(**fields["target"])
        return CompileJob(**fields)


@dataclass(frozen=True, slots=True)
class Resources:
    """What one compiled kernel needs, read off its binary; all zero where it failed to compile.

    Attributes:
        registers: per thread; on AMD vector and accumulation registers together.
        stack_bytes: local (AMD: scratch) memory per thread. Anything above 0 is a spill or an
            array that could not be kept in registers.
        shared_bytes: shared memory per program. Triton compiles kernels that exceed the
            target's limit without complaint: see `excess`.
        tensor_memory_columns: columns of tensor memory (sm_100 and its like).
        wgmma: matrix instructions of Hopper in the text of the kernel, not in its execution.
        mma: warp-level matrix instructions (``mma.sync``).
        tcgen05: matrix instructions of data-centre Blackwell.
        mfma: matrix instructions of AMD CDNA.
        local_loads: loads from local memory.
        local_stores: stores to local memory.
        tensor_copies: copies of tiles through tensor descriptors (``cp.async.bulk.tensor``).
        seconds: wall-clock time of the compilation, almost nothing if it was cached.
        error: why there is no kernel, or None.
    """

    registers: int
    stack_bytes: int
    shared_bytes: int
    tensor_memory_columns: int
    wgmma: int
    mma: int
    tcgen05: int
    mfma: int
    local_loads: int
    local_stores: int
    num_warps: int
    seconds: float
    error: str | None
    tensor_copies: int = 0

    @staticmethod
    def failure(job: CompileJob, error: str, seconds: float) -> Resources:
        """The resources of a job that gave no kernel."""
        return Resources(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, job.num_warps, seconds, error)

    @staticmethod
    def late(job: CompileJob, timeout_s: float, seconds: float) -> Resources:
        """The resources of a job that was given up."""
        return Resources.failure(job, f"{_LATE} {timeout_s:g} s", seconds)

    @property
    def is_late(self) -> bool:
        """Whether the job was given up for the time that it took."""
        return self.error is not None and self.error.startswith(_LATE)

    @property
    def matrix_instructions(self) -> int:
        """Matrix instructions of whichever unit the target has."""
        return self.wgmma + self.mma + self.tcgen05 + self.mfma

    def excess(self, target: Target, *, stack_bytes: int = 64) -> str | None:
        """Why the kernel should not run on a target, or None.

        A few spilled bytes outside the loop cost nothing: `stack_bytes` is what is tolerated.
        """
        if self.error is not None:
            return self.error
        if self.shared_bytes > target.shared_per_block:
            return (
                f"needs {self.shared_bytes} bytes of shared memory, {target.name} has "
                f"{target.shared_per_block} per block"
            )
        if self.stack_bytes > stack_bytes:
            return f"spills: {self.stack_bytes} bytes of stack per thread"
        return None
