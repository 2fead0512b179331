"""The PyTorch form of recurrences of no paper: forward and every gradient against the oracle."""

import pytest
import torch

import lincodegen.runtime.chunks as chunk_functions
from lincodegen.emit.chunk_torch import print_torch
from lincodegen.spec.loader import load
from lincodegen.verify.adversaries import applicable
from lincodegen.verify.compare import f1
from lincodegen.verify.gradients import evaluate_op
from lincodegen.verify.harness import verify
from lincodegen.verify.inputs import Geometry, draw
from tests.property.chunk_op import compiled, op_of
from tests.property.unseen_specs import SPECS

SIZES = {"K": 5, "V": 3}


@pytest.mark.parametrize("name", SPECS)
def test_agrees_with_the_oracle(name):
    recurrence, op = op_of(SPECS[name], chunk_size=8)
    cases = (*applicable(recurrence), "repeated heads")
    options = {"sizes": SIZES, "dtype": torch.float64, "lengths": (1, 8, 21), "cases": cases}
    verdict = verify(recurrence, op, **options)
    assert verdict.passed, str(verdict)
    assert {row.rule for row in verdict.rows} == {"F1"}
    gradients = {row.tensor for row in verdict.rows if row.tensor.startswith("grad ")}
    tensors = (*recurrence.inputs, *recurrence.parameters)
    assert {f"grad {x.name}" for x in tensors} <= gradients
    assert {f"grad initial {x.name}" for x in recurrence.states} <= gradients


@pytest.mark.parametrize("name", SPECS)
def test_chunk_sizes_agree(name):
    recurrence, op = op_of(SPECS[name])
    case = draw(recurrence, Geometry(SIZES, 37, batch=1), dtype=torch.float64)
    found = {
        size: evaluate_op(recurrence, case, op.with_chunks(size)).named() for size in (8, 16, 32)
    }
    for size in (8, 16):
        for tensor, want in found[32].items():
            outcome = f1(found[size][tensor], want)
            assert outcome.passed, f"chunks of {size}, {tensor}: {outcome}"


@pytest.mark.parametrize("name", SPECS)
def test_the_runtime_functions_are_the_ones_that_are_named(name):
    for program in compiled(load(SPECS[name]))[1]:
        text = print_torch(program)
        code = compile(text.forward + text.backward, name, "exec")
        functions = [c for c in code.co_consts if hasattr(c, "co_names")]
        used = {n for f in functions for n in f.co_names if hasattr(chunk_functions, n)} - {"torch"}
        assert used == set(text.runtime)
        names = [f.co_varnames[: f.co_argcount] for f in functions]
        assert names[0] == (*text.operands, "state", *text.scalars, "chunk_size")
        assert len(text.gradients) == len(text.operands)
