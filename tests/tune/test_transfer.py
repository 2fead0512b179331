"""Where a search begins: at the best of other calls and devices, the nearest first."""

import pytest
from record_cases import BUCKET, provenance, record

from lincodegen.config import Config, OpConfig
from lincodegen.schedule.space import Parameter
from lincodegen.tune.records import Gate, Resources
from lincodegen.tune.search import Space
from lincodegen.tune.shortlist import Option, Shortlist
from lincodegen.tune.transfer import TRANSFERRED, warm_starts
from lincodegen.tune.tuner import Task

SIZES = (8, 16, 32, 64, 128, 256, 512)
WRONG = Gate("wrong", "as planted", 1, "ab")


def nearest(config):
    return (config.chunk_size,) if config.chunk_size in SIZES else None


TASK = Task(
    "probe",
    BUCKET,
    Space.of([Parameter("chunk_size", SIZES)], lambda _: True),
    lambda point: OpConfig(point[0]),
    lambda _: Resources(0, 0, 0),
    provenance,
    nearest,
)


def bucket(doublings):
    return BUCKET._replace(tokens=int(BUCKET.tokens * 2.0**doublings))


def found(*records):
    return [size for (size,) in warm_starts(TASK, records)]


def of(size, number=0, **about):
    return record(number, config=OpConfig(size), **about)


def test_the_nearest_bucket_comes_first():
    assert found(of(16, bucket=bucket(3)), of(64, bucket=bucket(-1))) == [64, 16]


def test_another_device_s_own_bucket_comes_before_other_buckets():
    records = of(16, bucket=bucket(1)), of(64, device="Device 2"), of(32, bucket=bucket(2))
    assert found(*records) == [64, 16, 32]


def test_at_equal_distance_this_device_comes_first():
    there = {"bucket": bucket(1)}
    assert found(of(16, **there, device="Device 2"), of(64, **there)) == [64, 16]


def test_other_sizes_come_last():
    other = BUCKET._replace(sizes=(("K", 64), ("V", 64)))
    assert found(of(16, bucket=other), of(64, bucket=bucket(5))) == [64, 16]


def test_the_best_of_each_comes_before_the_second_best_of_any():
    near = [of(s, bucket=bucket(1), median=s * 1e-6) for s in (8, 16, 32)]
    far = [of(s, bucket=bucket(2), median=1 / s) for s in (512, 256, 128)]
    assert found(*near, *far) == [8, 512, 16, 256, 32][:TRANSFERRED]


@pytest.mark.parametrize(
    "about",
    [
        {"op": "other", "device": "Device 2"},
        {"gate": WRONG, "bucket": bucket(1)},
        {"median": None, "bucket": bucket(1)},
        {},
    ],
)
def test_what_is_not_taken_over(about):
    """Another op, what may not be used, what was not timed, and the task's own records."""
    assert found(of(64, **about)) == []


def test_an_interrupted_task_begins_again_where_it_began():
    """What other tasks put on record after its first trial changes nothing."""
    before = of(16, number=1, bucket=bucket(1))
    own, after = of(64, number=2), of(32, number=3, bucket=bucket(-1))
    assert found(before) == found(before, own, after) == [16]


@pytest.mark.parametrize("earlier", [{"code": "another text"}, {"triton": "3.5.0"}])
def test_what_is_known_of_an_earlier_text_comes_first(earlier):
    assert found(of(16, 2, bucket=bucket(1)), of(64, 1, **earlier)) == [64, 16]


def options(*tiles):
    return tuple(Option(Config(64, k, v, warps, 2), Resources(0, 0, 0)) for k, v, warps in tiles)


def test_kernels_of_another_device_take_the_options_next_to_theirs():
    here = Shortlist(
        "probe",
        {64: {"scan_fwd": options((64, 64, 4), (128, 64, 8)), "scan_bwd": options((64, 32, 4))}},
    )
    there = OpConfig(
        64,
        (("scan_bwd", Config(64, 128, 64, 8, 1)), ("scan_fwd", Config(64, 128, 128, 8, 3))),
        "scan",
    )
    point = here.nearest(there)
    assert dict(here.config(point).kernels)["scan_fwd"] == Config(64, 128, 64, 8, 2)
    assert here.config(point).schedule == "scan"
    assert point in here.space().points
    assert here.nearest(there._replace(chunk_size=32)) is None
    assert here.nearest(there._replace(schedule=None)) is None
    assert here.nearest(there._replace(kernels=there.kernels[:1])) is None
