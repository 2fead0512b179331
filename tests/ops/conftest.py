"""Figures that tests measure, as a table at the end of the run."""

import pytest

FIGURES = pytest.StashKey[list]()
TABLE = "figures"


@pytest.fixture
def figures(record_property):
    """``figures(goal, op, case, ratios)`` keeps the worst of a test's figures for the table."""

    def keep(goal: str, op: str, case: str, ratios: dict[str, float]) -> None:
        tensor = max(ratios, key=ratios.__getitem__)
        record_property(TABLE, [goal, op, case, tensor, ratios[tensor]])

    return keep


def pytest_terminal_summary(terminalreporter):
    reports = [r for key in ("passed", "failed") for r in terminalreporter.stats.get(key, [])]
    rows = [value for r in reports for key, value in r.user_properties if key == TABLE]
    if not rows:
        return
    terminalreporter.section("largest errors over those of the token loop in float32")
    worst: dict[tuple[str, str], list] = {}
    for row in rows:
        key = row[0], row[2]
        worst[key] = max(worst.get(key, row), row, key=lambda r: r[4])
    for (goal, case), (_, op, _, tensor, ratio) in sorted(worst.items()):
        terminalreporter.write_line(f"{goal:<12}{case:<18}{ratio:6.2f}  {op}, {tensor}")
