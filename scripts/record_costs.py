"""Records what every shipped op is expected to move: launches, and the bytes of each.

python scripts/record_costs.py

Prints what changed. Registers, stack, shared memory and matrix instructions of the kernels are on
record in lincodegen/configs/defaults/ and are renewed by scripts/pick_defaults.py --refresh.
"""

from __future__ import annotations

from pathlib import Path

from lincodegen.cost.expectations import (
    differences,
    expectation,
    expectations_text,
    read_expectations,
)
from lincodegen.pipeline import cost
from lincodegen.resources import defaults_dir

ROOT = Path(__file__).resolve().parents[1]
EXPECTATIONS = ROOT / "tests" / "cost" / "expectations.json"


def main() -> None:
    """Every op on every target that has a table of defaults."""
    known = read_expectations(EXPECTATIONS)
    found = {}
    for target in sorted(path.stem for path in defaults_dir().glob("*.json")):
        found[target] = {}
        for path in sorted((ROOT / "specs").glob("*.yaml")):
            report = cost(path, target, {})
            if report is None:
                continue
            found[target][path.stem] = expectation(report.cost)
            expected = known.get(target, {}).get(path.stem, {})
            print("\n".join(differences(expected, report.cost)) or f"{target} {path.stem}: same")
    EXPECTATIONS.write_text(expectations_text(found), encoding="utf-8")


if __name__ == "__main__":
    main()
