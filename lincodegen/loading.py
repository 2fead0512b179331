"""Generated packages as modules: shipped ones by name, others from where they were built."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from lincodegen.errors import LincodegenError
from lincodegen.resources import generated_dir


def load_package(folder: Path) -> Any:  # noqa: ANN401 - the op of a module made elsewhere
    """The op of a generated package, imported from its folder.

    Two versions of one op may be loaded at once: a module's name carries the digest.
    """
    name, digest = _identity(folder)
    module_name = f"lincodegen_ops_{name}_{digest}"
    module = sys.modules.get(module_name)
    if module is None or Path(str(module.__file__)).parent != folder:
        spec = importlib.util.spec_from_file_location(
            module_name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if spec is None or spec.loader is None:
            raise LincodegenError(f"{folder} is no generated package")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(module_name, None)
            raise
    return vars(module)[name]


def shipped_names() -> tuple[str, ...]:
    """The names of the ops that come with lincodegen."""
    return tuple(sorted(path.parent.name for path in generated_dir().glob("*/manifest.json")))


def load_shipped(name: str) -> Any:  # noqa: ANN401
    """A shipped op by name.

    Raises:
        AttributeError: there is no such op.
    """
    # a look at every folder takes longer than all else that loads an op
    if not (name.isidentifier() and (generated_dir() / name / "manifest.json").is_file()):
        raise AttributeError(f"no op {name!r}; there are {', '.join(shipped_names()) or 'none'}")
    return load_package(generated_dir() / name)


def package_digest_in(folder: Path) -> str | None:
    """The digest of the package in a folder, None where there is none."""
    try:
        return _identity(folder)[1]
    except LincodegenError:
        return None


def cache_dir() -> Path:
    """Where ops are built that were asked for by their spec alone."""
    named = os.environ.get("LINCODEGEN_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "lincodegen"


@cache
def sources_digest() -> str:
    """Eight digits of what writes and runs ops: text that other sources wrote may not fit them."""
    package, digest = Path(__file__).parent, hashlib.sha256()
    for name in ("spec", "derive", "program", "schedule", "emit", "runtime"):
        for path in sorted((package / name).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def _identity(folder: Path) -> tuple[str, str]:
    manifest = folder / "manifest.json"
    try:
        data = json.loads(manifest.read_text(encoding="utf-8"))
        name, digest = str(data["name"]), str(data["digest"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LincodegenError(f"{folder} is no generated package: no manifest.json") from error
    if not (name.isidentifier() and digest.isalnum()):
        raise LincodegenError(f"{manifest} names no op")
    return name, digest
