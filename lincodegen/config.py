"""What is chosen of an op: one tuned point per kernel, all of an op's, and for which calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

SCHEDULES = ("scan", "split", "segment", "recurrent")
PRECISIONS = ("ieee", "tf32x3", "tf32")
"""How products of float32 operands may be computed, the most exact first, the fastest last."""
_LARGEST = {
    "chunk_size": 1024,
    "segment_chunks": 4096,
    "tile_k": 512,
    "tile_v": 512,
    "num_warps": 32,
    "num_stages": 8,
    "solve_block": 1024,
    "block_elements": 1 << 30,
    "threads": 1024,
}
_LEAST = {"tile_k": 16, "tile_v": 16}
_COUNTS = ("num_stages", "threads")
"""Any number will do; the others are powers of two."""
_NUMBERS = ("tile_k", "tile_v", "num_warps", "num_stages")
KEEPS = ("nothing", "inverse", "states")
"""What a forward may keep for its backward beside its arguments, each all of those before it."""
KEPT = "inverse"
"""Where nothing was chosen."""
INVERSES = ("ieee", "rows", "tf32x3")
"""How a kernel may invert the unit triangular matrix of a chunk."""
SCALES = ("computed", "loaded")
"""Where a kernel may apply a scale of the rows of a matrix product or of its summands."""
ORDERS = ("product", "decay")
"""What a kernel may compute first of a matrix product and the decays between its rows."""


class Config(NamedTuple):
    """Tile sizes and launch options of one kernel.

    Attributes:
        chunk_size: tokens a chunk, the same for every kernel of an op.
        tile_k: channels of K a program holds at a time.
        tile_v: likewise of V.
        num_warps: warps a program.
        num_stages: depth of software pipelining; 1 is none.
        precision: of the kernel's products of float32 operands; others have none. ``ieee``:
            float32 with its 24 bits, no tensor cores. ``tf32x3``: three products on tensor cores
            of operands split in two, about as exact. ``tf32``: one such product of operands
            rounded to 11 bits, taken only while torch.get_float32_matmul_precision() is not
            ``highest``. None: ``ieee`` under ``highest``, else ``tf32``.
        inverse: of a kernel that inverts unit triangular matrices, in float32 whatever the dtype
            of the operands is. ``ieee``: blocks are merged by float32 products, from pairs of rows
            on. ``rows``: from 16 rows on, which are substituted one by one. ``tf32x3``: like
            ``ieee``, blocks of 16 and more rows by such products on tensor cores. None: ``ieee``.
        descriptors: whether tiles of rows are loaded through tensor descriptors.
        scales: of a kernel that scales rows of matrix products, or what they sum, by decays or
            gates. ``computed``: the product, or the operand that was computed; what was loaded
            goes into products as it is. ``loaded``: operands as they were loaded, the products
            are used as they are. None: ``computed``.
        order: of a kernel that decays products of rows: whether the ``product`` or the ``decay``
            is computed first, which is a matter of registers alone. None: ``product``.

    Triton's interpreter computes every product in float32: what a precision costs on a device, only
    the gate on that device can judge.
    """

    chunk_size: int
    tile_k: int
    tile_v: int
    num_warps: int
    num_stages: int
    precision: str | None = None
    inverse: str | None = None
    descriptors: bool = False
    scales: str | None = None
    order: str | None = None

    @property
    def way(self) -> tuple[bool, str, str]:
        """What sets it apart from configurations with the same tiles and the same products."""
        return self.descriptors, self.scales or SCALES[0], self.order or ORDERS[0]

    def __str__(self) -> str:
        given = [] if self.precision is None else [self.precision]
        given += [] if self.inverse is None else [f"inverse {self.inverse}"]
        given += ["descriptors"] if self.descriptors else []
        given += [] if self.scales is None else [f"scales {self.scales}"]
        given += [] if self.order is None else [f"{self.order} first"]
        tiles = f"{self.tile_k}x{self.tile_v} w{self.num_warps} s{self.num_stages}"
        return " ".join([tiles, *given])

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads; what is left open is left out."""
        left_open = (None, False)
        values = {n: value for n, value in self._asdict().items() if value not in left_open}
        del values["chunk_size"]
        return values

    @staticmethod
    def from_json(chunk_size: int, value: object, label: str) -> Config:
        """The configuration of a kernel that `to_json` wrote.

        Raises:
            ValueError: a value is missing or is nothing that a kernel takes.
        """
        data = _mapping(value, label)
        numbers = {name: _number(data, name) for name in _NUMBERS}
        described = data.get("descriptors", False)
        if not isinstance(described, bool):
            raise ValueError(f"descriptors = {described!r}; expected: true or false")
        return Config(
            chunk_size,
            **numbers,
            precision=_one_of(data, "precision", PRECISIONS),
            inverse=_one_of(data, "inverse", INVERSES),
            descriptors=described,
            scales=_one_of(data, "scales", SCALES),
            order=_one_of(data, "order", ORDERS),
        )


class TorchConfig(NamedTuple):
    """What is chosen of the chunked PyTorch form on a CPU beside its chunk.

    Attributes:
        solve_block: rows of a triangular system that are solved by merging; systems of more rows
            are solved block by block, from the first row on.
        block_elements: most elements, in a block of heads and tokens, of the largest input.
        threads: most that the op runs on; None for as many as the process has.
    """

    solve_block: int
    block_elements: int
    threads: int | None = None

    @staticmethod
    def from_json(value: object) -> TorchConfig:
        """The values of a JSON object.

        Raises:
            ValueError: one of them is missing or is nothing that an op takes.
        """
        data = _mapping(value, "torch")
        threads = None if data.get("threads") is None else _number(data, "threads")
        return TorchConfig(_number(data, "solve_block"), _number(data, "block_elements"), threads)


