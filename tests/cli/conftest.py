"""A pipeline that records its calls, so that the command line is tested by itself."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

import lincodegen
from lincodegen.cli import main


@dataclass
class FakeReport:
    """Stands for every report: a text, JSON values and a result."""

    text: str
    ok: bool = True
    values: dict = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> dict:
        return {"ok": self.ok, "text": self.text, **self.values}


class FakePipeline(ModuleType):
    """The pipeline's functions; ``outcomes`` maps one's name to what it returns or raises."""

    report = FakeReport

    def __init__(self) -> None:
        super().__init__("lincodegen.pipeline")
        self.calls: list[tuple[str, tuple, dict]] = []
        self.outcomes: dict[str, FakeReport | str | Exception] = {}

    def _call(self, name: str, args: tuple, kwargs: dict) -> FakeReport | str:
        self.calls.append((name, args, kwargs))
        outcome = self.outcomes.get(name, FakeReport(f"{name} done"))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def check(self, path, sets):
        return self._call("check", (path, sets), {})

    def show(self, path, after, sets):
        return self._call("show", (path, after, sets), {})

    def cost(self, path, target, sizes, sets):
        return self._call("cost", (path, target, sizes, sets), {})

    def build(self, path, *, sets, out, on_progress):
        on_progress("emit")
        return self._call("build", (path,), {"sets": sets, "out": out})

    def check_generated(self, path, *, sets, out, on_progress):
        return self._call("check_generated", (path,), {"sets": sets, "out": out})

    def compile_targets(self, path, targets, *, sets, on_progress):
        return self._call("compile_targets", (path, targets), {"sets": sets})

    def verify(self, path, *, sets, dtype, quick, on_progress):
        on_progress("case 1 of 2")
        kwargs = {"sets": sets, "dtype": dtype, "quick": quick}
        return self._call("verify", (path,), kwargs)


@pytest.fixture
def pipeline(monkeypatch):
    fake = FakePipeline()
    monkeypatch.setitem(sys.modules, "lincodegen.pipeline", fake)
    monkeypatch.setattr(lincodegen, "pipeline", fake, raising=False)
    return fake


@pytest.fixture
def spec(tmp_path) -> Path:
    path = tmp_path / "my_rule.yaml"
    path.write_text("name: my_rule\n")
    return path


@pytest.fixture
def run():
    """Runs the command line in this process: ``run("check", path)``."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return call
