"""Faults that a worker plants into an op, by the chunk size of the candidate."""

import importlib
import os
import signal
import time

import torch

WRONG, NOISY, DEADLY, ENDLESS, RAISING = 8, 16, 32, 128, 256
FAULTS = {
    WRONG: "wrong",
    NOISY: "nondeterministic",
    DEADLY: "died",
    ENDLESS: "timeout",
    RAISING: "raised",
}


class _Slip(torch.autograd.Function):
    """The identity, whose gradient is off by a thousandth in one token."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, dy):
        dy = dy.clone()
        dy[:, -1] *= 1.001
        return dy


def planted(op, config):
    """The op with the fault of a candidate; without one where its chunk has none."""
    if config.chunk_size == RAISING:
        raise RuntimeError("out of resources")

    def call(*args, **kwargs):
        if config.chunk_size == DEADLY:
            os.kill(os.getpid(), signal.SIGSEGV)
        if config.chunk_size == ENDLESS:
            time.sleep(60)
        output, state = op(*args, **kwargs)
        if config.chunk_size == WRONG:
            output = _Slip.apply(output)
        if config.chunk_size == NOISY:
            output = output + 1e-9 * torch.rand(output.shape)
        return output, state

    return call


def forgetful(op, _):
    """The op, whose segments but for each sequence's first start from zeros."""
    from lincodegen.runtime import scans

    def forward(self, h0, passed):
        starts = h0.new_zeros(self.number, *h0.shape[1:])
        starts[self.owned[:-1]] = h0
        return self._replace(passed=passed), starts

    scans.Scans.forward = forward
    return op


def emulated(op, _):
    """The op in an interpreter that loses in tf32 products what a GPU loses."""
    from lincodegen.runtime.backend import backend, chosen_backend
    from lincodegen.testing import install_interpreter_fixes

    with backend("triton"):
        # mends the interpreter once, without the losses
        chosen_backend(torch.device("cpu"), torch.float32, has_kernels=True)
    install_interpreter_fixes(emulate_tf32=True)
    return op


def careless(op, config):
    """The same, with one product in place of the three of ``tf32x3``."""
    from triton.runtime.interpreter import InterpreterBuilder

    op = emulated(op, config)
    right = InterpreterBuilder.create_dot

    def create_dot(builder, a, b, acc, precision, most):
        less = type(precision).TF32 if precision.name == "TF32x3" else precision
        return right(builder, a, b, acc, less, most)

    InterpreterBuilder.create_dot = create_dot
    return op


def mistaken(op, _):
    """The op, whose backward gets something else than the forward made."""
    from lincodegen.runtime import schedules

    right = schedules.keep

    def keep(what, *made):
        return tuple(None if x is None else 1.001 * x for x in right(what, *made))

    module = importlib.import_module(f"{op.__module__}.kernels")
    module.keep = keep
    return op
