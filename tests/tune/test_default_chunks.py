"""Which chunk the defaults of a target have: the longest one, unless its kernels spill."""

from dataclasses import replace

import pytest

from lincodegen.compile import Resources
from lincodegen.config import Config
from lincodegen.errors import TuningError
from lincodegen.pipeline import compile_spec
from lincodegen.resources import specs_dir
from lincodegen.targets import load_target
from lincodegen.tune import defaults
from lincodegen.tune.defaults import SPILLING, Case, Effort, choose_defaults
from lincodegen.tune.kernels import op_kernels
from lincodegen.tune.preference import Candidate

NAME = "retention"
USUAL = Resources(128, 0, 40_000, 0, 8, 0, 0, 0, 0, 0, 4, 0.1, None)


@pytest.fixture(scope="module")
def op():
    made = compile_spec(specs_dir() / f"{NAME}.yaml")
    return op_kernels(NAME, made.programs)


@pytest.fixture
def chosen(op, monkeypatch, tmp_path):
    """The chunk that is chosen, and those tried, given stacks and times by the chunk."""

    def choose(stacks, seconds):
        tried = []

        def kernels(_op, _path, _case, _effort, start):
            size, _ = start
            tried.append(size)
            if stacks.get(size) is None:
                return None
            found = replace(USUAL, stack_bytes=stacks[size])
            return {"scan_fwd": Candidate(Config(size, 64, 64, 4, 2), found)}

        monkeypatch.setattr(defaults, "choose_kernels", kernels)
        case = Case(
            load_target("sm_80"),
            {"k": 128, "v": 128},
            "bf16",
            lambda _op, _label, candidate: seconds[candidate.config.chunk_size],
        )
        return choose_defaults(op, tmp_path / "k.py", case, Effort()).chunk_size, tried

    return choose


def test_the_longest_chunk_is_kept_where_little_is_spilled(chosen):
    assert chosen({64: SPILLING}, {64: 1.0}) == (64, [64])


def test_a_shorter_chunk_is_kept_where_it_is_predicted_to_be_faster(chosen):
    assert chosen({64: 5552, 32: 0}, {64: 2.0, 32: 1.0}) == (32, [64, 32])
    assert chosen({64: 5552, 32: 600, 16: 0}, {64: 2.0, 32: 1.0, 16: 0.5}) == (16, [64, 32, 16])


def test_a_shorter_chunk_that_is_not_faster_ends_the_search(chosen):
    assert chosen({64: 5552, 32: 600, 16: 0}, {64: 1.0, 32: 1.5, 16: 0.5}) == (64, [64, 32])


def test_what_fits_is_taken_however_slow(chosen):
    assert chosen({32: 100}, {32: 9.0}) == (32, [64, 32])
    with pytest.raises(TuningError, match="no chunk size fits into the shared memory of sm_80"):
        chosen({}, {})
