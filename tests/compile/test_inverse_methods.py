"""Every method of the triangular inverse: against float64 on collinear keys, and compiled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import inverse_methods
import pytest
import torch
from test_inverse_candidates import erasures

from lincodegen.compile import CompileJob, compile_many
from lincodegen.config import INVERSES
from lincodegen.targets import load_target
from lincodegen.testing import install_interpreter_fixes


@pytest.fixture
def losses() -> Iterator[None]:
    """An interpreter that loses in tf32x3 products what a GPU loses."""
    install_interpreter_fixes(emulate_tf32=True)
    yield
    install_interpreter_fixes()


def inverted(n: torch.Tensor, method: str) -> torch.Tensor:
    t = torch.full_like(n, float("nan"))
    kernel: Any = inverse_methods.inverse_kernel
    kernel[(1,)](n, t, BT=n.shape[0], METHOD=method)
    return t


@pytest.mark.usefixtures("losses")
@pytest.mark.parametrize("method", INVERSES)
@pytest.mark.parametrize("rows", [16, 32, 64])
@pytest.mark.parametrize(
    ("cosine", "beta", "tolerance"),
    [(0.0, 0.95, 2e-7), (0.9, 0.95, 6e-7), (0.9, 2.0, 4e-5), (1.0, 2.0, 2e-4)],
)
def test_every_method_is_as_good_as_substitution(
    method: str, rows: int, cosine: float, beta: float, tolerance: float
) -> None:
    n = erasures(rows, cosine, beta)
    exact = torch.linalg.inv(torch.eye(rows, dtype=torch.float64) - n.double())
    t = inverted(n, method)
    assert (t.double() - exact).abs().max() < tolerance
    assert torch.equal(t.triu(1), torch.zeros(rows, rows))


@pytest.mark.usefixtures("losses")
def test_methods_are_told_apart() -> None:
    """Each computes in an order or a precision of its own, from 32 rows on."""
    n = erasures(32, 0.9, 2.0)
    found = [inverted(n, method) for method in INVERSES]
    pairs = [(a, b) for i, a in enumerate(found) for b in found[:i]]
    assert not any(torch.equal(a, b) for a, b in pairs)


def test_methods_compile_without_spilling() -> None:
    """Merges of 32 rows and more reach the tensor cores in tf32x3 alone."""
    source = Path(inverse_methods.__file__)
    jobs = [
        CompileJob(
            source,
            "inverse_kernel",
            {"n": "*fp32", "t": "*fp32"},
            {"BT": 64, "METHOD": method},
            load_target("sm_90"),
            num_stages=1,
        )
        for method in INVERSES
    ]
    found = dict(zip(INVERSES, compile_many(jobs), strict=True))
    assert all(r.error is None and r.stack_bytes == 0 for r in found.values()), found
    assert {method: r.mma > 0 for method, r in found.items()} == {
        "ieee": False,
        "rows": False,
        "tf32x3": True,
    }
