"""The child process: reads jobs as lines of JSON, answers each by its resources as one line.

It is started without ``TRITON_INTERPRET`` (a process is either an interpreter or a compiler)
and with a Triton cache of its own. Everything that Triton prints, such as the whole PTX after an
error of ptxas, goes to standard error, which the parent keeps in a file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from triton.runtime.jit import JITFunction, MockTensor
from triton.tools.tensor_descriptor import TensorDescriptor

from lincodegen.compile.assembly import amd_usage, nvidia_usage
from lincodegen.compile.driver import activate
from lincodegen.compile.job import Argument, CompileJob, Resources
from lincodegen.compile.serving import serve
from lincodegen.errors import LincodegenError

_ERROR_CHARACTERS = 2000
_POINTEES = {
    "i1": torch.bool,
    "i8": torch.int8,
    "u8": torch.uint8,
    "i16": torch.int16,
    "i32": torch.int32,
    "i64": torch.int64,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
    "fp64": torch.float64,
}
_DESCRIPTOR = re.compile(r"tensordesc<(?P<type>\w+)\[(?P<block>[\d,]+)\]>")
_STRIDE = 128


def load_module(path: Path) -> ModuleType:
    """The module of a file, without running the ``__init__`` of the package around it.

    Its folder stands as a package of a made-up name, so that relative imports between
    neighbouring files work and two packages of one name do not meet.
    """
    digest = hashlib.sha256(f"{path}\0{time.monotonic_ns()}".encode()).hexdigest()[:16]
    package = ModuleType(f"lincodegen_job_{digest}")
    package.__path__ = [str(path.parent)]
    sys.modules[package.__name__] = package
    name = f"{package.__name__}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LincodegenError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def compile_job(job: CompileJob) -> Resources:
    """Compiles one job through Triton's launch path and reads its resources off the binary."""
    activate(job.target)
    function: Any = getattr(load_module(job.source_path), job.kernel_name, None)
    while function is not None and not isinstance(function, JITFunction):
        function = getattr(function, "fn", None)
    if function is None:
        raise LincodegenError(f"{job.source_path} defines no Triton kernel {job.kernel_name!r}")
    start = time.perf_counter()
    kernel = function.warmup(
        **{name: _value(name, value) for name, value in job.arguments.items()},
        **job.constexprs,
        **job.options,
        num_warps=job.num_warps,
        num_stages=job.num_stages,
        grid=(1,),
    )
    seconds = time.perf_counter() - start
    if job.target.backend == "cuda":
        usage = nvidia_usage(kernel.asm["cubin"], kernel.asm["ptx"])
    else:
        usage = amd_usage(kernel.asm["amdgcn"])
    return Resources(
        **asdict(usage),
        shared_bytes=kernel.metadata.shared,
        tensor_memory_columns=getattr(kernel.metadata, "tmem_size", None) or 0,
        num_warps=kernel.metadata.num_warps,
        seconds=seconds,
        error=None,
    )


def _value(name: str, value: Argument) -> Argument | MockTensor | TensorDescriptor:
    if not isinstance(value, str):
        return value
    described = _DESCRIPTOR.fullmatch(value)
    pointee = _POINTEES.get(described["type"] if described else value.removeprefix("*"))
    if pointee is None or not (described or value.startswith("*")):
        raise LincodegenError(
            f"argument {name}: {value!r} is no pointer type; expected * and one of "
            + ", ".join(_POINTEES)
        )
    if described is None:
        return MockTensor(pointee)
    block = [int(size) for size in described["block"].split(",")]
    # any shape will do: kernels are specialised for the type and the block alone
    strides = [_STRIDE] * (len(block) - 1)
    return TensorDescriptor(MockTensor(pointee), block, [*strides, 1], block)


def _answer(line: str) -> Resources:
    job = CompileJob.from_json(line)
    start = time.perf_counter()
    try:
        return compile_job(job)
    except Exception as error:  # noqa: BLE001 - whatever a compiler raises is the answer
        text = f"{type(error).__name__}: {error}"[:_ERROR_CHARACTERS]
        return Resources.failure(job, text, time.perf_counter() - start)


if __name__ == "__main__":
    serve(lambda line: asdict(_answer(line)))
