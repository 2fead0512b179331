"""Records to write and read; imports neither torch nor triton."""

from lincodegen.config import Bucket, Config, OpConfig
from lincodegen.tune.records import Gate, Provenance, Record, Resources, Times

CONFIG = OpConfig(
    64, (("scan_bwd", Config(64, 64, 32, 4, 2)), ("scan_fwd", Config(64, 64, 64, 8, 1)))
)
BUCKET = Bucket("bf16", (("K", 128), ("V", 128)), 64, 4096)


def provenance(**changes):
    fields = {
        "device": "Device 1",
        "target": "sm_90",
        "driver": "580.1",
        "torch": "2.13.0",
        "triton": "3.6.0",
        "spec": "0d660c20",
        "code": "c0ffee00c0ffee00",
        "seed": 0,
        "time": 1.0,
        "host": "host",
    }
    return Provenance(**(fields | changes))


def record(number=0, *, op="probe", config=CONFIG, bucket=BUCKET, median=1e-3, **changes):
    """A record that passed, told apart by its time."""
    gate = changes.pop("gate", Gate("passed", "worst 0.4 of its bound", 24, "ab12"))
    runs = changes.pop("runs", 5)
    times = None if median is None else Times(0.9 * median, median, 1.1 * median, runs)
    resources = changes.pop("resources", Resources(65536, 168, 0))
    where = provenance(**({"time": float(number)} | changes))
    return Record(op, bucket, config, gate, times, resources, where)


def numbers(reading):
    return [int(r.provenance.time) for r in reading.records]
