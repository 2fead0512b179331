"""Records how the functions that `lincodegen bench` calls in other libraries are called.

python scripts/record_signatures.py FOLDER...

Each folder holds packages as they are installed, as in ``pip install --target FOLDER --no-deps``;
nothing of them is run. Functions that are in none of them stay as they were.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from lincodegen.bench.peers import PEERS

SIGNATURES = Path(__file__).resolve().parents[1] / "tests" / "bench" / "signatures.json"


def source(module: str, folders: Sequence[Path]) -> Path | None:
    """The file of a module."""
    for folder in folders:
        path = folder.joinpath(*module.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def definition(module: str, name: str, folders: Sequence[Path]) -> ast.FunctionDef | None:
    """The definition of a function, found through the imports of the modules on the way."""
    file = source(module, folders)
    if file is None:
        return None
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    for node in nodes:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return definition(origin, alias.name, folders)
    return None


def parameters(node: ast.FunctionDef) -> dict[str, list[str]]:
    """Names of the parameters in their order, those without a default apart."""
    found = node.args
    positional = [x.arg for x in (*found.posonlyargs, *found.args)]
    keywords = [x.arg for x in found.kwonlyargs]
    required = positional[: len(positional) - len(found.defaults)]
    required += [n for n, x in zip(keywords, found.kw_defaults, strict=True) if x is None]
    optional = [n for n in positional + keywords if n not in required]
    return {"required": required, "optional": optional}


def versions(library: str, folders: Sequence[Path]) -> Iterator[str]:
    """The version of a distribution in the folders."""
    paths = [str(folder) for folder in folders]
    yield from (x.version for x in distributions(name=library, path=paths))


def main(arguments: Sequence[str]) -> None:
    """Writes the file; says which functions are missing."""
    folders = [Path(x) for x in arguments]
    known: dict[str, Any] = json.loads(SIGNATURES.read_text("utf-8")) if SIGNATURES.exists() else {}
    found: dict[str, Any] = {}
    for peer in PEERS:
        module, _, name = peer.path.partition(":")
        node = definition(module, name, folders)
        if node is not None:
            version = next(versions(peer.library, folders), "unknown")
            found[peer.path] = {"library": peer.library, "version": version, **parameters(node)}
        elif peer.path in known:
            found[peer.path] = known[peer.path]
        else:
            print(f"{peer.path}: in none of the folders")
    lines = (f"{json.dumps(path)}: {json.dumps(found[path])}" for path in sorted(found))
    SIGNATURES.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
