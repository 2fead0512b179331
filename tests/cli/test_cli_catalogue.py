"""list, new and doctor."""

import json
import sys
from types import ModuleType

import pytest

from lincodegen import resources
from lincodegen.cli import catalogue


def test_list_names_every_shipped_spec_with_its_title(run):
    found = json.loads(run("list", "--json").stdout)["specs"]
    assert {entry["name"] for entry in found} == {
        path.stem for path in resources.specs_dir().glob("*.yaml")
    }
    lines = run("list").stdout.splitlines()
    assert len(lines) == len(found)
    for entry, line in zip(found, lines, strict=True):
        assert line.startswith(entry["name"])
        assert line.endswith(entry["title"])


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("name: x\ntitle: A rule, of two words\n", "A rule, of two words"),
        ('title: "Quoted: yes"\nname: x\n', "Quoted: yes"),
        ("title:   'single'  \n", "single"),
        ("name: x\ndoc: |\n  title: no\n", ""),
    ],
)
def test_the_title_is_read_from_the_text(tmp_path, text, title):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    assert catalogue.read_entry(path).title == title


@pytest.mark.parametrize(("tier", "shown"), [(1, 1), (3, 3), ("one", None)])
def test_the_tier_is_that_of_the_manifest(tmp_path, monkeypatch, tier, shown):
    monkeypatch.setattr(resources, "generated_dir", lambda: tmp_path / "generated")
    path = tmp_path / "x.yaml"
    path.write_text("name: x\n")
    assert catalogue.read_entry(path).tier is None
    package = tmp_path / "generated" / "x"
    package.mkdir(parents=True)
    (package / "manifest.json").write_text(json.dumps({"tier": tier}))
    assert catalogue.read_entry(path).tier == shown


def test_new_writes_a_spec_once(run, tmp_path):
    path = tmp_path / "my_rule.yaml"
    assert run("new", "my_rule", "--out", tmp_path).exit_code == 0
    text = path.read_text()
    assert "name: my_rule\n" in text
    path.write_text("mine")
    result = run("new", "my_rule", "--out", tmp_path)
    assert result.exit_code == 2
    assert "exists" in result.stderr
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["MyRule", "my-rule", "../rule", "1rule", "lambda", "sum", "a" * 49]
)
def test_new_refuses_what_is_no_name_for_an_op(run, tmp_path, name):
    result = run("new", name, "--out", tmp_path)
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_the_scaffold_is_a_valid_spec(run, tmp_path):
    from lincodegen.spec import load

    assert run("new", "my_rule", "--out", tmp_path).exit_code == 0
    recurrence = load(tmp_path / "my_rule.yaml")
    assert recurrence.name == "my_rule"
    assert [name for name, _ in recurrence.outputs] == ["o"]
    assert recurrence.dims == ("K", "V")


@pytest.mark.parametrize("ok", [True, False])
def test_doctor_prints_the_diagnosis(run, monkeypatch, ok):
    class Report:
        def __init__(self):
            self.ok = ok

        def __str__(self):
            return "no CUDA device"

        def to_json(self):
            return {"ok": self.ok}

    module = ModuleType("lincodegen.doctor")
    module.diagnose = Report
    monkeypatch.setitem(sys.modules, "lincodegen.doctor", module)
    result = run("doctor")
    assert (result.exit_code, result.stdout) == (0 if ok else 1, "no CUDA device\n")
    assert json.loads(run("doctor", "--json").stdout) == {"ok": ok}
