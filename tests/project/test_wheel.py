"""What a wheel holds, and that it works away from the checkout."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


# a recurrence that lincodegen does not come with
SPEC = """\
name: leaky_writer
inputs:
  q: {shape: [K]}
  k: {shape: [K], norm: "[0, 1]"}
  v: {shape: [V]}
  a: {shape: [], domain: "[-inf, 0]"}
  b: {shape: [], domain: "[0, 1]"}
state: {S: {shape: [K, V]}}
step: |
  S = exp(a) * (S - b * outer(k, S.T @ k)) + outer(k, v)
  o = S.T @ q
"""

TRAINING = """\
import torch
from torch.nn import functional
from ops.leaky_writer import leaky_writer

torch.manual_seed(0)
x, target = torch.randn(2, 40, 16), torch.randn(2, 40, 2, 8)
project = torch.nn.Linear(16, 2 * (8 + 8 + 8 + 1 + 1))
optimizer = torch.optim.Adam(project.parameters(), lr=1e-2)
for _ in range(20):
    q, k, v, a, b = project(x).unflatten(-1, (2, 26)).split((8, 8, 8, 1, 1), -1)
    a, b = -functional.softplus(a[..., 0]), torch.sigmoid(b[..., 0])
    o, _ = leaky_writer(q, functional.normalize(k, dim=-1), v, a, b)
    loss = (o - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder with the wheel's files, as pip would lay them into site-packages."""
    site = tmp_path_factory.mktemp("files") / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """A virtual environment with the wheel; its dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("environment") / "env"
    venv.create(folder, with_pip=False)
    (site,) = (folder / "lib").glob("python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    install = ["install", "--no-deps", "--no-index", "--no-compile", "--quiet", str(wheel)]
    result = subprocess.run([*pip, *install], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    # plain entries of a .pth file: no editable installation of the checkout comes along
    paths = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "dependencies.pth").write_text("\n".join(paths) + "\n")
    return folder


def outside(environment: Path, folder: Path, program: str, *arguments: str) -> str:
    """What a program of the environment prints, in a folder with nothing of the checkout."""
    own = {name: x for name, x in os.environ.items() if not name.startswith(("PYTHON", "TRITON"))}
    result = subprocess.run(
        [str(environment / "bin" / program), *arguments],
        cwd=folder,
        env=own,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


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


def test_a_page_is_made_from_the_wheel_alone(installed, tmp_path):
    page = tmp_path / "page.html"
    result = python(installed, "-m", "lincodegen", "report", "linear_attention", "--out", str(page))
    assert result.returncode == 0, result.stdout + result.stderr
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "No benchmark of this op is on record" in text


def test_an_installed_wheel_has_its_ops_templates_and_specs(environment, tmp_path):
    listed = json.loads(outside(environment, tmp_path, "lincodegen", "list", "--json"))
    assert str(environment) in json.dumps(listed)
    assert str(ROOT) not in json.dumps(listed)
    script = (
        "from lincodegen import resources as r; from lincodegen.ops import gated_delta_rule\n"
        "print(r.specs_dir(), r.templates_dir(), r.generated_dir(), sep='\\n')\n"
    )
    folders = outside(environment, tmp_path, "python", "-c", script).splitlines()
    assert len(folders) == 3
    assert all(folder.startswith(str(environment)) for folder in folders)
    assert all(any(Path(folder).iterdir()) for folder in folders)


def test_a_spec_of_one_s_own_is_built_and_trained_outside_the_checkout(environment, tmp_path):
    (tmp_path / "leaky_writer.yaml").write_text(SPEC)
    outside(environment, tmp_path, "lincodegen", "build", "leaky_writer.yaml", "--out", "ops")
    (tmp_path / "train.py").write_text(TRAINING)
    losses = [float(x) for x in outside(environment, tmp_path, "python", "train.py").split()]
    assert len(losses) == 20
    assert losses[-1] < 0.9 * losses[0]
