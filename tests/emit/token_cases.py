"""Specs of one expression, and the printed functions of their token programs."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from lincodegen.emit.token_torch import print_torch_function, size_arguments, torch_imports
from lincodegen.program.token import Kind, token_adjoint, token_program
from lincodegen.spec.loader import load

SIZES = {"K": 5, "V": 3, "R": 2}
SHAPES = {
    "a": "[K]", "b": "[K]", "p": "[K]", "c": "[V]", "s": "[]", "r": "[]", "z": "[]",
    "M": "[K, V]", "N": "[K, V]", "W": "[K, K]", "X": "[2, K]", "y": "[2 * R]", "f": "[1]",
    "d": "[4]", "E": "[3, 4]",
}  # fmt: skip
PARAMETERS = {"u": "[K]", "h": "[]", "D": "[K, V]"}
CONSTANTS = {"scale": "0.4", "rate": "0.7"}
POSITIVE = {"p", "z"}


UNARY = (
    *("exp", "log1p", "sigmoid", "softplus", "silu", "gelu", "tanh", "relu", "elu", "abs", "sign"),
    *("sqrt", "rsqrt", "log", "cumsum", "softmax", "l2norm", "rmsnorm", "layernorm", "sum"),
    *("mean", "ravel"),
)
EXPRESSIONS = [
    *(f"{name}(p)" for name in UNARY),
    *(f"{name}(0.3 - p)" for name in ("sigmoid", "softplus", "silu", "gelu", "relu", "elu", "abs")),
    *(f"{name}(M)" for name in ("exp", "softmax", "l2norm", "rmsnorm", "layernorm", "sum", "mean")),
    "M + a[:, None]", "M * c", "c / exp(M)", "s - M", "M - s", "h * a", "u * a", "D * M", "D @ c",
    "scale * a", "a / scale", "rate ** 2 * a + exp(rate)", "maximum(rate, scale) * a",
    "where(rate > scale, rate, 0.1) * s", "-a", "a - (b - a)", "a / (b * b + 1)", "-(a + b) * -s",
    "p**3", "p**2", "p**0.5", "p**-1.5", "s**2", "2**a", "0.7**a", "p**1", "1 / p", "2 ** -s * a",
    "maximum(a, b)", "minimum(a, b)", "maximum(a, 0.1)", "minimum(0.1, a)", "maximum(a, a)",
    "where(a > b, a * b, a / p)", "where(s <= 0, a, b)", "where(a == a, 1.5, 0.1)",
    "where(c > 0, M, 0)", "where(rate > 0.5, a, b)", "where(s != 0, s, a)",
    "W @ a", "a @ W", "W.T @ a", "M.T @ a", "M @ c", "a @ b", "M.T @ N", "M @ N.T", "W @ W.T @ W",
    "outer(a, c)", "s * outer(a, c)", "outer(-a, c).T", "dot(a, b)", "diag(a) @ M", "M @ diag(c)",
    "diag(a) @ b", "a @ diag(b)", "diag(a) + W", "diag(a * b)", "M.T", "M.T.T",
    "X[0]", "X[1] * X[0]", "X[-1]", "a[0]", "d[-1] * b", "E[1]", "E[0] * E[2] * d", "E[0][1] * a",
    "y[0:R] * y[R:2 * R]", "y[0:R]", "d[1:3]", "E[1:3]", "X[0:1] * a", "E[0:2][1]",
    "a[None, :] * c[:, None]", "sum(a[:, None] * M, axis=0)", "sum(M, axis=1)", "mean(M, axis=0)",
    "cumsum(M)", "ravel(M)", "ravel(outer(a, a))",
    "concat(a, b)", "concat(M, N)", "concat(ones(1), a, ravel(outer(a, b)))", "concat(u, a)",
    "concat(f, a, u * 2)", "concat(ones(2), zeros(1)) * s", "a * ones(K) + zeros(K)", "eye(K) @ M",
    "(eye(K) - outer(a, a)) @ b", "sum(eye(K) * W)", "sum(ones(V, K) @ M)", "dot(a, b) * eye(K)",
    "log(sigmoid(a))", "log(sigmoid(M)) * s", "exp(-exp(a) * s)", "sum(a) * b", "f * a", "f + f",
    "a * sum(M * N)", "sum(M @ c * a) * l2norm(a)", "a * K + sum(c) / V", "mean(a) * K / V * c",
]  # fmt: skip


def spec_of(statements: str) -> str:
    """A spec whose output is ``o``; declares the names that occur."""
    words = set(re.findall(r"[A-Za-z_]\w*", statements))

    def block(title, table):
        lines = [f"  {n}: {{shape: {s}}}" for n, s in table.items() if n in words]
        return [f"{title}:", *lines] if lines else []

    constants = [f"  {n}: {v}" for n, v in CONSTANTS.items() if n in words]
    step = [f"  {line}" for line in statements.splitlines()]
    return "\n".join(
        [
            "name: probe",
            *block("inputs", SHAPES),
            *block("parameters", PARAMETERS),
            *(["constants:", *constants] if constants else []),
            "state: {S: {shape: []}}",
            "step: |",
            *step,
            "  S = 0.5 * S + sum(o)",
            "",
        ]
    )


def programs(text, names=("o",)):
    """The recurrence, its program for some outputs, and the adjoint for every tensor."""
    recurrence = load(text)
    found = dict(recurrence.outputs)
    forward = token_program(recurrence, [(name, found[name]) for name in names])
    wrt = [a.name for a in forward.inputs if a.kind is not Kind.CONSTANT]
    return recurrence, forward, token_adjoint(forward, wrt)


def module_text(forward, adjoint):
    """A module of ``forward`` and ``adjoint`` functions."""
    body = [
        print_torch_function("forward", forward, "The outputs."),
        print_torch_function("adjoint", adjoint, "The gradients."),
    ]
    text = "\n\n".join(body)
    return f'"""Printed functions."""\n\n{torch_imports(text)}\n\n{text}'


def imported(text, folder: Path, name: str):
    """The module of a text, through a file."""
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tensors_for(recurrence, seed, lead=(2, 3, 2)):
    """Random float64 inputs ``[B, T, H, *shape]`` and parameters ``[H, *shape]``."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for tensor in (*recurrence.inputs, *recurrence.parameters):
        axes = lead if tensor in recurrence.inputs else lead[-1:]
        shape = [d.evaluate(SIZES) for d in tensor.shape]
        value = torch.randn(*axes, *shape, generator=generator, dtype=torch.float64)
        found[tensor.name] = value.abs() + 0.2 if tensor.name in POSITIVE else value
    return found


def call(function, program, values):
    """A printed function on values by name; always a tuple."""
    arguments = [values[a.name] for a in program.inputs]
    arguments += [SIZES[name] for name in size_arguments(program)]
    result = function(*arguments)
    return result if isinstance(result, tuple) else (result,)


def lint_problems(text, folder: Path):
    """What the project's ruff says of a text, as a formatter and as a linter."""
    path = folder / "printed.py"
    path.write_text(text)
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or "ruff"
    config = ["--config", str(Path(__file__).parents[2] / "pyproject.toml")]
    chosen = ["--ignore", "ANN,C90,PLR0912,PLR0913,PLR0915"]
    runs = [
        [ruff, "format", "--diff", "--no-cache", *config, str(path)],
        [ruff, "check", "--no-cache", *config, *chosen, str(path)],
    ]
    done = [subprocess.run(run, capture_output=True, text=True, check=False) for run in runs]
    return "".join(d.stdout + d.stderr for d in done if d.returncode)
