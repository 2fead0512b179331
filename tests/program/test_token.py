"""Token programs: what they contain, how values are shared and named, what adjoints take."""

import re

import pytest

from lincodegen.errors import InternalError
from lincodegen.program.token import (
    Kind,
    cotangent_names,
    opened_norms,
    step_program,
    token_adjoint,
    token_program,
)
from lincodegen.program.token_heads import head_sources
from lincodegen.resources import specs_dir
from lincodegen.spec.loader import load
from lincodegen.verify.random_steps import random_recurrence

GATED = """name: probe
inputs:
  q: {shape: [K]}
  k: {shape: [2, K]}
  v: {shape: [V]}
  x: {shape: []}
parameters: {rate: {shape: []}}
constants: {scale: K**-0.5}
state: {S: {shape: [K, V]}}
outputs: [o, gate]
step: |
  k0 = l2norm(k[0])
  g = -exp(rate) * softplus(x)
  S = exp(g) * S + outer(k0, v) + outer(l2norm(k[0]), k[1] @ S)
  gate = sigmoid(x)
  y = scale * S.T @ q
  o = gate * y
"""


def statements(program):
    return {s.name: s.value for s in program.statements}


def operations(program):
    values = [*(s.value for s in program.statements), *(o.value for o in program.outputs)]
    return [node.op for value in values for node in value.walk()]


def prologue(text=GATED):
    recurrence = load(text)
    found = {a.name: a.value for a in recurrence.step}
    return token_program(recurrence, [("k0", found["k0"]), ("g", found["g"])])


def test_program_holds_what_its_outputs_need_and_no_more():
    program = prologue()
    assert [a.name for a in program.inputs] == ["k", "x", "rate"]
    assert [a.kind for a in program.inputs] == [Kind.TOKEN, Kind.TOKEN, Kind.PARAMETER]
    assert list(statements(program)) == ["k0", "g"]
    assert [o.name for o in program.outputs] == ["k0", "g"]


def test_equal_expressions_are_one_value():
    step = step_program(load(GATED))
    assert operations(step).count("l2norm") == 1
    adjoint = opened_norms(token_adjoint(step, ["k", "q", "S", "x", "rate"]))
    assert operations(adjoint).count("rsqrt") == 1
    assert sum(op in {"sigmoid", "softplus"} for op in operations(adjoint)) == 2


def test_states_are_arguments_and_their_next_values_outputs():
    step = step_program(load(GATED))
    assert [a.name for a in step.inputs if a.kind is Kind.STATE] == ["S"]
    assert [o.name for o in step.outputs] == ["o", "gate", "S_next"]
    assert cotangent_names(step) == {"o": "do", "gate": "dgate", "S_next": "dS_next"}


def test_cut_expressions_are_arguments():
    recurrence = load(GATED)
    y = next(a.value for a in recurrence.step if a.name == "y")
    (o, _) = recurrence.outputs
    program = token_program(recurrence, [o], {y: "read"})
    assert [a.name for a in program.inputs] == ["x", "read"]
    assert "matmul" not in operations(program)
    adjoint = token_adjoint(program, ["read", "x"])
    assert [o.name for o in adjoint.outputs] == ["dread", "dx"]


def test_rows_of_a_gradient_are_put_together():
    adjoint = token_adjoint(step_program(load(GATED)), ["k"])
    assert operations(adjoint).count("stack") == 1
    assert "unindex" not in operations(adjoint)


def test_gradient_of_what_no_output_reads_is_zero():
    sign = load(GATED.replace("gate = sigmoid(x)", "gate = sign(x)"))
    program = token_program(sign, [("gate", dict(sign.outputs)["gate"])])
    (output,) = token_adjoint(program, ["x"]).outputs
    assert output.name == "dx"
    (statement,) = token_adjoint(program, ["x"]).statements
    assert statement.value.op == "zeros_like"


def test_differentiating_by_a_stranger_is_an_error():
    with pytest.raises(InternalError, match="no argument 'w'"):
        token_adjoint(prologue(), ["w"])


def test_log_of_a_sigmoid_and_minus_softplus_are_log_sigmoid():
    text = GATED.replace("-exp(rate) * softplus(x)", "log(sigmoid(x)) - softplus(-rate)")
    program = prologue(text)
    assert operations(program).count("logsigmoid") == 2
    assert not {"log", "sigmoid", "softplus"}.intersection(operations(program))


@pytest.mark.parametrize("path", sorted(specs_dir().glob("*.yaml")), ids=lambda path: path.stem)
def test_names_say_what_a_value_is(path):
    step = step_program(load(path))
    wrt = [a.name for a in step.inputs if a.kind is not Kind.CONSTANT]
    for program in (step, token_adjoint(step, wrt)):
        names = [s.name for s in program.statements]
        taken = [*(a.name for a in program.inputs), *program.sizes]
        assert len({*names, *taken}) == len(names) + len(taken)
        for name in names:
            assert re.fullmatch(r"[A-Za-z]\w*", name)
            assert not re.fullmatch(r"(x|tmp|t)_?\d+", name)
            assert len(name) <= 40, name


@pytest.mark.parametrize("seed", range(30))
def test_every_statement_and_argument_is_used(seed):
    step = step_program(load(random_recurrence(seed)))
    wrt = [a.name for a in step.inputs if a.kind is not Kind.CONSTANT]
    for program in (step, token_adjoint(step, wrt)):
        values = [*(s.value for s in program.statements), *(o.value for o in program.outputs)]
        read = {node.attr[0] for value in values for node in value.walk() if node.attr}
        assert {s.name for s in program.statements} <= read
        assert {a.name for a in program.inputs} <= read


def test_statements_read_earlier_ones_alone():
    step = step_program(load(GATED))
    program = token_adjoint(step, ["k", "S", "rate"])
    known = set()
    for statement in program.statements:
        for node in statement.value.walk():
            if node.op == "value":
                assert node.attr[0] in known
        known.add(statement.name)


def test_thousands_of_statements_in_linear_depth():
    lines = "\n".join(f"  w = tanh(w + {i} * x)" for i in range(600))
    text = GATED.replace("step: |\n", f"step: |\n  w = x\n{lines}\n  v = w * v\n")
    step = step_program(load(text))
    adjoint = token_adjoint(step, ["x"])
    assert operations(adjoint).count("tanh") == 600


def test_heads_come_from_what_a_value_depends_on():
    states, outputs = head_sources(load(GATED))
    assert states == {"S": ("k", "v", "x", "rate")}
    assert outputs == {"o": ("q", "k", "v", "x", "rate"), "gate": ("x",)}


def test_printed_program_is_readable():
    text = str(prologue())
    assert text.splitlines()[0] == "given k, x, rate"
    assert "k0 = l2norm(index(k, 0))" in text
    assert text.splitlines()[-1] == "return k0 = k0, g = g"
