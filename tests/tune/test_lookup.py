"""Tuned configurations as calls find them: order of tables, what is a miss, what a kernel sees."""

import importlib
import json
import subprocess
import sys
import threading
import warnings

import pytest
import torch
from record_cases import BUCKET, CONFIG

import lincodegen.ops
from lincodegen.config import Bucket, Config, OpConfig
from lincodegen.errors import TuningWarning
from lincodegen.loading import load_shipped
from lincodegen.resources import generated_dir
from lincodegen.runtime import tuned
from lincodegen.runtime.backend import backend
from lincodegen.runtime.function import planning
from lincodegen.runtime.launch import tiles
from lincodegen.runtime.pins import use_config
from lincodegen.runtime.schedules import splits, use_schedule
from lincodegen.runtime.tables import Entry, Header, table_text
from lincodegen.runtime.tuned import Chosen, choices, code_digest, running, use_op_config

NAME = "retention"
DEVICE = torch.device("cuda", 0)
CPU = Header("cpu", "cpu", 0)
H200 = Header("NVIDIA H200", "sm_90", 132)
CODE = code_digest(generated_dir() / NAME)
CPU_BUCKET = Bucket.of("fp32", {"K": 16, "V": 16}, 2, 256)
OTHER = OpConfig(32)


def entry(config=CONFIG, bucket=BUCKET, **changes):
    fields = {"op": NAME, "code": CODE, "gate": "passed", "facts": {"median": 1e-3}}
    return Entry(**(fields | changes), bucket=bucket, config=config)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A user's folder and a packaged one, and an H200 that needs not be there."""
    folders = tmp_path / "user", tmp_path / "packaged"
    for folder in folders:
        folder.mkdir()
    monkeypatch.setenv("LINCODEGEN_CONFIG_DIR", str(folders[0]))
    monkeypatch.setattr(tuned, "tuned_dir", lambda: folders[1])
    own = tuned.device_header
    monkeypatch.setattr(tuned, "device_header", lambda d: H200 if d.type == "cuda" else own(d))
    load_shipped(NAME)
    # tests of other files load copies of the op
    monkeypatch.setattr("lincodegen.runtime.tuned._folders", {NAME: {generated_dir() / NAME}})
    tuned.forget()
    yield folders
    tuned.forget()


def write(folder, *entries, header=H200):
    path = folder / tuned.table_name(header.device)
    path.write_text(table_text(header, entries))
    tuned.forget()
    return path


def looked_up(bucket=BUCKET, device=DEVICE, form="triton"):
    found = choices(NAME, form, device)
    chosen = None if found is None else found(bucket)
    return None if chosen is None else chosen.config


def chunk_of(form, tokens=256):
    """Tokens a chunk of a call on the CPU, as it is planned."""
    op = getattr(lincodegen.ops, NAME)
    x = [torch.zeros(1, tokens, 2, *(16 for _ in t.shape)) for t in op.signature.inputs]
    with backend(form), planning():
        return op(*x).call.chunk_size


def test_the_user_s_table_comes_before_the_packaged_one(places):
    user, packaged = places
    write(packaged, entry(OTHER))
    assert looked_up() == OTHER
    write(user, entry())
    assert looked_up() == CONFIG


def test_a_device_of_the_same_architecture_stands_in(places):
    _, packaged = places
    write(packaged, entry(OpConfig(16)), header=Header("Far", "sm_90", 60))
    write(packaged, entry(OTHER), header=Header("Near", "sm_90", 114))
    write(packaged, entry(CONFIG), header=Header("Same size", "sm_100", 132))
    assert looked_up() == OTHER


def test_without_any_table_there_is_nothing_to_look_up(places):
    assert choices(NAME, "triton", DEVICE) is None


@pytest.mark.parametrize(
    ("bucket", "expected"),
    [
        (BUCKET._replace(tokens=1 << 20), CONFIG),
        (BUCKET._replace(heads=16), CONFIG),
        (BUCKET._replace(heads=1, tokens=512), OTHER),
        (BUCKET._replace(dtype="fp16"), None),
        (BUCKET._replace(sizes=(("K", 64), ("V", 128))), None),
    ],
)
def test_the_nearest_bucket_of_like_sizes_counts(places, bucket, expected):
    write(places[0], entry(), entry(OTHER, BUCKET._replace(heads=1, tokens=256)))
    assert looked_up(bucket) == expected


def test_no_exact_length_is_a_key():
    buckets = {Bucket.of("bf16", {"K": 128}, 64, tokens) for tokens in range(1, 100_001)}
    assert len(buckets) == 18


