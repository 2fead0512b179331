"""A cost as text and as JSON values. Bytes and FLOPs are per token and head, times in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from lincodegen.config import KEEPS
from lincodegen.cost.model import DirectionCost, KernelLaunch, LaunchCost, OpCost
from lincodegen.cost.traffic import Access

HEAD = ("", "bytes", "re-read", "dots", "fp32 dots", "vector", "exp2", "programs", "ms", "limit")


@dataclass(frozen=True, slots=True)
class CostReport:
    """What ``show`` prints of a cost."""

    cost: OpCost

    def __str__(self) -> str:
        return cost_text(self.cost)

    def to_json(self) -> Mapping[str, object]:
        """The same facts as JSON values."""
        return cost_json(self.cost)


def cost_text(cost: OpCost) -> str:
    """The cost of an op, a table a direction."""
    lines = [_head(cost)]
    for direction in cost.directions:
        lines += ["", *_direction_lines(cost, direction)]
    n = cost.sizes.token_heads
    kept = ", ".join(f"{name} {_number(size / n)}" for name, size in kept_bytes(cost).items())
    lines += ["", f"  kept for the backward beside its arguments: {kept} bytes per token and head"]
    return "\n".join([*lines, "", *(f"  {note}" for note in cost.notes)])


def cost_json(cost: OpCost) -> Mapping[str, object]:
    """The cost of an op as JSON values."""
    n = cost.sizes.token_heads
    return {
        "op": cost.op,
        "target": cost.target.name,
        "device": cost.target.device,
        "sizes": {**asdict(cost.sizes), "dims": dict(cost.sizes.dims)},
        "directions": {d.name: _direction_json(d, n) for d in cost.directions},
        "kept": {name: size / n for name, size in kept_bytes(cost).items()},
        "notes": list(cost.notes),
    }


def kept_bytes(cost: OpCost) -> dict[str, int]:
    """Bytes that a forward keeps under each of `lincodegen.config.KEEPS`, without initial states.

    ``states`` are those of a split forward, which makes what the backward else makes first.
    """
    prep = [x for x in cost.forward.launches if x.label.endswith("prep_fwd")]
    states = [x for x in cost.backward.launches if x.label.endswith(("states_fwd", "decay_fwd"))]
    inverse = sum(a.bytes for x in prep for a in x.accesses if a.written)
    made = [a for x in states for a in x.accesses if a.written and not a.tensor.startswith("ht")]
    sizes = 0, inverse, inverse + sum(a.bytes for a in made)
    return dict(zip(KEEPS, sizes, strict=True))


# -- text ------------------------------------------------------------------------------------


def _head(cost: OpCost) -> str:
    sizes = cost.sizes
    dims = "".join(f", {name} = {size}" for name, size in sorted(sizes.dims.items()))
    return (
        f"{cost.op} on {cost.target.name} ({cost.target.device}): {sizes.batch} sequences of "
        f"{sizes.tokens} tokens, {sizes.heads} heads, channels {sizes.size}{dims}, {sizes.dtype}\n"
        "bytes (each tensor once a kernel) and operations per token and head"
    )


def _direction_lines(cost: OpCost, direction: DirectionCost) -> list[str]:
    n = cost.sizes.token_heads
    rows = [(direction.name, *HEAD[1:]), *(_row(x, n) for x in direction.launches)]
    total = (direction.bytes / n, direction.moved / n)
    rows.append(("total", *map(_number, total), *([""] * 5), _ms(direction.seconds), ""))
    lines = _table(rows)
    for launch in direction.launches:
        lines += ["", f"  {launch.label}{_setting(launch.kernel, n)}", *_details(launch, n)]
    again = direction.touched_again()
    if again:
        lines += ["", "  touched by several:"]
        lines += [
            f"    {tensor} +{_number(extra / n)}: {', '.join(labels)}"
            for tensor, (labels, extra) in again.items()
        ]
    return [*lines, "", f"  {_summary(direction, n)}"]


def _row(launch: LaunchCost, n: int) -> tuple[str, ...]:
    work = launch.kernel.executed if launch.kernel else None
    operations = ("", "", "", "")
    if work is not None:
        fp32 = work.dots.get("fp32", 0)
        counts = (work.matrix - fp32, fp32, work.vector, work.exp2)
        operations = tuple(_number(count / n) for count in counts)
    return (
        launch.label,
        _number(launch.bytes / n),
        _number(launch.moved / n),
        *operations,
        str(launch.kernel.programs) if launch.kernel else "PyTorch",
        _ms(launch.time.seconds),
        launch.time.limit,
    )


def _setting(kernel: KernelLaunch | None, n: int) -> str:
    """Configuration, occupancy and compiled resources of a kernel."""
    if kernel is None:
        return ": in PyTorch, at least"
    c = kernel.default.config
    place = "occupancy unknown"
    if kernel.resident is not None:
        many = "" if kernel.rounds == 1 else "s"
        place = f"{kernel.resident} on a multiprocessor, {kernel.rounds} round{many}"
    chain = f", {kernel.chunks} chunks of {kernel.products} products" if kernel.chunks else ""
    compiled = kernel.default.compiled
    size = _number(kernel.spilled / n)
    spilled = f"; {size} B per token and head to the stack and back" if kernel.spilled else ""
    return (
        f": chunk {c.chunk_size}, tiles {c.tile_k} x {c.tile_v}, {c.num_warps} warps, "
        f"{c.num_stages} stages; {place}{chain}"
        f"\n    compiled: {compiled if compiled is not None else 'no record'}{spilled}"
    )


def _details(launch: LaunchCost, n: int) -> list[str]:
    reads = [a for a in launch.accesses if not a.written]
    writes = [a for a in launch.accesses if a.written]
    lines = [f"    reads {_tensors(reads, n)}; writes {_tensors(writes, n)}"]
    if launch.kernel is not None:
        limits = (f"{name} {_ms(s)}" for name, s in launch.time.limits.items())
        lines.append(f"    ms: {', '.join(limits)}")
    return lines


def _tensors(accesses: Sequence[Access], n: int) -> str:
    texts: list[str] = []
    for a in accesses:
        again = f" (x{a.moved // a.bytes})" if a.moved > a.bytes else ""
        texts.append(f"{a.tensor} {_number(a.bytes / n)}{again}")
    return ", ".join(texts) or "-"


def _summary(direction: DirectionCost, n: int) -> str:
    least = direction.least_bytes
    share = direction.roof / direction.seconds
    return (
        f"{direction.name}: {_kernels(direction)}, {_number(direction.bytes / n)} bytes "
        f"per token and head, {direction.bytes / least:.2f} x what it is given and returns "
        f"({_number(least / n)}); roof {_ms(direction.roof)} ms, predicted "
        f"{_ms(direction.seconds)} ms, {share:.0%} of the roof"
    )


def _kernels(direction: DirectionCost) -> str:
    count = len(direction.kernels)
    return f"{count} kernel{'' if count == 1 else 's'}"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines: list[str] = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(w) for cell, w in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append("  " + "  ".join([*cells, row[-1]]).rstrip())
    return lines


def _number(value: float) -> str:
    """Plain up to 100000, then in thousands."""
    if value >= 1e5:
        return f"{value / 1e3:.0f}k"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def _ms(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds * 1e3:.3f}"


# -- JSON ------------------------------------------------------------------------------------


def _direction_json(direction: DirectionCost, n: int) -> dict[str, object]:
    return {
        "kernels": len(direction.kernels),
        "bytes": direction.bytes / n,
        "bytes_with_rereads": direction.moved / n,
        "least_bytes": direction.least_bytes / n,
        "seconds": direction.seconds,
        "roof_seconds": direction.roof,
        "launches": [_launch_json(launch, n) for launch in direction.launches],
        "touched_again": {
            tensor: {"launches": list(labels), "bytes": extra / n}
            for tensor, (labels, extra) in direction.touched_again().items()
        },
    }


def _launch_json(launch: LaunchCost, n: int) -> dict[str, object]:
    return {
        "label": launch.label,
        "kernel": None if launch.kernel is None else _kernel_json(launch.kernel, n),
        "bytes": launch.bytes / n,
        "bytes_with_rereads": launch.moved / n,
        "tensors": list(_tensors_json(launch.accesses, n)),
        "seconds": launch.time.seconds,
        "limit": launch.time.limit,
        "limits": dict(launch.time.limits),
    }


def _kernel_json(kernel: KernelLaunch, n: int) -> dict[str, object]:
    compiled = kernel.default.compiled
    return {
        "config": kernel.default.config._asdict(),
        "compiled": None if compiled is None else asdict(compiled),
        "spilled_bytes": kernel.spilled / n,
        "programs": kernel.programs,
        "resident": kernel.resident,
        "rounds": kernel.rounds,
        "chunks_in_a_row": kernel.chunks,
        "products_of_a_chunk": kernel.products,
        "dots": {name: flops / n for name, flops in kernel.executed.dots.items()},
        "dots_once": {name: flops / n for name, flops in kernel.once.dots.items()},
        "vector": kernel.executed.vector / n,
        "exp2": kernel.executed.exp2 / n,
    }


def _tensors_json(accesses: Iterable[Access], n: int) -> Iterable[dict[str, object]]:
    for a in accesses:
        yield {
            "tensor": a.tensor,
            "bytes": a.bytes / n,
            "bytes_with_rereads": a.moved / n,
            "written": a.written,
        }
