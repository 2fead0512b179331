"""What the launches of an op's kernels are given, on their way to the interpreter."""

import importlib

import torch

import lincodegen.ops
from lincodegen.runtime.backend import backend
from lincodegen.runtime.tuned import use_op_config


class _Watched:
    """A kernel that notes its constants before it runs."""

    def __init__(self, name, kernel, seen):
        self._name, self._kernel, self._seen = name, kernel, seen

    def __getitem__(self, grid):
        def launch(*arguments, **constants):
            self._seen.append((self._name, constants))
            return self._kernel[grid](*arguments, **constants)

        return launch


def watch(monkeypatch, name):
    """(kernel, its keyword arguments) of every launch from now on, in order."""
    module = importlib.import_module(f"{getattr(lincodegen.ops, name).__module__}.kernels")
    seen = []
    for label, kernel in list(vars(module).items()):
        if label.endswith("_kernel"):
            short = label.removeprefix(f"{name}_").removesuffix("_kernel")
            monkeypatch.setattr(module, label, _Watched(short, kernel, seen))
    return seen


def called(name, config, tokens=20, dtype=torch.float32):
    """Forward and backward of the kernels of an op under a configuration: all that they give."""
    op = getattr(lincodegen.ops, name)
    torch.manual_seed(0)
    shapes = [
        [int(n) if n.isdigit() else 16 for n in map(str, t.shape)] for t in op.signature.inputs
    ]
    x = [torch.randn(1, tokens, 1, *shape).to(dtype).requires_grad_() for shape in shapes]
    with backend("triton"), use_op_config(name, config):
        o, final = op(*x, output_final_state=True)
        results = o, *(final if isinstance(final, tuple) else (final,))
        return *results, *torch.autograd.grad(sum(y.sum() for y in results), x)
