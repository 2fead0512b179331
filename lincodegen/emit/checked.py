"""What emitted Python text may hold: a whitelist over its syntax tree."""

from __future__ import annotations

import ast

from lincodegen.errors import EmitError

_IMPORTS = ("math", "torch", "triton", "lincodegen.runtime", "__future__")
_FORBIDDEN = frozenset(
    (
        *("eval", "exec", "open", "compile", "getattr", "setattr", "delattr", "globals", "locals"),
        *("vars", "input", "breakpoint", "__import__", "__builtins__"),
    )
)


def check_python(name: str, text: str) -> None:
    """Checks a file's text.

    Raises:
        EmitError: it does not parse, imports what it may not, or holds a forbidden name.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise EmitError(f"{name}:{error.lineno}: emitted text is no Python: {error.msg}") from error
    for node in ast.walk(tree):
        problem = _problem(node)
        if problem:
            raise EmitError(f"{name}:{getattr(node, 'lineno', 0)}: emitted text holds {problem}")


def _problem(node: ast.AST) -> str:
    match node:
        case ast.Import(names=names):
            found = [alias.name for alias in names if not _allowed(alias.name)]
            return f"the import of {found[0]}" if found else ""
        case ast.ImportFrom(module=module, level=level):
            fine = (level == 1 and module is None) or (level == 0 and _allowed(module or ""))
            return "" if fine else f"an import from {module or 'a parent package'}"
        case ast.Name(id=name) if name in _FORBIDDEN or _dunder(name):
            return f"the name {name}"
        case ast.Attribute(value=ast.Name(id="tl"), attr="load"):
            return ""
        case ast.Attribute(attr=name) if _dunder(name) or name in {"load", "save", "hub"}:
            return f"the attribute {name}"
        case ast.Global() | ast.Nonlocal() | ast.Await() | ast.AsyncFunctionDef():
            return f"a statement {type(node).__name__}"
        case _:
            return ""


def _allowed(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in _IMPORTS)


def _dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__") and name != "__name__"
