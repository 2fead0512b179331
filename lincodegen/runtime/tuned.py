"""The tuned configuration of a call, looked up; nothing is ever timed here.

In this order: the user's table of the device, the packaged one, those of devices of the same
architecture, the nearest first. Where none has an entry for the op, its text and a like call,
the defaults hold (`lincodegen.runtime.defaults`).
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lincodegen.errors import TuningError, TuningWarning
from lincodegen.resources import config_dir, tuned_dir
from lincodegen.runtime.lazy import Lazy

if TYPE_CHECKING:
    from lincodegen.config import Bucket, OpConfig, TorchConfig
    from lincodegen.runtime.tables import Header, Table

config_module = Lazy("lincodegen.config")
tables, targets = Lazy("lincodegen.runtime.tables"), Lazy("lincodegen.targets")

DTYPE_NAMES = {
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float32: "fp32",
    torch.float64: "fp64",
}
_DEVICE_FUNCTIONS = (
    *("bounded.py", "chunks.py", "handover.py", "products.py", "rows.py"),
    *("sequences.py", "tiles.py"),
)

_folders: dict[str, set[Path]] = {}
_told: set[tuple[Path, str]] = set()
_epoch = [0]


class Chosen:
    """A configuration as calls carry it: told apart by identity, so that look-ups hash nothing."""

    __slots__ = ("config", "kernels")

    def __init__(self, config: OpConfig) -> None:
        self.config = config
        self.kernels = dict(config.kernels)


_named: ContextVar[tuple[str, Chosen] | None] = ContextVar("lincodegen_named", default=None)
_running: ContextVar[Chosen | None] = ContextVar("lincodegen_running", default=None)


@contextmanager
def use_op_config(op: str, config: OpConfig) -> Generator[None]:
    """Inside the block calls of an op take this configuration, their backward in any thread too."""
    token = _named.set((op, Chosen(config)))
    try:
        yield
    finally:
        _named.reset(token)


@contextmanager
def running(chosen: Chosen) -> Generator[None]:
    """Around the text of an op: what its launchers ask for."""
    token = _running.set(chosen)
    try:
        yield
    finally:
        _running.reset(token)


def running_choice() -> Chosen | None:
    """The configuration of the call whose text runs, if a table has one."""
    return _running.get()


def torch_config() -> TorchConfig | None:
    """What a table has of the PyTorch form whose text runs."""
    chosen = _running.get()
    return None if chosen is None else chosen.config.torch


class Choices:
    """What tables have for an op on a device."""

    def __init__(self, op: str, header: Header) -> None:
        self._op, self._header = op, header
        self._known: dict[Bucket, Chosen | None] = {}
        self._codes = frozenset(code_digest(folder) for folder in _folders.get(op, ()))

    def __call__(self, bucket: Bucket) -> Chosen | None:
        """The configuration of the nearest bucket of the first table that has one."""
        if bucket not in self._known:
            self._known[bucket] = self._find(bucket)
        return self._known[bucket]

    def _find(self, bucket: Bucket) -> Chosen | None:
        for path, table in _tables(self._header):
            found = tables.entries_for(table, self._op, self._codes)
            for number, what in (
                (found.damaged, "damaged"),
                (found.ungated, "without a passed gate"),
                (found.stale, "of another version of the op"),
            ):
                if number:
                    _tell(path, f"{number} entries {what} are not used ({self._op})")
            distances = {b: bucket.distance(b) for b in found.configs}
            near = [(d, b) for b, d in distances.items() if d is not None]
            if near:
                return Chosen(found.configs[min(near)[1]])
        return None


def choices(op: str, form: str, device: torch.device) -> Choices | Chosen | None:
    """What is known of an op on a device: what was named, else what tables have, else None."""
    named = _named.get()
    if named is not None and named[0] == op:
        return named[1]
    return _choices(op, form, device)


def tuned_for(
    op: str,
    form: str,
    device: torch.device,
    kind: tuple[torch.dtype, Mapping[str, int | torch.SymInt]],
    extent: tuple[int | torch.SymInt, int | torch.SymInt],
) -> Chosen | None:
    """The configuration of calls with operands of a dtype and sizes.

    ``extent`` are sequences times heads, and tokens a sequence.
    """
    found = choices(op, form, device)
    if found is None or isinstance(found, Chosen):
        return found
    dtype, sizes = kind
    # a tracer's symbolic sizes belong to no bucket
    if not all(isinstance(n, int) for n in (*extent, *sizes.values())):
        return None
    return found(config_module.module.Bucket.of(DTYPE_NAMES[dtype], sizes, *extent))


def any_named() -> bool:
    """Whether a caller names a configuration."""
    return _named.get() is not None


def tables_epoch() -> int:
    """A number that changes where what was looked up may have changed."""
    return _epoch[0]


def register(op: str, folder: Path) -> None:
    """Makes the text of a generated package known; entries of another text do not count."""
    folders = _folders.setdefault(op, set())
    if folder not in folders:
        folders.add(folder)
        _choices.cache_clear()
        _epoch[0] += 1


def forget() -> None:
    """Reads tables anew, as after tuning in the same process."""
    tables.read_table.cache_clear()  # pyright: ignore[reportFunctionMemberAccess]
    _choices.cache_clear()
    _epoch[0] += 1
    _told.clear()


def code_digest(folder: Path) -> str:
    """Digest of a generated package's text and of the device functions that it calls."""
    digest = hashlib.sha256()
    runtime = Path(__file__).parent
    try:
        for path in [*sorted(folder.glob("*.py")), *(runtime / n for n in _DEVICE_FUNCTIONS)]:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    except OSError:
        return ""
    return digest.hexdigest()[:16]


