"""Faults of the folder of records: nothing acknowledged is lost, and reading never raises."""

import json
import os
import random
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from record_cases import CONFIG, numbers, record

from lincodegen.config import Bucket, OpConfig
from lincodegen.errors import RecordError, TuningWarning
from lincodegen.tune.journal import Writer, decode, encode, read_records
from lincodegen.tune.records import Record

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def filled(folder, count=3):
    with Writer(folder) as writer:
        for number in range(count):
            writer.append(record(number))
    return writer.path


def quiet(folder):
    """What is read without a warning about damage."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_records(folder)


def run_script(*arguments, limit=None):
    """A script of this folder in a process that imports neither torch nor triton."""
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, preexec_fn=limit
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_appended_is_read(tmp_path):
    filled(tmp_path)
    reading = quiet(tmp_path)
    assert reading.records == (record(0), record(1), record(2))
    assert (reading.damaged, reading.torn) == (0, 0)


def test_every_line_is_json(tmp_path):
    lines = filled(tmp_path).read_text().splitlines()
    assert [json.loads(line)["record"]["op"] for line in lines] == ["probe"] * 3


def test_500_kills_lose_nothing_acknowledged(tmp_path):
    script = HERE / "journal_faults.py"
    kills, acknowledged, lost, damaged, torn = map(
        int, run_script(script, tmp_path, 500, 0).split()
    )
    assert kills == 500
    assert acknowledged > 100
    assert (lost, damaged) == (0, 0)
    assert torn > 100


def test_truncation_at_every_byte_costs_the_last_record_alone(tmp_path):
    text = filled(tmp_path / "whole", 2).read_bytes()
    ends = [i + 1 for i, byte in enumerate(text) if byte == ord("\n")]
    path = tmp_path / "cut" / "writer.jsonl"
    path.parent.mkdir()
    for length in range(len(text) + 1):
        path.write_bytes(text[:length])
        reading = quiet(path.parent)
        assert numbers(reading) == list(range(sum(end <= length for end in ends)))
        assert reading.torn == (length not in (0, *ends))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_writer_that_returns_cuts_a_torn_line_off(tmp_path, share):
    path = filled(tmp_path)
    line = encode(record(3))
    with path.open("ab") as file:
        file.write(line[: int(share * (len(line) - 1))])
    with Writer(tmp_path, path.name) as writer:
        writer.append(record(4))
    reading = quiet(tmp_path)
    assert numbers(reading) == [0, 1, 2, 4]
    assert reading.torn == 0


def test_flipped_bits_are_never_accepted(tmp_path):
    """Each change of a bit loses the line that it is in, or two where it made their end."""
    text = filled(tmp_path / "whole").read_bytes()
    path = tmp_path / "bent" / "writer.jsonl"
    path.parent.mkdir()
    draw = random.Random(0)
    originals = [record(n) for n in range(3)]
    for _ in range(1000):
        bent = bytearray(text)
        for _ in range(draw.randint(1, 3)):
            bent[draw.randrange(len(bent))] ^= 1 << draw.randrange(8)
        path.write_bytes(bent)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TuningWarning)
            reading = read_records(path.parent)
        assert all(r in originals for r in reading.records)
        assert reading.damaged + reading.torn > 0 or bytes(bent) == text


def test_damage_is_counted_and_told_once(tmp_path):
    path = filled(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\x00\xff garbage\n" + b"[" * 100000 + b"\n\n" + lines[1])
    with pytest.warns(TuningWarning, match="3 tuning records are damaged") as told:
        reading = read_records(tmp_path)
    assert len(told) == 1
    assert numbers(reading) == [0, 1]
    assert reading.damaged == 3


def test_what_is_no_file_is_left_out(tmp_path):
    filled(tmp_path)
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert numbers(quiet(tmp_path)) == [0, 1, 2]
    assert quiet(tmp_path / "missing").records == ()


FULL_DISK = """
import sys
from pathlib import Path
from record_cases import record
from lincodegen.errors import RecordError
from lincodegen.tune.journal import Writer
writer, written, refused = Writer(Path(sys.argv[1])), [], 0
for number in range(12):
    try:
        writer.append(record(number))
        written.append(number)
    except RecordError:
        refused += 1
