"""Ops that hang, die or raise when they are judged, by the dtype of their operands."""

import os
import signal
import time

import torch

VERDICTS = {
    "float32": "timeout",
    "bfloat16": "died",
    "float16": "raised",
    "float64": "passed",
}


def planted(op, config):
    def call(*args, **kwargs):
        dtype = args[0].dtype
        if dtype == torch.float32:
            time.sleep(600)
        if dtype == torch.bfloat16:
            os.kill(os.getpid(), signal.SIGSEGV)
        if dtype == torch.float16:
            raise RuntimeError("out of resources: shared memory")
        return op(*args, **kwargs)

    return call