def device_header(device: torch.device) -> Header:
    """The device as tables name it.

    Raises:
        TuningError: it is one that no kernel runs on.
    """
    if device.type != "cuda":
        return tables.Header("cpu", "cpu", 0)
    properties = torch.cuda.get_device_properties(device)
    target = targets.from_device(properties)
    return tables.Header(target.device, target.name, target.multiprocessors)


def table_name(device: str) -> str:
    """The file of a device's table: ``nvidia_h200.json``."""
    return re.sub(r"[^a-z0-9]+", "_", device.lower()).strip("_") + ".json"


@cache
def _choices(op: str, form: str, device: torch.device) -> Choices | None:
    # in the interpreter and in the PyTorch form on a GPU nothing is tuned
    if (form == "triton") != (device.type == "cuda") or not any(map(_files, _places())):
        return None
    try:
        return Choices(op, device_header(device))
    except TuningError:
        return None


def _places() -> list[Path]:
    try:
        return [config_dir(), tuned_dir()]
    except RuntimeError:
        return [tuned_dir()]


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("*.json"))
    except OSError:
        return []


def _tables(header: Header) -> Iterator[tuple[Path, Table]]:
    """Readable tables, the nearest first."""
    own = [folder / table_name(header.device) for folder in _places()]
    for path in own:
        table = _readable(path)
        if table is not None:
            yield path, table
    others = [(p, _readable(p)) for folder in _places() for p in _files(folder) if p not in own]
    like = [(p, t) for p, t in others if t is not None and t.header.target == header.target]
    # the sort keeps the user's before the packaged ones
    like.sort(key=lambda pt: abs(pt[1].header.multiprocessors - header.multiprocessors))
    yield from like


def _readable(path: Path) -> Table | None:
    try:
        return tables.read_table(path)
    except (OSError, ValueError) as error:
        _tell(path, f"the table cannot be read and is not used: {error}")
        return None


def _tell(path: Path, message: str) -> None:
    """Warns once of a thing."""
    if (path, message) not in _told:
        _told.add((path, message))
        warnings.warn(f"{path}: {message}", TuningWarning, stacklevel=2)
