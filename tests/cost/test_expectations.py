"""What every shipped op moves is on record; renewed by scripts/record_costs.py.

The compiled resources of the same kernels are on record in lincodegen/configs/defaults/.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from lincodegen.cost.expectations import (
    differences,
    expectation,
    expectations_text,
    read_expectations,
)
from lincodegen.cost.model import op_cost
from lincodegen.loading import shipped_names
from lincodegen.pipeline import cost
from lincodegen.resources import defaults_dir, specs_dir
from lincodegen.schedule import kernels
from lincodegen.targets import load_target

EXPECTATIONS = Path(__file__).with_name("expectations.json")
TARGETS = sorted(path.stem for path in defaults_dir().glob("*.json"))
RENEW = "if this is meant: python scripts/record_costs.py"


@pytest.mark.parametrize("target", TARGETS)
def test_ops_move_what_is_expected(target):
    table = read_expectations(EXPECTATIONS)[target]
    assert sorted(table) == sorted(shipped_names())
    found = [
        line
        for name in shipped_names()
        for line in differences(table[name], cost(specs_dir() / f"{name}.yaml", target, {}).cost)
    ]
    assert not found, "\n".join([*found, RENEW])


def test_the_file_is_as_it_would_be_written():
    table = read_expectations(EXPECTATIONS)
    assert EXPECTATIONS.read_text(encoding="utf-8") == expectations_text(table)


def test_a_tensor_stored_in_addition_shows_in_the_difference(op_of, cost_at, monkeypatch):
    """A scan that also keeps what it computes of a chunk: bytes of that launch and of the whole."""
    before = cost_at("gated_delta_rule")
    expected = expectation(before)
    assert differences(expected, before) == []
    plan, programs = op_of("gated_delta_rule")
    real = kernels.schedule

    def storing(program):
        cut = real(program)
        scan = cut.forward[-1]
        rows = kernels.Stored(program.blocks["Z_m"], "z", "rows")
        scan = replace(scan, outputs=(*scan.outputs, rows))
        return replace(cut, forward=(*cut.forward[:-1], scan))

    monkeypatch.setattr("lincodegen.cost.model.schedule", storing)
    defaults = {x.label: x.kernel.default for d in before.directions for x in d.kernels}
    after = op_cost(plan, programs, defaults, before.sizes, load_target("sm_90"))
    lines = differences(expected, after)
    here = "gated_delta_rule on sm_90, forward"
    assert lines[0] == (
        f"{here}, scan_fwd: 1176 bytes a token and head expected, 1432 bytes a token and head found"
    )
    assert "writes z 256" in lines[1]
    assert lines[2].startswith(f"{here}, in all: 1568 bytes")
    assert len(lines) == 3


def test_a_launch_that_is_new_or_gone_is_named(cost_at):
    found = cost_at("retention")
    expected = expectation(found)
    expected = {**expected, "forward": {"scan_fwd": 1044.0, "prep_fwd": 12.0}}
    lines = differences(expected, found)
    assert "prep_fwd: 12 bytes a token and head expected, no launch found" in "\n".join(lines)
    assert "repeat g: no launch expected, 4 bytes a token and head found" in "\n".join(lines)
