"""Default configurations of an op's kernels, chosen among candidates compiled for a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lincodegen.compile import compile_many
from lincodegen.compile.launches import job_of
from lincodegen.config import Config
from lincodegen.errors import TuningError
from lincodegen.schedule.space import Extents, SearchSpace, search_space
from lincodegen.targets import Target
from lincodegen.tune.kernels import OpKernel, OpKernels
from lincodegen.tune.preference import Candidate, rank, runs, settled

ROWS = 64
"""Rows of a tile that a chunk is cut for: more of them spill in every kernel with a solve."""
SPILLING = 512
"""Bytes of stack a thread beyond which a shorter chunk is tried."""
_TILES = (64, 32, 128, 16)
_WARPS_STAGES = ((4, 2), (8, 2), (4, 1), (8, 1), (4, 3), (2, 2))
_TIMEOUT_S = 240.0


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to look.

    Attributes:
        candidates: most configurations compiled for one kernel and chunk size.
        workers: compiling processes.
        cache_dir: Triton cache; None for the user's.
    """

    candidates: int = 12
    workers: int = 2
    cache_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """What is compiled for.

    Attributes:
        target: the GPU.
        sizes: by axis.
        dtype: of the operands, in Triton's name.
        seconds: the predicted time of a candidate of an op's kernel.
    """

    target: Target
    sizes: Mapping[str, int]
    dtype: str
    seconds: Callable[[str, str, Candidate], float]

    @property
    def operand_bytes(self) -> int:
        """Bytes of an operand's entry."""
        return 4 if self.dtype == "fp32" else 2


@dataclass(frozen=True, slots=True)
class OpDefaults:
    """The best candidate of every kernel of an op, by label, all of one chunk size."""

    op: str
    chunk_size: int
    chosen: Mapping[str, Candidate]


def choose_defaults(
    op: OpKernels, path: Path, case: Case, effort: Effort, seed: OpDefaults | None = None
) -> OpDefaults:
    """Compiles candidates of every kernel and keeps the best.

    The chunk has `ROWS` rows where that fits into shared memory. Where it does not, or where a
    kernel spills more than `SPILLING`, half of it is tried; what is predicted to be faster is kept.
    ``seed`` are defaults of another target: they are tried first.

    Raises:
        TuningError: no chunk size fits.
    """
    most = max(slots for k in op.kernels for slots in k.slots)
    chunk_size = max(16, ROWS // most)
    best: OpDefaults | None = None
    while chunk_size >= 16:
        found = choose_kernels(op, path, case, effort, (chunk_size, seed))
        if found is not None:
            made = OpDefaults(op.op, chunk_size, found)
            if best is not None and _seconds(best, case) <= _seconds(made, case):
                break
            best = made
            if not any((c.exceeds or 0) > SPILLING for c in found.values()):
                break
        chunk_size //= 2
    if best is None:
        reason = f"no chunk size fits into the shared memory of {case.target.name}"
        raise TuningError(f"{op.op}: {reason}")
    return best


def _seconds(found: OpDefaults, case: Case) -> float:
    """The predicted time of all kernels together."""
    return sum(case.seconds(found.op, label, c) for label, c in found.chosen.items())


def choose_kernels(
    op: OpKernels,
    path: Path,
    case: Case,
    effort: Effort,
    start: tuple[int, OpDefaults | None],
) -> dict[str, Candidate] | None:
    """The best of every kernel at a chunk size; None if one of them fits in no configuration.

    Rounds: each compiles the next candidates of every kernel that is not settled.
    """
    path.write_text(op.text, encoding="utf-8")
    chunk_size, seed = start
    queues = {k.launch.label: _candidates(k, case, effort, chunk_size, seed) for k in op.kernels}
    best: dict[str, Candidate] = {}
    tried = 0
    while True:
        batch = []
        for kernel in op.kernels:
            label = kernel.launch.label
            if label in best and settled(best[label], case.target, tried):
                continue
            batch += [(kernel, queues[label].pop(0)) for _ in range(min(2, len(queues[label])))]
        if not batch:
            break
        tried += 2
        for kernel, made in zip(batch, _compiled(batch, path, case, effort), strict=True):
            label = kernel[0].launch.label
            rivals = [made, *([best[label]] if label in best else [])]
            best[label] = min(rivals, key=lambda c: rank(c, case.target))
    return best if all(runs(c, case.target) for c in best.values()) else None


def _compiled(
    batch: Sequence[tuple[OpKernel, Config]], path: Path, case: Case, effort: Effort
) -> list[Candidate]:
    sizes = {axis.upper(): size for axis, size in case.sizes.items()}
    jobs = [job_of(k.launch, path, sizes, case.dtype, case.target, c) for k, c in batch]
    made = compile_many(
        jobs, workers=effort.workers, timeout_s=_TIMEOUT_S, cache_dir=effort.cache_dir
    )
    return [Candidate(c, r) for (_, c), r in zip(batch, made, strict=True)]


def _candidates(
    kernel: OpKernel, case: Case, effort: Effort, chunk_size: int, seed: OpDefaults | None
) -> list[Config]:
    """Configurations of the space in the order in which they are tried."""
    space = search_space(kernel.kernel, Extents(case.sizes, kernel.slots, case.operand_bytes))
    allowed = [c for c in space.configs(case.target) if c.chunk_size == chunk_size]
    first = []
    if seed is not None and kernel.launch.label in seed.chosen:
        known = seed.chosen[kernel.launch.label].config
        first = [Config(chunk_size, known.tile_k, known.tile_v, known.num_warps, known.num_stages)]
    ordered = [*first, *(c for c in _preferred(space, chunk_size) if c not in first)]
    return [c for c in ordered if c in allowed][: effort.candidates]


def _preferred(space: SearchSpace, chunk_size: int) -> list[Config]:
    """Tiles of 64 before smaller and larger ones, two programs a multiprocessor before one."""
    values = {p.name: p.values for p in space.parameters}
    tiles = [(k, v) for k in _sorted(values["tile_k"]) for v in _sorted(values["tile_v"])]
    tiles.sort(key=lambda kv: sum(_TILES.index(t) if t in _TILES else 0 for t in kv))
    stages = values["num_stages"]
    options = [(w, s if s in stages else stages[-1]) for w, s in _WARPS_STAGES]
    options = list(dict.fromkeys(options))
    pairs = [(i + j, kv, ws) for i, kv in enumerate(tiles) for j, ws in enumerate(options)]
    pairs.sort(key=lambda p: p[0])
    return [Config(chunk_size, *kv, *ws) for _, kv, ws in pairs]


def _sorted(tiles: tuple[int, ...]) -> list[int]:
    return sorted(tiles, key=lambda t: _TILES.index(t) if t in _TILES else 0)
