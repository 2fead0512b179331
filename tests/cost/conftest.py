"""Costs of shipped ops at given configurations, or at a target's defaults."""

from functools import cache

import pytest

from lincodegen.config import Config
from lincodegen.cost.launch import Default
from lincodegen.cost.model import kernel_slots, op_cost
from lincodegen.cost.sizes import CallSizes
from lincodegen.derive.timeline import read_timeline
from lincodegen.emit.op_plan import plan_op
from lincodegen.pipeline import compile_spec, load
from lincodegen.resources import specs_dir
from lincodegen.targets import load_target

USUAL = Config(64, 64, 64, 4, 2)


@cache
def compiled_op(name):
    """(plan, programs) of a shipped op."""
    path = specs_dir() / f"{name}.yaml"
    programs = compile_spec(path).programs
    return plan_op(read_timeline(load(path)), programs), programs


@pytest.fixture
def op_of():
    """The plan and the programs of a shipped op by name."""
    return compiled_op


@pytest.fixture
def cost_at():
    """The cost of an op with one configuration for every kernel."""

    def cost(name, target="sm_90", config=USUAL, **sizes):
        plan, programs = compiled_op(name)
        defaults = dict.fromkeys(kernel_slots(plan, programs), Default(config, None))
        return op_cost(plan, programs, defaults, CallSizes(**sizes), load_target(target))

    return cost