class OpConfig(NamedTuple):
    """Everything that is chosen of an op: its chunk and the tiles of each of its kernels.

    Attributes:
        chunk_size: tokens a chunk.
        kernels: by the kernels' labels, ascending; none for the PyTorch form.
        schedule: one of `SCHEDULES`; None leaves it to the size of a call.
        segment_chunks: chunks of a segment under ``segment``; 0 leaves it to the size of a call.
        torch: of the PyTorch form; None leaves it at its defaults.
        keep: what kernels keep for the backward, which makes the rest again. ``nothing``: no more
            than states between segments. ``inverse``: inverses and decayed Grams. ``states``: also
            the states before all chunks, the solved rows and the decayed operands, where the
            forward has them: under ``split``.
    """

    chunk_size: int
    kernels: tuple[tuple[str, Config], ...] = ()
    schedule: str | None = None
    segment_chunks: int = 0
    torch: TorchConfig | None = None
    keep: str = KEPT

    @property
    def scanning(self) -> str:
        """The schedule with the chunks of its segments, as in ``segment 16``; "" if left open."""
        length = [str(self.segment_chunks)] if self.segment_chunks else []
        return " ".join([self.schedule or "", *length])

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads."""
        rows = {label: config.to_json() for label, config in self.kernels}
        own: dict[str, Any] = {} if self.torch is None else {"torch": self.torch._asdict()}
        own |= {"segment_chunks": self.segment_chunks} if self.segment_chunks else {}
        own |= {"keep": self.keep} if self.keep != KEPT else {}
        return {"chunk_size": self.chunk_size, "kernels": rows, "schedule": self.schedule, **own}

    @staticmethod
    def from_json(value: object) -> OpConfig:
        """The configuration that `to_json` wrote.

        Raises:
            ValueError: it is none, or one that no kernel takes.
        """
        data = _mapping(value, "a configuration")
        size = _number(data, "chunk_size")
        schedule = _one_of(data, "schedule", SCHEDULES)
        rows = _mapping(data.get("kernels"), "kernels")
        kernels = {str(k): Config.from_json(size, v, k) for k, v in rows.items()}
        segment = _number(data, "segment_chunks") if "segment_chunks" in data else 0
        if segment and schedule != "segment":
            raise ValueError(f"segment_chunks = {segment} under the schedule {schedule!r}")
        own = TorchConfig.from_json(data["torch"]) if "torch" in data else None
        keep = _one_of(data, "keep", KEEPS) or KEPT
        if keep == "states" and schedule not in (None, "split"):
            raise ValueError(f"keep = 'states' under the schedule {schedule!r}; expected: 'split'")
        return OpConfig(size, tuple(sorted(kernels.items())), schedule, segment, own, keep)


class Bucket(NamedTuple):
    """A class of calls that share a configuration: never an exact length.

    Attributes:
        dtype: that of the operands in Triton's name, as in ``bf16``.
        sizes: the dimensions by name, ascending.
        heads: sequences times heads, rounded up to a power of two.
        tokens: likewise of the tokens of a sequence.
    """

    dtype: str
    sizes: tuple[tuple[str, int], ...]
    heads: int
    tokens: int

    @staticmethod
    def of(dtype: str, sizes: Mapping[str, int], heads: int, tokens: int) -> Bucket:
        """The bucket of a call."""
        return Bucket(dtype, tuple(sorted(sizes.items())), _above(heads), _above(tokens))

    @staticmethod
    def from_text(text: str) -> Bucket:
        """The bucket that ``str`` printed, as in ``bf16 K=128 V=128 heads=64 tokens=4096``.

        Raises:
            ValueError: the text names none.
        """
        dtype, *pairs = text.split()
        named = dict(pair.split("=") for pair in pairs)
        heads, tokens = (int(named.pop(name, "0")) for name in ("heads", "tokens"))
        bucket = Bucket.of(dtype, {n: int(v) for n, v in named.items()}, heads, tokens)
        if str(bucket) != text:
            raise ValueError(f"{text!r} names no bucket")
        return bucket

    def __str__(self) -> str:
        sizes = (f"{name}={value}" for name, value in self.sizes)
        return " ".join([self.dtype, *sizes, f"heads={self.heads}", f"tokens={self.tokens}"])

    def distance(self, other: Bucket) -> int | None:
        """How many doublings lie between two buckets; None where sizes or dtype differ."""
        if (self.dtype, self.sizes) != (other.dtype, other.sizes):
            return None
        pairs = ((self.heads, other.heads), (self.tokens, other.tokens))
        return sum(abs(a.bit_length() - b.bit_length()) for a, b in pairs)


def _above(count: int) -> int:
    """The least power of two that is not below a count."""
    return 1 << max(0, count - 1).bit_length()


def _mapping(value: object, what: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {type(value).__name__}; expected: an object")
    return value


def _one_of(data: Mapping[str, Any], name: str, expected: tuple[str, ...]) -> str | None:
    """A value by name, None where there is none."""
    value = data.get(name)
    if value is not None and value not in expected:
        raise ValueError(f"{name} {value!r}; expected: one of {', '.join(expected)}")
    return value


def _number(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    # a bool is an int to isinstance
    if type(value) is not int or not _LEAST.get(name, 1) <= value <= _LARGEST[name]:
        raise ValueError(f"{name} = {value!r} is nothing that a kernel takes")
    if name not in _COUNTS and value & (value - 1):
        raise ValueError(f"{name} = {value}; expected: a power of two")
    return value
