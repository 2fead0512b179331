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
    x = [torch.randn(1, tokens, 1, *(16 for _ in t.shape)) for t in op.signature.inputs]
    x = [y.to(dtype).requires_grad_() for y in x]
    with backend("triton"), use_op_config(name, config):
        o, state = op(*x, output_final_state=True)
        return o, state, *torch.autograd.grad(o.sum() + state.sum(), x)