@pytest.mark.parametrize("gate", ["wrong", "nondeterministic", "raised", "died", "timeout", ""])
def test_nothing_is_used_whose_gate_did_not_pass(places, gate):
    write(places[0], entry(gate=gate))
    with pytest.warns(TuningWarning, match="1 entries without a passed gate") as told:
        found = [looked_up(), looked_up(), looked_up(BUCKET._replace(heads=2))]
    assert found == [None] * 3
    assert len(told) == 1


def test_an_entry_of_another_text_is_a_miss_with_one_warning(places):
    user, packaged = places
    write(user, entry(code="0123456789abcdef"))
    write(packaged, entry(OTHER))
    with pytest.warns(TuningWarning, match="of another version") as told:
        found = [looked_up(), looked_up(BUCKET._replace(heads=2))]
    assert found == [OTHER] * 2
    assert len(told) == 1


def test_two_versions_of_an_op_at_once_use_no_table(places, tmp_path, monkeypatch):
    write(places[0], entry())
    folders = {NAME: {generated_dir() / NAME, tmp_path}}
    monkeypatch.setattr(tuned, "_folders", folders)
    with pytest.warns(TuningWarning, match="of another version"):
        assert looked_up() is None


def edited(**changes):
    def edit(text):
        row = json.loads(text)["entries"][0]
        return text.replace(json.dumps(row, sort_keys=True), json.dumps(row | changes))

    return edit


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "",
        lambda _: "[" * 100_000,
        lambda _: '{"format": 2}',
        lambda _: "[]",
        lambda text: text.replace('"target"', '"targes"'),
        lambda text: text.replace('"num_warps": 8', '"num_warps": 4'),
        edited(gate="passed "),
        edited(config={}),
        edited(crc=None),
        lambda text: text.replace('"entries": [', '"entries": [7, '),
    ],
)
def test_a_damaged_table_is_a_miss_with_one_warning(places, damage):
    user, packaged = places
    path = write(user, entry())
    path.write_text(damage(path.read_text()))
    write(packaged, entry(OTHER))
    with pytest.warns(TuningWarning, match=r"nvidia_h200\.json") as told:
        found = looked_up()
    assert len(told) == 1
    assert found == (CONFIG if "[7, " in path.read_text() else OTHER)


def test_a_table_cut_anywhere_never_raises(places):
    path = write(places[0], entry(), entry(OTHER, BUCKET._replace(heads=1)))
    text = path.read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TuningWarning)
        for length in range(0, len(text) - 4, 3):
            path.write_text(text[:length])
            tuned.forget()
            assert looked_up() is None


def test_what_cannot_be_read_is_a_miss_with_a_warning(places, monkeypatch):
    path = write(places[0], entry())

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", refuse)
    with pytest.warns(TuningWarning, match="Permission denied"):
        assert looked_up() is None


