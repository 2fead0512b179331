"""Options of an op's kernels around its defaults, from the generated package and the tables alone.

What compiles and ranks candidates needs the whole compiler. On a machine that has PyTorch and
Triton only, the neighbours of what was chosen ahead of time are tried.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

from lincodegen.config import Config
from lincodegen.errors import TuningError
from lincodegen.runtime.defaults import Entry, OpDefault, target_default
from lincodegen.targets import Target
from lincodegen.tune.precision import inverses
from lincodegen.tune.records import Resources
from lincodegen.tune.shortlist import FAST_KEEPS, WAYS, Option, Options, Shortlist, in_proportion

_CALL = re.compile(r'\btiles\(\s*"\w+",\s*"(?P<label>\w+)",\s*"(?P<cut>\w*)"')
_LAUNCH_END = "num_stages="
_TILES = (16, 32, 64, 128)
_WARPS = (2, 4, 8)
_STAGES = (1, 2, 3)
_CHUNKS = (16, 32, 64, 128)
_LEAST = {"mma.sync": (16, 16, 1), "wgmma": (64, 32, 4)}
"""Least tiles of K and V, and warps, that a matrix unit wants."""
OPTIONS = 4


def neighbours(
    folder: Path,
    op: str,
    size: int,
    target: Target,
    precisions: tuple[str | None, ...] = (None,),
) -> Shortlist:
    """The default of an op for K and V of a size, and configurations one step away from it.

    ``precisions`` are those that products may be computed in, the fastest last.

    Raises:
        TuningError: the package has no chunked kernels, or no table has the op.
    """
    found = target_default(op, torch.bfloat16, size, target)
    cuts = kernel_cuts(folder)
    if not cuts or found is None or not cuts.keys() <= found.kernels.keys():
        raise TuningError(f"{op}: no table of defaults has all of its kernels")
    here = found.chunk_size
    sizes = [s for s in (here, 2 * here, here // 2) if s in _CHUNKS]
    described = described_kernels(folder) if target.descriptors else frozenset[str]()
    having = described, _told(folder, "SCALES="), _told(folder, "ORDER=")
    inverting = _told(folder, "INVERSE=")
    chunks = {s: _otherwise(_options(found, cuts, s, target), having) for s in sizes}
    methods: tuple[str | None, ...] = inverses(target) if inverting else (None,)
    every = {
        size: {
            label: _in_each(options, precisions, methods if label in inverting else (None,))
            for label, options in own.items()
        }
        for size, own in chunks.items()
    }
    return Shortlist(op, every, precisions=precisions, inverses=methods, keeps=FAST_KEEPS)


def kernel_cuts(folder: Path) -> dict[str, str]:
    """The kernels of a package by label, and the axes that each takes in tiles, of "k" and "v"."""
    path = folder / "kernels.py"
    if not path.is_file():
        return {}
    return {m["label"]: m["cut"] for m in _CALL.finditer(path.read_text(encoding="utf-8"))}


def described_kernels(folder: Path) -> frozenset[str]:
    """The kernels of a package, by label, whose launchers pass rows by descriptors if asked to."""
    text = (folder / "kernels.py").read_text(encoding="utf-8")
    launches = (
        (m["label"], text[m.end() : text.index(_LAUNCH_END, m.end())]) for m in _CALL.finditer(text)
    )
    return frozenset(label for label, launch in launches if "rows_of(" in launch)


def _otherwise(options: Options, having: tuple[Set[str], ...]) -> Options:
    """The options, and behind them the first one in every other way that its kernel has.

    ``having`` are the kernels that have each of `WAYS`.
    """
    return {
        label: (
            *own,
            *(
                replace(own[0], config=own[0].config._replace(**way))
                for labels, way in zip(having, WAYS, strict=True)
                if label in labels
            ),
        )
        for label, own in options.items()
    }


def _told(folder: Path, argument: str) -> set[str]:
    """The kernels of a package, by label, whose launchers pass an argument."""
    calls = _CALL.split((folder / "kernels.py").read_text(encoding="utf-8"))
    # the text before the first call, then label, cut and text after each
    return {label for label, text in zip(calls[1::3], calls[3::3], strict=True) if argument in text}


def _in_each(
    options: tuple[Option, ...],
    precisions: tuple[str | None, ...],
    methods: tuple[str | None, ...],
) -> tuple[Option, ...]:
    """The options in every precision and by every method; what they need then is not known."""
    return tuple(
        Option(o.config._replace(precision=p, inverse=m), o.needs)
        for p, m, o in product(precisions, methods, options)
    )


def _options(found: OpDefault, cuts: dict[str, str], chunk_size: int, target: Target) -> Options:
    return {
        label: _kernel_options(found, found.kernels[label], cut, chunk_size, target)
        for label, cut in cuts.items()
    }


def _kernel_options(
    found: OpDefault, entry: Entry, cut: str, chunk_size: int, target: Target
) -> tuple[Option, ...]:
    base = Config(
        found.chunk_size,
        entry["tile_k"],
        entry["tile_v"],
        entry["num_warps"],
        entry["num_stages"],
    )
    known = Resources(entry["shared_bytes"], entry.get("registers", 0), entry.get("stack_bytes", 0))
    start = base._replace(chunk_size=chunk_size)
    options = [Option(c, in_proportion(known, base, c)) for c in _steps(start, cut, target)]
    fitting = [o for o in options if o.needs.shared_bytes <= target.shared_per_block]
    return tuple((fitting or options[:1])[:OPTIONS])


def _steps(start: Config, cut: str, target: Target) -> Iterator[Config]:
    """A configuration, then those with one value changed, the likeliest to matter first."""
    least_k, least_v, least_warps = _LEAST.get(target.matrix_unit, _LEAST["mma.sync"])
    yield start
    changed = (
        *(("tile_v", t) for t in _beside(start.tile_v, _TILES) if "v" in cut and t >= least_v),
        *(("num_warps", w) for w in _beside(start.num_warps, _WARPS) if w >= least_warps),
        *(("tile_k", t) for t in _beside(start.tile_k, _TILES) if "k" in cut and t >= least_k),
        *(("num_stages", s) for s in _beside(start.num_stages, _STAGES)),
    )
    for name, value in changed:
        yield start._replace(**{name: value})


def _beside(value: int, values: tuple[int, ...]) -> tuple[int, ...]:
    """The next smaller value, and the next larger one."""
    below = [v for v in values if v < value][-1:]
    above = [v for v in values if v > value][:1]
    return (*below, *above)
