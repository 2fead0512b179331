"""The benchmarks against other libraries, in a process of their own.

``python -m lincodegen.gpu_check.peers DEVICE FILE SECONDS OP,OP LAST``: results are written to
FILE as they come, of the last LAST works, or of all where it is empty. Who breaks the device for
its process ends it with the status `BROKEN`.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

BROKEN = 3
"""The device takes no more work of this process."""


def main(arguments: list[str]) -> int:
    """Runs the benchmarks of ops on a device; gives the exit status."""
    device, path, budget, ops, last = arguments
    torch = importlib.import_module("torch")
    session = importlib.import_module("lincodegen.bench.session")
    shapes = importlib.import_module("lincodegen.bench.shapes")
    named = tuple(ops.split(","))
    works = [work for work in shapes.TARGETS if work.op in named] if device != "cpu" else []
    works = works or shapes.preset("cpu" if device == "cpu" else "roof", named)
    dtype = "fp32" if device == "cpu" else "bf16"
    options = session.Options(dtype=dtype, device=torch.device(device), budget=float(budget))
    record = session.run(works[-int(last) :] if last else works, options, Path(path), _say)
    return BROKEN if "broken" in record.provenance else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
