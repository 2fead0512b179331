"""What is timed: an op, the sizes of its call, a mode; and the sets of them that have a name.

``targets`` has the few by which kernels are judged, most important first, ``published`` the
shapes that others published figures for, ``roof`` the grid of sizes whose lower bounds are known,
``decode`` one token for many sequences, ``cpu`` how time grows with T.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from lincodegen.errors import BenchError
from lincodegen.spec.step import Recurrence

Mode = Literal["forward", "forward_backward", "decode"]
FORWARD: tuple[Mode, ...] = ("forward",)
TRAINING: tuple[Mode, ...] = ("forward", "forward_backward")
BACKWARD: tuple[Mode, ...] = ("forward_backward",)
DECODING: tuple[Mode, ...] = ("decode",)

KEY_TENSORS = ("q", "k", "r", "B", "C")
"""Inputs that may have fewer heads than the rest."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a call.

    Attributes:
        heads: of every tensor, but for those of ``KEY_TENSORS`` where ``key_heads`` is given.
        size: of every dimension that ``dims`` leaves out.
    """

    batch: int
    tokens: int
    heads: int
    size: int = 128
    dims: tuple[tuple[str, int], ...] = ()
    key_heads: int | None = None

    def sizes(self, recurrence: Recurrence) -> dict[str, int]:
        """The size of each dimension of a recurrence."""
        return dict.fromkeys(recurrence.dims, self.size) | dict(self.dims)

    def heads_of(self, tensor: str) -> int:
        """Heads of an input or parameter."""
        return (self.key_heads or self.heads) if tensor in KEY_TENSORS else self.heads

    @property
    def text(self) -> str:
        """For tables, as in ``B1 T8192 H2/8 128``."""
        heads = f"{self.key_heads}/{self.heads}" if self.key_heads else str(self.heads)
        dims = "".join(f" {name}{size}" for name, size in self.dims)
        return f"B{self.batch} T{self.tokens} H{heads} {self.size}{dims}"


@dataclass(frozen=True, slots=True)
class Work:
    """One thing to time with all contestants."""

    op: str
    shape: Shape
    mode: Mode

    @property
    def text(self) -> str:
        """For tables and messages."""
        return f"{self.op}, {self.mode.replace('_', ' and ')}, {self.shape.text}"


def works(op: str, shapes: Iterable[Shape], modes: Iterable[Mode]) -> list[Work]:
    """Every shape in every mode."""
    kinds = tuple(modes)
    return [Work(op, shape, mode) for shape in shapes for mode in kinds]


GROUPED = (
    Shape(1, 32768, 8, key_heads=2),
    Shape(1, 32768, 32, key_heads=16),
    Shape(4, 8192, 32),
    Shape(1, 8192, 32),
    Shape(1, 2048, 64, key_heads=16),
)
WIDE = Shape(1, 8192, 96)
LAUNCH_BOUND = Shape(8, 1024, 8, size=64)
CHANNELS = (
    *(Shape(1, tokens, 64) for tokens in (512, 4096, 16384)),
    Shape(2, 16384, 64),
    WIDE,
    Shape(4, 4096, 64),
    LAUNCH_BOUND,
)

PUBLISHED = (
    *works("gated_delta_rule", GROUPED, FORWARD),
    *works("gated_delta_rule", (WIDE, LAUNCH_BOUND), FORWARD),
    *works(
        "gated_delta_rule",
        (
            Shape(1, 32768, 32, key_heads=16),
            Shape(8, 4096, 32, key_heads=16),
            Shape(1, 32768, 4, key_heads=2),
        ),
        BACKWARD,
    ),
    *works("kda", CHANNELS, FORWARD),
    *works("kda", (Shape(16, 8192, 16, dims=(("V", 256),)),), TRAINING),
    *works("kda", (Shape(1, 16384, 64),), BACKWARD),
    *works("gla", (WIDE, LAUNCH_BOUND), TRAINING),
    *works("retention", (WIDE, LAUNCH_BOUND), TRAINING),
    *works("linear_attention", (WIDE,), FORWARD),
    *works("lightning_attention", (Shape(1, 16384, 64), Shape(2, 16384, 64)), FORWARD),
    *works("lightning_attention", (Shape(4, 4096, 32), Shape(4, 32768, 32)), TRAINING),
    *works("mamba2", (Shape(8, 8192, 16, dims=(("V", 256),)),), TRAINING),
    *works("mamba2", (Shape(1, 262144, 128, dims=(("V", 64),), key_heads=1),), FORWARD),
    *works("dplr", (Shape(8, 4096, 20), Shape(8, 4096, 40, size=64)), TRAINING),
)

TARGETS = (
    *works("gated_delta_rule", (Shape(4, 8192, 32),), TRAINING),
    *works("mamba2", (Shape(4, 8192, 32),), TRAINING),
    *works("kda", (Shape(2, 16384, 64),), FORWARD),
    *works("gated_delta_rule", (Shape(1, 32768, 8, key_heads=2),), FORWARD),
    *works("gated_delta_rule", (Shape(1, 32768, 32, key_heads=16),), BACKWARD),
    *works("gla", (WIDE,), BACKWARD),
    *works("dplr", (Shape(8, 4096, 20),), FORWARD),
    *works("gated_delta_rule", (Shape(128, 1, 32),), DECODING),
)
LISTS: Mapping[str, tuple[Work, ...]] = {"published": PUBLISHED, "targets": TARGETS}
"""Presets of works of their own."""

ROOF_SHAPES = (
    *(Shape(1, 4096, heads) for heads in (16, 32)),
    Shape(1, 8192, 32),
    *(Shape(1, 32768, heads) for heads in (16, 32)),
    Shape(2, 16384, 32),
    Shape(4, 8192, 32),
    Shape(8, 4096, 32),
    Shape(8, 32768, 32),
)
ROOF_OPS = ("mamba2", "gla", "delta_rule", "gated_delta_rule", "kda", "dplr", "gated_delta_product")

DECODE_SHAPES = tuple(Shape(batch, 1, 32) for batch in (1, 16, 128))
DECODE_OPS = ("gated_delta_rule", "kda", "gla", "mamba2", "delta_rule")

CPU_SHAPES = tuple(Shape(1, 2**power, 2) for power in range(8, 15))
CPU_OPS = ("gated_delta_rule", "kda", "gated_delta_product", "delta_product")

GRIDS: Mapping[str, tuple[tuple[Shape, ...], tuple[Mode, ...], tuple[str, ...]]] = {
    "cpu": (CPU_SHAPES, TRAINING, CPU_OPS),
    "decode": (DECODE_SHAPES, DECODING, DECODE_OPS),
    "roof": (ROOF_SHAPES, TRAINING, ROOF_OPS),
}
"""Presets of any op: shapes, modes, and the ops that are timed if none is named."""


def preset(name: str, ops: Iterable[str] = (), most_tokens: int | None = None) -> tuple[Work, ...]:
    """The works of a preset, of the named ops alone if any are named, shape after shape.

    Raises:
        BenchError: there is no such preset, no work of one of these ops, or none that is so short.
    """
    wanted = tuple(ops)
    if name in LISTS:
        found = _listed(name, wanted)
    elif name in GRIDS:
        shapes, modes, usual = GRIDS[name]
        chosen = wanted or usual
        found = [w for shape in shapes for op in chosen for w in works(op, (shape,), modes)]
    else:
        raise BenchError(f"no preset {name!r}; there are {', '.join((*LISTS, *GRIDS))}")
    short = tuple(w for w in found if most_tokens is None or w.shape.tokens <= most_tokens)
    if not short:
        least = min(w.shape.tokens for w in found)
        raise BenchError(f"preset {name} times sequences of {least} tokens or more")
    return short


def _listed(name: str, ops: tuple[str, ...]) -> list[Work]:
    there = {w.op for w in LISTS[name]}
    missing = [op for op in ops if op not in there]
    if missing:
        known = ", ".join(sorted(there))
        raise BenchError(f"preset {name} has nothing of {missing[0]}; there are {known}")
    return [w for w in LISTS[name] if not ops or w.op in ops]
