"""The NVIDIA binaries that Triton's wheel carries, found without importing Triton."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path


def triton_folder() -> Path | None:
    """The installed Triton package, or None."""
    spec = importlib.util.find_spec("triton")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def find_tool(name: str) -> Path | None:
    """The binary ``name`` (ptxas, cuobjdump, nvdisasm) of Triton's wheel, else of the PATH."""
    folder = triton_folder()
    if folder is not None:
        bundled = folder / "backends" / "nvidia" / "bin" / name
        if bundled.is_file():
            return bundled
    found = shutil.which(name)
    return Path(found) if found else None
