"""Where tests run: Triton's interpreter on machines without a CUDA device, one thread each."""

import importlib.metadata
import importlib.util
import os
from pathlib import Path

import pytest
from hypothesis import settings


def _has_cuda() -> bool:
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return False
    import torch

    return torch.cuda.is_available()


HAS_CUDA = _has_cuda()

# read when triton is imported first, and handed on to the processes that tests start
os.environ.setdefault("OMP_NUM_THREADS", "1")
if not HAS_CUDA:
    os.environ.setdefault("TRITON_INTERPRET", "1")

# no result depends on what was tuned on this machine
os.environ["LINCODEGEN_CONFIG_DIR"] = str(Path(__file__).with_name("no tables"))

# the same examples in every run: a failure in CI is one at the desk
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("triton"):
        from lincodegen.testing import install_interpreter_fixes

        install_interpreter_fixes()


def pytest_report_header(config: pytest.Config) -> str:
    versions = []
    for package in ("torch", "triton", "numpy", "sympy"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    return ", ".join([*versions, "CUDA" if HAS_CUDA else "no CUDA device"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if HAS_CUDA:
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device; none is here"))
