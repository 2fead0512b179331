"""A device that is made up: known verdicts and times, nothing is run. Fast, and the same always."""

import json
import time
from dataclasses import replace

from lincodegen.errors import TuningError
from lincodegen.gpu_check.options import Call, Options
from lincodegen.resources import generated_dir
from lincodegen.runtime.tables import Header
from lincodegen.runtime.tuned import code_digest
from lincodegen.targets import load_target
from lincodegen.tune.gate import Subject
from lincodegen.tune.records import Gate, Provenance

OPS = ("gated_delta_rule", "gla", "mamba2")
CALLS = (Call(64, 4096, 128, "bfloat16"),)


def options(out, **changes):
    usual = Options(
        out, 60.0, OPS, workers=2, dtypes=("bfloat16", "float32"), calls=CALLS, tuned=2, trials=12
    )
    return replace(usual, **changes)


def said(out):
    return json.loads((out / "summary.json").read_text()), (out / "summary.md").read_text()


PASSED = Gate("passed", "at worst 0.50 of its bound", 5, "ab12")


class Bench:
    """A worker of the site; four warps and tiles of 64 values are its best."""

    timeout_s = prepare_s = 60.0

    def __init__(self, site, subject):
        self.site, self.subject = site, subject

    def turn_to(self, subject):
        self.subject = subject

    def judge(self, config, trials):
        op, dtype = self.subject.folder.name, self.subject.dtype
        self.site.judged.append((op, dtype, config))
        self.site.schedules.append(trials.schedule)
        if self.site.hanging == op:
            time.sleep(600)
        if self.site.rejects is not None and config is not None:
            return self.site.rejects(config) or PASSED
        verdict = self.site.verdicts.get((op, dtype), "passed")
        return PASSED if verdict == "passed" else Gate(verdict, "as planted", 1, "")

    def trace(self, config, trials):
        return "Traceback: as planted"

    def times(self, config, work, repeats):
        self.site.timed.append((self.subject.folder.name, config, work, repeats))
        if self.subject.folder.name in self.site.untimed:
            raise TuningError("an illegal memory access")
        slow = sum(
            0.1 * (c.num_warps != 4) + 0.2 * (c.tile_v != 64)
            for _, c in (() if config is None else config.kernels)
        )
        return [1e-3 * (1 + slow)] * repeats

    def close(self):
        self.site.closed += 1


class Site:
    """Verdicts by op and dtype, ``rejects`` those of candidates of tuning."""

    form = "triton"

    def __init__(self, verdicts=(), hanging="", untimed=(), rejects=None, peers=""):
        self.verdicts, self.hanging, self.untimed = dict(verdicts), hanging, untimed
        self.rejects, self.said = rejects, peers
        self.judged, self.schedules, self.timed = [], [], []
        self.opened = self.closed = 0

    def header(self):
        return Header("Device 1", "sm_90", 132)

    def target(self):
        return load_target("sm_90")

    def facts(self):
        return {"torch": "2.13.0", "triton": "3.6.0", "form": self.form}

    def doubts(self):
        return ("C compiler: none; install gcc",)

    def subject(self, op, dtype, size):
        return Subject(generated_dir() / op, "triton", "cuda", dtype, {"K": size, "V": size})

    def bench(self, subject):
        self.opened += 1
        return Bench(self, subject)

    def provenance(self, op, seed):
        code = code_digest(generated_dir() / op)
        versions = ("580.1", "2.13.0", "3.6.0", "0d66", code, seed)
        return Provenance("Device 1", "sm_90", *versions, time.time(), "host")

    def peers(self, out, ops, budget_s):
        if isinstance(self.said, Exception):
            raise self.said
        return self.said
