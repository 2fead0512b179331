"""``python -m lincodegen.gpu_check``: needs nothing but PyTorch and Triton."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lincodegen.durations import seconds
from lincodegen.errors import LincodegenError
from lincodegen.gpu_check.command import check, outcome
from lincodegen.gpu_check.options import Options, by_importance, names, phase_order


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line and runs; 0 if every op that was judged passed."""
    parser = argparse.ArgumentParser("python -m lincodegen.gpu_check", description=__doc__)
    parser.add_argument("--budget", type=seconds, default=480.0, help="in all, as in 8m")
    parser.add_argument("--out", type=Path, required=True, help="folder of what is found")
    parser.add_argument("--ops", default="", help="names; by default all, important ones first")
    parser.add_argument("--first", default="check,tune,bench", help="order of the phases")
    parser.add_argument("--device", default="cuda", help="cpu rehearses in the interpreter")
    parser.add_argument("--form", choices=("triton", "torch"), default="triton")
    given = parser.parse_args(arguments)
    try:
        ops, phases = by_importance(names(given.ops)), phase_order(names(given.first))
        options = Options(given.out, given.budget, ops, phases)
        found = check(options, given.device, given.form, _say)
    except LincodegenError as error:
        _say(str(error))
        return 2
    sys.stdout.write(f"{outcome(found, options.out)}\n")
    return 0 if found["ok"] else 1


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
