"""Where planted peers are imported from; one thread, and the form that a CPU runs."""

import pytest
import torch
from planted import PLANTED

from lincodegen.runtime.backend import backend


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Makes ``planted_peers`` importable, and ``broken_peers`` a module that lacks a library."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "planted_peers.py").write_text(PLANTED)
    broken = 'raise ImportError("libcuda.so.1: cannot open shared object file")'
    (folder / "broken_peers.py").write_text(broken)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


@pytest.fixture(scope="module", autouse=True)
def as_on_a_cpu():
    torch.set_num_threads(1)
    with backend("torch"):
        yield
