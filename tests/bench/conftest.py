"""Where planted peers are imported from; one thread, and the form that a CPU runs."""

import pytest
import torch
from planted import PLANTED

from lincodegen.runtime.backend import backend


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Makes ``planted_peers`` a module that can be imported."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "planted_peers.py").write_text(PLANTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


@pytest.fixture(scope="module", autouse=True)
def as_on_a_cpu():
    torch.set_num_threads(1)
    with backend("torch"):
        yield