def test_a_home_that_is_not_there_is_no_error(places, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(tuned, "config_dir", homeless)
    write(places[1], entry())
    assert looked_up() == CONFIG


def test_the_pytorch_form_takes_its_chunk_from_the_table(places):
    assert chunk_of("torch") == 64
    write(places[0], entry(OTHER, CPU_BUCKET), header=CPU)
    assert chunk_of("torch") == 32
    assert chunk_of("torch", tokens=20) == 32
    assert chunk_of("torch", tokens=9) == 16


def test_a_configuration_has_the_same_bits_wherever_it_comes_from(places):
    """From a table or named by the caller: outputs and gradients; another one's differ."""
    op = getattr(lincodegen.ops, NAME)
    torch.manual_seed(0)
    x = [torch.randn(1, 256, 2, *(16 for _ in t.shape)) for t in op.signature.inputs]

    def results():
        leaves = [y.clone().requires_grad_() for y in x]
        with backend("torch"):
            o = op(*leaves)[0]
        return torch.cat([y.flatten() for y in (o, *torch.autograd.grad(o.square().sum(), leaves))])

    untuned = results()
    with use_op_config(NAME, OTHER):
        named = results()
    write(places[0], entry(OTHER, CPU_BUCKET), header=CPU)
    assert torch.equal(results(), named)
    assert not torch.equal(named, untuned)


def test_the_interpreter_takes_no_table(places):
    write(places[0], entry(OTHER, CPU_BUCKET), header=CPU)
    assert chunk_of("triton") == 64


def test_layouts_that_are_kept_do_not_outlive_a_table(places):
    assert chunk_of("torch") == 64
    with use_op_config(NAME, OpConfig(8)):
        assert chunk_of("torch") == 8
    assert chunk_of("torch") == 64
    path = write(places[0], entry(OTHER, CPU_BUCKET), header=CPU)
    assert chunk_of("torch") == 32
    path.unlink()
    tuned.forget()
    assert chunk_of("torch") == 64


def test_a_tracer_s_symbolic_sizes_are_no_bucket(places):
    write(places[0], entry(OTHER, CPU_BUCKET), header=CPU)
    op = getattr(lincodegen.ops, NAME)
    traced = torch.compile(op, backend="eager", dynamic=True, fullgraph=True)
    with backend("torch"):
        for tokens in (70, 90):
            x = [torch.randn(1, tokens, 2, *(16 for _ in t.shape)) for t in op.signature.inputs]
            torch.testing.assert_close(traced(*x)[0], op(*x)[0])


def test_a_pin_goes_before_the_table(places):
    pytest.importorskip("triton", reason="kernels are asked for their chunk")
    with use_op_config(NAME, OTHER):
        assert chunk_of("triton") == 32
        with use_config(NAME, chunk_size=16):
            assert chunk_of("triton") == 16


def test_launchers_see_the_configuration_of_their_call():
    x = torch.zeros(1, dtype=torch.bfloat16)
    with running(Chosen(CONFIG)):
        found = tiles(NAME, "scan_fwd", "v", x, K=128, V=128)
        small = tiles(NAME, "scan_fwd", "v", x, K=128, V=32)
        unknown = tiles(NAME, "other", "v", x, K=128, V=128)
        with use_config(NAME, tile_v=16):
            pinned = tiles(NAME, "scan_fwd", "v", x, K=128, V=128)
    assert found == {"BK": 128, "BV": 64, "num_warps": 8, "num_stages": 1}
    assert small["BV"] == 32
    assert pinned["BV"] == 16
    assert unknown == tiles(NAME, "other", "v", x, K=128, V=128)


@pytest.mark.parametrize(("schedule", "split"), [("split", True), ("scan", False), (None, False)])
def test_a_schedule_may_be_tuned(schedule, split):
    with running(Chosen(OpConfig(64, (), schedule))):
        assert splits(1, 64, torch.device("cpu")) == split
        with use_schedule("scan"):
            assert not splits(1, 64, torch.device("cpu"))


def test_a_backward_in_another_thread_takes_the_configuration_of_its_forward(monkeypatch):
    """As for CUDA tensors, whose backward runs in a thread of autograd's."""
    pytest.importorskip("triton", reason="launchers are watched")
    op = getattr(lincodegen.ops, NAME)
    kernels = importlib.import_module(f"{op.__module__}.kernels")
    seen = []

    def watched(name, label, *arguments, **sizes):
        config = tiles(name, label, *arguments, **sizes)
        seen.append((label, config["BV"]))
        return config

    monkeypatch.setattr(kernels, "tiles", watched)
    labels = ("clocks_bwd", "output_fwd", "scan_fwd", "scans_bwd", "states_fwd")
    config = OpConfig(16, tuple((label, Config(16, 16, 16, 4, 1)) for label in labels))
    x = [torch.randn(1, 20, 1, *(32 for _ in t.shape)) for t in op.signature.inputs]
    x[0].requires_grad_()
    with backend("triton"), use_op_config(NAME, config):
        y, _ = op(*x)
    before = len(seen)
    thread = threading.Thread(target=y.sum().backward)
    thread.start()
    thread.join()
    cut = [bv for label, bv in seen[before:] if label == "scans_bwd"]
    assert cut == [16] * len(cut)
    assert cut


COST = """
import sys, time, torch, triton
import lincodegen.ops
op = getattr(lincodegen.ops, sys.argv[1])
from lincodegen.config import Bucket
from lincodegen.runtime import tables, tuned
tuned.device_header = lambda device: tables.Header("NVIDIA H200", "sm_90", 132)
bucket = Bucket.of("bf16", {"K": 128, "V": 128}, 64, 4096)
start = time.process_time()
found = tuned.choices(sys.argv[1], "triton", torch.device("cuda", 0))(bucket)
first = time.process_time() - start
start = time.process_time()
for _ in range(2000):
    tuned.choices(sys.argv[1], "triton", torch.device("cuda", 0))(bucket)
assert found is not None
print(first, (time.process_time() - start) / 2000)
"""


def test_a_look_up_costs_next_to_nothing(places):
    """Seconds of processor time: of the first, that reads 200 entries, and of a later one."""
    ops = [NAME, *(f"op{i}" for i in range(19))]
    buckets = [BUCKET._replace(tokens=1 << i) for i in range(4, 14)]
    write(places[0], *(entry(op=op, bucket=bucket) for op in ops for bucket in buckets))
    command = [sys.executable, "-c", COST, NAME]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    first, later = map(float, done.stdout.split())
    assert first < 0.005
    assert later < 20e-6
