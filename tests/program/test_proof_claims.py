"""What the proof says it proved, and how."""

import pytest

from lincodegen.program import exact, proof
from lincodegen.program.proof import prove
from lincodegen.spec.loader import load
from tests.property.chunk_op import compiled
from tests.property.unseen_specs import SPECS

FULLY = ("other_erase_key", "column_read_channel", "two_groups")
"""Proved with as many random points as a build; the others with one a prime, to save time."""


def proved(text, **sets):
    return prove(*compiled(load(text, sets=sets)))


@pytest.mark.parametrize("name", SPECS)
def test_every_equation_holds(name, monkeypatch):
    timeline, programs = compiled(load(SPECS[name]))
    if name not in FULLY:
        monkeypatch.setattr(proof, "POINTS", 1)
    found = prove(timeline, programs)
    assert found.ok, found.failed
    assert found.failed == ()
    claimed = {(c.state, c.equation) for c in found.claims}
    for program in programs:
        state = program.form.group.state.name
        want = {"events", "adjoint", *(e.name for e in program.form.equations)}
        assert {(state, name) for name in want} <= claimed
    assert {("-", f"output {name}") for name, _ in timeline.outputs} <= claimed


def test_small_sizes_are_proved_as_polynomials():
    found = proved(SPECS["other_erase_key"])
    ways = {c.how for c in found.claims if c.equation == "N_mm"}
    assert any(w.startswith("zero polynomial at") for w in ways)
    assert "random points modulo two primes" in ways
    points = [c for c in found.claims if c.equation == "N_mm" and c.how.startswith("random")]
    assert len(points) == 2 * proof.POINTS


def test_many_events_are_left_to_random_points(monkeypatch):
    monkeypatch.setattr(proof, "POINTS", 1)
    found = proved(SPECS["four_factors"], n=8)
    assert found.ok
    assert not any(c.how.startswith("zero polynomial") for c in found.claims)


def test_more_unknowns_than_a_ring_has_are_left_to_random_points(monkeypatch):
    def small(timeline, sizes):
        return exact.Polynomials([1, 2, 3], 1)

    monkeypatch.setattr(proof, "_polynomials", small)
    found = proved(SPECS["other_erase_key"])
    assert found.ok
    assert not any(c.how.startswith("zero polynomial") for c in found.claims)


def test_the_report_and_its_data_agree():
    found = proved(SPECS["two_groups"])
    data = found.to_json()
    assert data["ok"] is True
    assert len(data["claims"]) == len(found.claims)
    text = str(found)
    assert "FAILS" not in text
    assert text.count("holds") == len({(c.state, c.equation) for c in found.claims})


def test_a_dual_number_knows_its_slope():
    ring = exact.Residues(101, 0)
    x, y = exact.Dual(7, 3, 101), exact.Dual(5, 4, 101)
    assert x * y == exact.Dual(35, (7 * 4 + 3 * 5) % 101, 101)
    assert ring.divided(x, y) * y == x
    assert (x - y) + y == x
    assert (-x) + x == ring.element(0)


def test_an_oracle_of_constants_has_no_slope():
    ring = exact.Residues(proof.PRIMES[0], 1)
    constant, unknown = ring.constant(ring.unknown("x")), ring.unknown("y")
    assert ring.function("exp", (constant,)).slope == 0
    assert ring.function("exp", (unknown,)).slope != 0
    assert ring.function("exp", (unknown,)) == ring.function("exp", (unknown,))
    assert ring.function("exp", (unknown,)) != ring.function("tanh", (unknown,))
