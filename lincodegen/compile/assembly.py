"""Registers, stack and matrix instructions, read off a compiled kernel's binary and text."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lincodegen.compile.toolchain import find_tool
from lincodegen.errors import LincodegenError

_TOOL_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Usage:
    """What the binary alone says; see `lincodegen.compile.Resources` for units."""

    registers: int
    stack_bytes: int
    wgmma: int
    mma: int
    tcgen05: int
    mfma: int
    local_loads: int
    local_stores: int
    tensor_copies: int = 0


def nvidia_usage(cubin: bytes, ptx: str) -> Usage:
    """Usage of an NVIDIA kernel.

    The registers that ptxas reports are no verdict by themselves: it has been seen to give up
    with 32 registers and 25 kB of stack, so the stack is what tells.
    """
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        listing = _run("cuobjdump", "-res-usage", file.name)
        registers, stack = _first(r"\bREG:(\d+)", listing), _first(r"\bSTACK:(\d+)", listing)
        # disassembling takes 50 times as long: without a stack there is no local access to count
        assembly = _run("nvdisasm", "-c", file.name) if stack else ""
    return Usage(
        registers=registers,
        stack_bytes=stack,
        wgmma=_count(r"\bwgmma\.mma_async\b", ptx),
        mma=_count(r"\bmma\.sync\b", ptx),
        tcgen05=_count(r"\btcgen05\.mma\b", ptx),
        mfma=0,
        local_loads=_count(r"\bLDL\b", assembly),
        local_stores=_count(r"\bSTL\b", assembly),
        tensor_copies=_count(r"\bcp\.async\.bulk\.tensor\b", ptx),
    )


def amd_usage(amdgcn: str) -> Usage:
    """Usage of an AMD kernel, from the metadata and the text of its assembly."""
    return Usage(
        # .vgpr_count already contains the accumulation registers where the two share a file
        registers=_first(r"\.vgpr_count:\s+(\d+)", amdgcn),
        stack_bytes=_first(r"\.private_segment_fixed_size:\s+(\d+)", amdgcn),
        wgmma=0,
        mma=0,
        tcgen05=0,
        mfma=_count(r"^\s*v_mfma_", amdgcn),
        local_loads=_count(r"^\s*scratch_load_", amdgcn),
        local_stores=_count(r"^\s*scratch_store_", amdgcn),
    )


def _run(tool: str, *arguments: str) -> str:
    path = find_tool(tool)
    if path is None:
        raise LincodegenError(
            f"{tool} was not found. Expected in Triton's wheel or on the PATH; "
            "install triton, or the CUDA toolkit."
        )
    done = subprocess.run(
        [str(path), *arguments], capture_output=True, text=True, timeout=_TOOL_SECONDS, check=False
    )
    if done.returncode != 0:
        raise LincodegenError(f"{Path(tool).name} failed: {done.stderr.strip()[:500]}")
    return done.stdout


def _first(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    if match is None:
        raise LincodegenError(f"the compiled kernel's listing has no {pattern!r}")
    return int(match.group(1))


def _count(pattern: str, text: str) -> int:
    return len(re.findall(pattern, text, re.MULTILINE))
