"""What a wheel holds, and that it works away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the wheel's files, as pip would lay them into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def python(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=site.parent,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_the_wheel_holds_specs_templates_and_ops(installed):
    def names(folder: Path, pattern: str) -> set[str]:
        return {
            str(path.relative_to(folder))
            for path in folder.rglob(pattern)
            if "__pycache__" not in path.parts
        }

    package = installed / "lincodegen"
    assert names(package / "_data" / "specs", "*.yaml") == names(ROOT / "specs", "*.yaml")
    assert names(package / "_data" / "templates", "*") == names(ROOT / "templates", "*")
    assert names(package / "generated", "*.py") == names(ROOT / "generated", "*.py")
    assert not (installed / "tests").exists()
    assert not (installed / "scripts").exists()


def test_the_wheel_s_own_specs_are_listed(installed):
    result = python(installed, "-m", "lincodegen", "list", "--json")
    assert result.returncode == 0, result.stderr
    assert str(installed) in result.stdout
    assert str(ROOT) not in result.stdout


def test_an_op_is_built_from_the_wheel_alone(installed, tmp_path):
    assert (
        python(installed, "-m", "lincodegen", "new", "my_rule", "--out", str(tmp_path)).returncode
        == 0
    )
    spec = tmp_path / "my_rule.yaml"
    result = python(
        installed, "-m", "lincodegen", "build", str(spec), "--out", str(tmp_path / "ops")
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "ops" / "my_rule" / "__init__.py").is_file()
