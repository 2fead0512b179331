"""How many threads an op runs on: as many as the process has, or fewer where a table says so."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def at_most(threads: int) -> Generator[None]:
    """Inside the block this thread's operators share no more threads; never more than it had.

    PyTorch keeps the number for threads that have run nothing in parallel yet, too: one that does
    so for the first time meanwhile begins with the lower one.
    """
    had = torch.get_num_threads()
    if threads >= had:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(had)
