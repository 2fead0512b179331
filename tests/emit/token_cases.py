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
