"""The registry of flash-linear-attention: a stand-in, and the library itself where it is there."""

import importlib
import importlib.util
import sys
from types import ModuleType

import pytest
from fla_calls import CALLS
from test_fla import close, expected

from lincodegen.integrations import fla, register_fla_backend

HAS_FLA = importlib.util.find_spec("fla") is not None

FUNCTIONS = {
    "chunk_gated_delta_rule": "fla.ops.gated_delta_rule",
    "chunk_kda": "fla.ops.kda",
    "chunk_dplr_delta_rule": "fla.ops.generalized_delta_rule",
    "fused_chunk_simple_gla": "fla.ops.simple_gla",
    "fused_recurrent_simple_gla": "fla.ops.simple_gla",
}


@pytest.fixture
def registered(monkeypatch):
    """What was registered, by operation or function, with modules that only hold names."""
    found = {}

    def register(entry):
        return lambda backend: found.setdefault(entry, backend())

    modules = {
        "fla.backends": {"register": register, "BaseBackend": object},
        "fla.ops.gated_delta_rule": {},
        "fla.ops.generalized_delta_rule.dplr": {},
        "fla.ops.kda.chunk": {"chunk_kda": "kda"},
        "fla.ops.simple_gla.fused_chunk": {"fused_chunk_simple_gla": "chunk"},
        "fla.ops.simple_gla.fused_recurrent": {"fused_recurrent_simple_gla": "recurrent"},
    }
    for name, members in modules.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "fla", ModuleType("fla"))
    assert set(register_fla_backend()) == set(FUNCTIONS)
    return found


def test_operations_and_functions_get_a_backend(registered):
    assert set(registered) == {
        "gated_delta_rule",
        "generalized_delta_rule.dplr",
        "kda",
        "chunk",
        "recurrent",
    }
    assert {(x.backend_type, x.env_var, x.priority) for x in registered.values()} == {
        ("lincodegen", "FLA_LINCODEGEN", 1)
    }


def test_a_call_that_no_op_honours_is_refused_with_its_reason(registered):
    backend = registered["gated_delta_rule"]
    call = next(x for x in CALLS if x.function == "chunk_gated_delta_rule")
    verify = backend.chunk_gated_delta_rule_verifier
    assert verify(**call.tensors) == (True, None)
    accepted, reason = verify(**call.tensors, cp_context=object())
    assert not accepted
    assert reason.startswith("chunk_gated_delta_rule: cp_context is ")
    assert verify()[0] is False


def test_a_backend_computes_the_function(registered):
    call = next(x for x in CALLS if x.function == "chunk_kda")
    o, _ = registered["kda"].chunk_kda(**call.tensors)
    assert close(o, expected(call)[0])
    assert fla.refusal("chunk_kda", **call.tensors) is None


@pytest.mark.skipif(not HAS_FLA, reason="flash-linear-attention is not installed")
@pytest.mark.parametrize("call", [x for x in CALLS if x.function in FUNCTIONS], ids=str)
def test_the_librarys_functions_run_generated_ops(call):
    register_fla_backend()
    function = getattr(importlib.import_module(FUNCTIONS[call.function]), call.function)
    o, state = function(**call.tensors, **call.options, output_final_state=True)
    output, finals = expected(call)
    assert close(o, output)
    assert close(state, finals[0])
