"""The kernels of the token loop through Triton's compiler, for a GPU that is not there."""

import ast
from pathlib import Path

import pytest
from recurrent_cases import INTERPRETED, SPECS

from lincodegen.compile import CompileJob, compile_many
from lincodegen.emit.token_recurrent_triton import recurrent_triton
from lincodegen.spec.loader import load
from lincodegen.targets import load_target

SIZE = 16


def jobs_of(name: str, text: str, folder: Path, chunk: int) -> list[CompileJob]:
    """One job a kernel of a module; dimensions are 16, all heads 4."""
    path = folder / f"{name}.py"
    path.write_text(text)
    jobs = []
    for kernel in ast.walk(ast.parse(text)):
        if not (isinstance(kernel, ast.FunctionDef) and kernel.name.endswith("_kernel")):
            continue
        constexprs = {a.arg: _constexpr(a.arg) for a in kernel.args.args if a.annotation}
        special = {"cu_seqlens": "*i64", "chunk": chunk, "scale": 0.5}
        plain = [a.arg for a in kernel.args.args if not a.annotation]
        arguments = {n: special.get(n, "*bf16") for n in plain}
        jobs.append(CompileJob(path, kernel.name, arguments, constexprs, load_target("sm_90")))
    return jobs


def _constexpr(name: str) -> int:
    if name.startswith("H"):
        return 4
    return {"B2_K": 2 * SIZE, "BK_V": SIZE * SIZE}.get(name, SIZE)


@pytest.mark.parametrize("chunk", [1, 64])
def test_kernels_compile(chunk, tmp_path):
    compiled = {name: text for name, text in SPECS.items() if name not in INTERPRETED}
    texts = {name.replace(" ", "_"): text for name, text in compiled.items()}
    jobs = []
    for name, text in texts.items():
        jobs += jobs_of(name, recurrent_triton(load(text)), tmp_path, chunk)
    found = compile_many(jobs, cache_dir=tmp_path / "triton", timeout_s=240)
    assert len(found) == 2 * len(texts)
    for job, resources in zip(jobs, found, strict=True):
        assert resources.error is None, f"{job.source_path}\n{resources.error}"
        assert resources.registers > 0