print(written, refused)
"""


def test_a_file_that_may_not_grow_keeps_what_it_has(tmp_path):
    """The kernel writes a part of the record that does not fit."""

    def limit():
        size = int(5.5 * len(encode(record())))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    shown = run_script("-c", FULL_DISK, tmp_path, limit=limit)
    reading = quiet(tmp_path)
    assert numbers(reading) == [0, 1, 2, 3, 4]
    assert shown == f"{numbers(reading)} 7\n"
    assert reading.torn == 0


@pytest.mark.parametrize("call", ["write", "fsync", "ftruncate"])
def test_a_full_disk_that_has_room_again(tmp_path, monkeypatch, call):
    """Also where the roll-back fails: the next record must not continue a torn line."""
    writer = Writer(tmp_path)
    writer.append(record(0))
    real = {name: getattr(os, name) for name in ("write", "fsync", "ftruncate")}

    def full(*arguments):
        raise OSError(28, "No space left on device")

    def half(file, data):
        return real["write"](file, data[: len(data) // 2])

    monkeypatch.setattr(os, call, full)
    if call == "ftruncate":
        monkeypatch.setattr(os, "write", half)
    with pytest.raises(RecordError, match="was not written"):
        writer.append(record(1))
    for name, function in real.items():
        monkeypatch.setattr(os, name, function)
    writer.append(record(2))
    writer.close()
    assert numbers(quiet(tmp_path)) == [0, 2]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """Below a file nobody can make a folder, whatever their rights."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"file.*LINCODEGEN_CONFIG_DIR"):
        Writer(tmp_path / "file" / "records")
    assert quiet(tmp_path / "file" / "records").records == ()


def test_a_read_only_folder_can_be_read(tmp_path, monkeypatch):
    filled(tmp_path)

    def refuse(path, flags, mode=0o777):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RecordError, match="Permission denied"):
        Writer(tmp_path)
    monkeypatch.undo()
    assert numbers(quiet(tmp_path)) == [0, 1, 2]


SIXTEEN_WRITERS = """
import os, sys
from pathlib import Path
from record_cases import record
from lincodegen.tune.journal import Writer, read_records
folder, children = Path(sys.argv[1]), []
for writer in range(16):
    child = os.fork()
    if not child:
        with Writer(folder) as file:
            for number in range(40):
                file.append(record(100 * writer + number))
                if number % 20 == 10:
                    read_records(folder)
        os._exit(0)
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
"""


def test_16_writers_at_once_lose_nothing(tmp_path):
    run_script("-c", SIXTEEN_WRITERS, tmp_path)
    assert numbers(quiet(tmp_path)) == [100 * w + n for w in range(16) for n in range(40)]
    assert len(list(tmp_path.iterdir())) == 16


def test_a_file_has_one_writer(tmp_path):
    writer = Writer(tmp_path)
    with pytest.raises(RecordError, match="another process writes to it"):
        Writer(tmp_path, writer.name)
    writer.close()
    Writer(tmp_path, writer.name).close()


def test_a_forked_child_may_not_write_for_its_parent(tmp_path, monkeypatch):
    writer = Writer(tmp_path)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(RecordError, match="belongs to the process"):
        writer.append(record())
    monkeypatch.undo()
    writer.close()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"op": 3},
        {"bucket": "bf16 K=128 heads=3 tokens=4"},
        {"bucket": "bf16 K"},
        {"config": {"chunk_size": 48, "kernels": {}, "schedule": None}},
        {"config": {"chunk_size": True, "kernels": {}, "schedule": None}},
        {"config": {"chunk_size": 64, "kernels": {"a": {"tile_k": 64}}, "schedule": None}},
        {"config": {"chunk_size": 64, "kernels": {}, "schedule": "none"}},
        {"gate": {"verdict": "fine", "detail": "", "cases": 1, "check": ""}},
        {"gate": None},
        {"times": {"p20": "1", "median": 1.0, "p80": 1.0, "runs": 5}},
        {"times": {"p20": float("nan"), "median": 1.0, "p80": 1.0, "runs": 5}},
        {"resources": {"shared_bytes": 1.5, "registers": 1, "stack_bytes": 0}},
    ],
)
def test_what_is_no_record_is_refused(change):
    with pytest.raises(ValueError, match=r".+"):
        Record.from_json(record().to_json() | change)
    assert Record.from_json(record().to_json()) == record()


def test_texts_and_values_agree():
    assert decode(encode(record())[:-1]) == record()
    assert OpConfig.from_json(CONFIG.to_json()) == CONFIG
    assert "descriptors" not in str(CONFIG.to_json())
    bucket = Bucket.of("fp32", {"V": 40, "K": 24}, 6, 1000)
    assert str(bucket) == "fp32 K=24 V=40 heads=8 tokens=1024"
    assert Bucket.from_text(str(bucket)) == bucket


def test_descriptors_are_kept_where_they_are_asked_for():
    row = {"tile_k": 64, "tile_v": 64, "num_warps": 4, "num_stages": 2}
    kernels = {"scan_bwd": row, "scan_fwd": row | {"descriptors": True}}
    found = OpConfig.from_json({"chunk_size": 64, "kernels": kernels})
    assert [c.descriptors for _, c in found.kernels] == [False, True]
    assert found.to_json()["kernels"] == kernels
    wrong = {"chunk_size": 64, "kernels": {"scan_fwd": row | {"descriptors": 1}}}
    with pytest.raises(ValueError, match="descriptors = 1; expected: true or false"):
        OpConfig.from_json(wrong)


def test_records_need_neither_torch_nor_triton():
    text = "import sys, lincodegen.tune.journal; print({'torch', 'triton'} & set(sys.modules))"
    assert run_script("-c", text) == "set()\n"
