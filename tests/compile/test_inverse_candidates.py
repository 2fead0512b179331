"""The triangular inverse in the interpreter against float64, on keys that are hard to separate."""

from __future__ import annotations

import inverse_candidates
import pytest
import torch


def erasures(rows: int, cosine: float, beta: float) -> torch.Tensor:
    """-beta tril(K K^T, -1) of unit keys of 128 with a mean cosine, [rows, rows]."""
    generator = torch.Generator().manual_seed(0)
    common = torch.nn.functional.normalize(torch.randn(128, generator=generator), dim=0)
    own = torch.nn.functional.normalize(torch.randn(rows, 128, generator=generator), dim=1)
    keys = cosine**0.5 * common + (1 - cosine) ** 0.5 * own
    keys = torch.nn.functional.normalize(keys, dim=1)
    return -(beta * (keys @ keys.T)).tril(-1)


@pytest.mark.parametrize("rows", [16, 32, 64])
@pytest.mark.parametrize(
    ("cosine", "beta", "tolerance"),
    [(0.0, 0.95, 2e-7), (0.9, 0.95, 6e-7), (0.9, 2.0, 4e-5), (1.0, 2.0, 2e-4)],
)
def test_the_inverse_is_as_good_as_substitution(
    rows: int, cosine: float, beta: float, tolerance: float
) -> None:
    n = erasures(rows, cosine, beta)
    exact = torch.linalg.inv(torch.eye(rows, dtype=torch.float64) - n.double())
    t = torch.full((rows, rows), float("nan"))
    inverse_candidates.inverse_kernel[(1,)](n, t, BT=rows)
    assert (t.double() - exact).abs().max() < tolerance
    assert torch.equal(t.triu(1), torch.zeros(rows, rows))
