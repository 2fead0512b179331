"""The benchmarks against other libraries, in a process of their own.

``python -m lincodegen.gpu_check.peers DEVICE FILE SECONDS OP,OP``: results are written to FILE as
they come. The package of the benchmarks needs more than PyTorch and Triton.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Runs the benchmarks of ops on a device."""
    device, path, budget, ops = arguments
    torch = importlib.import_module("torch")
    session = importlib.import_module("lincodegen.bench.session")
    shapes = importlib.import_module("lincodegen.bench.shapes")
    works = shapes.preset("cpu" if device == "cpu" else "roof", tuple(ops.split(",")), None)
    dtype = "fp32" if device == "cpu" else "bf16"
    options = session.Options(dtype=dtype, device=torch.device(device), budget=float(budget))
    session.run(works, options, Path(path), lambda text: sys.stdout.write(f"{text}\n"))


if __name__ == "__main__":
    main(sys.argv[1:])
