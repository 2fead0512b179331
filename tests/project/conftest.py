"""The project's own files, as the style tests read them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LEFT_OUT = {"__pycache__", "build", "dist"}

TEXT = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".jinja", ".sh", ".cfg", ""}


def project_files() -> Iterator[Path]:
    """Every text file of the project: not caches, environments or what git keeps."""
    folders = [ROOT]
    while folders:
        for path in sorted(folders.pop().iterdir()):
            hidden = path.name.startswith(".") and path.name not in (".ci", ".gitignore")
            if hidden or path.name in LEFT_OUT or path.name.endswith(".egg-info"):
                continue
            if path.is_dir():
                folders.append(path)
            elif path.suffix in TEXT:
                yield path


@pytest.fixture(scope="session")
def files() -> tuple[Path, ...]:
    return tuple(project_files())


@pytest.fixture(scope="session")
def modules() -> dict[Path, ast.Module]:
    """The parsed Python files of the package, without generated ones."""
    return {
        path: ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / "lincodegen").rglob("*.py"))
        if "generated" not in path.relative_to(ROOT).parts
    }
