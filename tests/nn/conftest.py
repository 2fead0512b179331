"""The PyTorch forms of the ops: their kernels are tested in tests/ops."""

import pytest

from lincodegen.runtime.backend import backend


@pytest.fixture(autouse=True)
def _torch_form():
    with backend("torch"):
        yield
