"""Every address that an interpreted kernel reads or writes, checked against its arguments.

A kernel may touch memory of its own tensor arguments alone, and an address is written by one
program of a launch, once. Tensors larger than memory are mapped without being backed, so that the
programs at the corners of a grid of any size can be run.
"""

import math
import mmap
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np
import torch
from triton.runtime import interpreter
from triton.tools.tensor_descriptor import TensorDescriptor

# the module names it from Python 3.13 on
NORESERVE = 0x4000
LARGE = 1 << 24
"""Elements from which on an allocation is virtual and a grid is run at its corners."""


@dataclass
class Launch:
    """One launch: its kernel, the windows of memory that it may touch, and what it wrote."""

    kernel: str
    windows: list[tuple[int, int]]
    reads: int = 0
    writes: int = 0
    written: list[np.ndarray] = field(default_factory=list)

    def check(self, addresses: np.ndarray, size: int) -> None:
        """Every access of ``size`` bytes lies in one of the windows."""
        inside = np.zeros(addresses.shape, dtype=bool)
        for first, last in self.windows:
            inside |= (addresses >= first) & (addresses + np.uint64(size) <= last)
        assert inside.all(), (
            f"{self.kernel}: {int((~inside).sum())} accesses outside of every argument"
        )

    def finish(self) -> None:
        """Each address was written once."""
        addresses = np.concatenate([x.ravel() for x in self.written] or [np.empty(0)])
        twice = addresses.size - np.unique(addresses).size
        assert not twice, f"{self.kernel}: {twice} addresses are written more than once"


@dataclass
class Log:
    """All launches of a block of code; ``batch`` entries of a large tensor are its rows."""

    launches: list[Launch] = field(default_factory=list)
    batch: int = 1

    def windows(self, arguments: Iterable[object], corner: int | None) -> list[tuple[int, int]]:
        """The memory of tensors; of large ones the first (0) or last (-1) batch entry alone."""
        found = []
        for argument in arguments:
            x = argument.base if isinstance(argument, TensorDescriptor) else argument
            if isinstance(x, torch.Tensor):
                assert x.is_contiguous()
                first, size = x.data_ptr(), x.numel() * x.element_size()
                if corner is not None and x.numel() > LARGE:
                    entry = size // self.batch
                    first += 0 if corner == 0 else size - entry
                    size = entry
                found.append((first, first + size))
        return found


@contextmanager
def logged_accesses(batch: int = 1) -> Generator[Log]:
    """Inside the block every launch is logged and checked; ``batch`` is that of large tensors."""
    log = Log(batch=batch)
    builder = interpreter.InterpreterBuilder
    run, load, store = (
        interpreter.GridExecutor.__call__,
        builder.create_masked_load,
        builder.create_masked_store,
    )

    def call(executor, *args, **kwargs):
        arguments = (*args, *kwargs.values())
        log.launches.append(Launch(executor.fn.__name__, log.windows(arguments, None)))

        def programs(*bounds):
            """The interpreter's ``range``: of a large grid the first program and the last one."""
            if bounds[-1] <= LARGE:
                yield from range(*bounds)
                return
            for corner in (0, -1):
                log.launches[-1].windows = log.windows(arguments, corner)
                yield corner % bounds[-1]

        with patch.object(interpreter, "range", programs, create=True):
            run(executor, *args, **kwargs)
        log.launches[-1].finish()

    def checked_load(self, ptrs, mask, *rest, **options):
        # the mask of a load through a descriptor is an array
        addresses = ptrs.data[np.broadcast_to(np.asarray(mask.data, bool), ptrs.data.shape)]
        log.launches[-1].reads += addresses.size
        log.launches[-1].check(addresses, ptrs.get_element_ty().primitive_bitwidth // 8)
        return load(self, ptrs, mask, *rest, **options)

    def checked_store(self, ptrs, value, mask, *rest):
        addresses = ptrs.data[np.broadcast_to(mask.data.astype(bool), ptrs.data.shape)]
        log.launches[-1].writes += addresses.size
        log.launches[-1].check(addresses, ptrs.get_element_ty().primitive_bitwidth // 8)
        log.launches[-1].written.append(addresses)
        return store(self, ptrs, value, mask, *rest)

    with ExitStack() as stack:
        for owner, name, replacement in (
            (interpreter.GridExecutor, "__call__", call),
            # arguments on the CPU are not copied, so that there is nothing to copy back
            (interpreter.GridExecutor, "_restore_args_dev", lambda *_: None),
            (builder, "create_masked_load", checked_load),
            (builder, "create_masked_store", checked_store),
        ):
            stack.enter_context(patch.object(owner, name, replacement))
        yield log


def virtual(shape: Iterable[int], dtype: torch.dtype) -> torch.Tensor:
    """A tensor of zeros that takes memory only where it is written."""
    shape = tuple(shape)
    size = max(1, math.prod(shape) * dtype.itemsize)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE
    return torch.frombuffer(mmap.mmap(-1, size, flags=flags), dtype=dtype)[: math.prod(shape)].view(
        shape
    )


@contextmanager
def virtual_allocations() -> Generator[None]:
    """Inside the block large results are mapped, not backed; a sum over one entry is a view."""
    empty, empty_like, total = torch.empty, torch.empty_like, torch.Tensor.sum

    def mapped(*shape, dtype=None, device=None):
        assert torch.device(device or "cpu").type == "cpu"
        return virtual(shape, dtype) if math.prod(shape) > LARGE else empty(*shape, dtype=dtype)

    def mapped_like(x):
        return virtual(x.shape, x.dtype) if x.numel() > LARGE else empty_like(x)

    def summed(x, *args, **kwargs):
        if x.numel() > LARGE:
            assert args == (0,), args
            assert x.shape[0] == 1
            return x[0]
        return total(x, *args, **kwargs)

    with (
        patch.object(torch, "empty", mapped),
        patch.object(torch, "empty_like", mapped_like),
        patch.object(torch.Tensor, "sum", summed),
    ):
        yield
