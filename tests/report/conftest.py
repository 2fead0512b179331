"""Pages of shipped ops, each made once."""

from functools import cache

import pytest

from lincodegen.report.page import gather, render
from lincodegen.resources import specs_dir

DATE = "2026-01-02"


@cache
def page_of(name):
    return render(gather(specs_dir() / f"{name}.yaml", "sm_90", {}), DATE)


@pytest.fixture
def page():
    """The HTML of a shipped op's page by its name."""
    return page_of
