"""The kernels of one token through Triton's compilers, for GPUs that are not there."""

import ast
import re

import pytest

from lincodegen.compile import CompileJob, compile_many
from lincodegen.resources import generated_dir
from lincodegen.targets import load_target

SIZE, TILE, HEADS = 128, 32, 32
TARGETS = ("sm_80", "sm_90", "sm_100", "sm_120", "gfx942")
WHOLE = ("gsa", "linear_attention_normalized")  # their states share no axis that can be cut
OPS = ("gated_delta_rule_qk_l2norm", "mamba2", "rwkv7", *WHOLE)
SPECIAL = {
    "values first": {"v_first": True},
    "bfloat16 state": {"state": "*bf16"},
    "float16 state, values first": {"state": "*fp16", "v_first": True},
    "no pool": {"state_indices": None},
    "grouped queries": {"GROUP": 4, "H_S": HEADS // 4},
}


def job(name, target, state="*fp32", v_first=False, state_indices="*i32", **constants):
    """All sizes are 128, heads 32; inputs in bfloat16."""
    path = generated_dir() / name / "step_kernels.py"
    kernel = next(
        x
        for x in ast.parse(path.read_text()).body
        if isinstance(x, ast.FunctionDef) and x.name.endswith("_step_kernel")
    )
    states = {
        a.arg.removeprefix("stride_").removesuffix("_n")
        for a in kernel.args.args
        if a.arg.endswith("_n")
    }
    strides = [a.arg for a in kernel.args.args if a.annotation and a.arg.startswith("stride_")]
    arguments, found = {}, {"GROUP": 1}
    for argument in kernel.args.args:
        label = argument.arg
        if argument.annotation and label in strides:
            own = [x for x in strides if x.rsplit("_", 1)[0] == label.rsplit("_", 1)[0]]
            order = own[::-1] if v_first else own
            found[label] = 1 if label == order[-1] else SIZE
        elif argument.annotation:
            tile = SIZE if name in WHOLE else TILE
            found.setdefault(label, HEADS if label.startswith("H") else SIZE)
            found |= {"BV": tile} if label == "BV" else {}
        elif label.startswith("stride_"):
            arguments[label] = SIZE * SIZE * (HEADS if label.endswith("_n") else 1)
        else:
            kinds = dict.fromkeys(states, state) | {"scale": 0.1, "eps": 1e-6}
            arguments[label] = (kinds | {"state_indices": state_indices}).get(label, "*bf16")
    assert constants.keys() <= found.keys()
    warps = 8 if name in WHOLE else 4
    return CompileJob(
        path, kernel.name, arguments, found | constants, load_target(target), warps, 1
    )


JOBS = {(name, target): job(name, target) for name in OPS for target in TARGETS}
JOBS |= {(label, "sm_90"): job("gated_delta_rule", "sm_90", **x) for label, x in SPECIAL.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("triton")


@pytest.fixture(scope="module")
def compiled(folder):
    return dict(zip(JOBS, compile_many(list(JOBS.values()), cache_dir=folder), strict=True))


@pytest.mark.parametrize("key", JOBS, ids=" ".join)
def test_a_step_compiles_without_spills(compiled, key):
    resources = compiled[key]
    assert resources.excess(JOBS[key].target, stack_bytes=0) is None
    assert resources.registers > 0


def test_states_move_in_sixteen_bytes(compiled, folder):
    wide = {
        "ptx": (r"ld\.global\S*\.v4\.b32", r"st\.global\S*\.v4\.b32"),
        "amdgcn": (r"(?:buffer|global)_load_dwordx4", r"(?:buffer|global)_store_dwordx4"),
    }
    texts = {kind: [x.read_text() for x in folder.rglob(f"*_step_kernel.{kind}")] for kind in wide}
    assert sum(map(len, texts.values())) >= len(compiled)
    for kind, patterns in wide.items():
        for text in texts[kind]:
            loads, stores = (len(re.findall(pattern, text)) for pattern in patterns)
            assert loads >= stores > 0
