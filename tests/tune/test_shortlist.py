"""Options of kernels: around the defaults, or compiled and ranked; and the space over them."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from lincodegen.compile import Resources
from lincodegen.config import Config
from lincodegen.cost.sizes import CallSizes
from lincodegen.emit.op_plan import plan_op
from lincodegen.errors import TuningError
from lincodegen.loading import shipped_names
from lincodegen.pipeline import compile_spec
from lincodegen.resources import generated_dir, specs_dir
from lincodegen.targets import from_device, load_target
from lincodegen.tune.candidates import OPTIONS, OTHERS, Model, Pool, first_choice, shortlist
from lincodegen.tune.kernels import op_kernels
from lincodegen.tune.neighbours import described_kernels, kernel_cuts, neighbours
from lincodegen.tune.records import Resources as Needs
from lincodegen.tune.shortlist import POINTS, Option, Shortlist

SM_90 = load_target("sm_90")
CHUNKED = [n for n in shipped_names() if kernel_cuts(generated_dir() / n)]


@pytest.mark.parametrize("op", CHUNKED)
def test_neighbours_of_every_shipped_default_make_a_space(op):
    found = neighbours(generated_dir() / op, op, 128, SM_90)
    space, starts = found.space(), found.starts()
    assert set(starts) <= set(space.points)
    assert len(space.points) <= POINTS
    default = found.config(starts[0])
    assert set(dict(default.kernels)) == set(kernel_cuts(generated_dir() / op))
    for _, config in default.kernels:
        assert config.chunk_size == default.chunk_size
    for start in starts:
        assert found.needs(found.config(start)).shared_bytes <= SM_90.shared_per_block
    changed = [found.config(p).kernels for p in starts if p[:2] == starts[0][:2]][1:]
    differences = [sum(a != b for a, b in zip(c, default.kernels, strict=True)) for c in changed]
    assert set(differences) == {1}


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_of_neighbours_one_a_scan_loads_through_descriptors(target):
    folder = generated_dir() / "gated_delta_rule"
    found = neighbours(folder, "gated_delta_rule", 128, load_target(target))
    assert described_kernels(folder) == {"scan_fwd", "states_fwd", "scan_bwd"}
    for options in found.chunks.values():
        for label, own in options.items():
            asking = [o.config for o in own if o.config.descriptors]
            expected = target == "sm_90" and label in described_kernels(folder)
            assert asking == [own[0].config._replace(descriptors=True)] * expected


def test_an_op_without_defaults_has_no_neighbours(tmp_path):
    with pytest.raises(TuningError, match="no table of defaults"):
        neighbours(tmp_path, "unknown", 128, SM_90)


def made_up(labels, depth):
    options = tuple(Option(Config(64, 64, 64, w, 1), Needs(w, w, 0)) for w in range(1, depth + 1))
    found = Shortlist("probe", {64: dict.fromkeys(labels, options)})
    return found.for_call(64, 1024, SM_90.multiprocessors)


def test_kernels_that_a_schedule_does_not_launch_keep_their_first_option():
    found = made_up(("output_fwd", "scan_bwd", "scan_fwd"), 3)
    points = found.space().points
    assert found.schedules == (("scan", 0), ("split", 0))
    assert len(points) == 2 * 3 * 3
    scan = {found.config(p) for p in points if found.config(p).schedule == "scan"}
    assert {dict(c.kernels)["output_fwd"].num_warps for c in scan} == {1}
    assert {dict(c.kernels)["scan_fwd"].num_warps for c in scan} == {1, 2, 3}


@pytest.mark.parametrize(
    ("heads", "tokens", "segments"),
    [(4, 65536, [64, 32, 16, 8]), (4, 4096, [16, 8]), (4, 1024, []), (132, 65536, [])],
)
def test_segments_are_tried_for_few_heads_of_long_sequences(heads, tokens, segments):
    """A segment is a third of a sequence at most, and heads leave processors idle."""
    options = {"scan_fwd": (Option(Config(64, 64, 64, 4, 1), Needs(0, 0, 0)),)}
    found = Shortlist("probe", {64: options}).for_call(heads, tokens, 132)
    configs = [found.config(p) for p in found.space().points]
    assert [c.segment_chunks for c in configs if c.schedule == "segment"] == segments
    assert {c.schedule for c in configs} >= {"scan", "split"}
    assert all(found.nearest(c) for c in configs)


def test_of_too_many_points_those_near_the_best_ranks_are_kept():
    found = made_up([f"k{i:02d}" for i in range(20)], 4)
    points = found.space().points
    changed = max(sum(r != 0 for r in ranks) for _, _, *ranks in points)
    assert changed == 2
    assert len(points) == 2 * (1 + 20 * 3 + math.comb(20, 2) * 9)


@pytest.fixture(scope="module")
def compiled():
    made = compile_spec(specs_dir() / "retention.yaml")
    call = CallSizes(1, 4096, 64)
    model = Model.of(plan_op(made.timeline, made.programs), made.programs, call, SM_90)
    return op_kernels("retention", made.programs), model


def resources(job, **changes):
    usual = Resources(128, 0, 40_000, 0, 8, 0, 0, 0, 0, 0, job.num_warps, 0.1, None)
    return replace(usual, **changes)


def test_what_spills_or_does_not_fit_is_dropped(compiled, tmp_path):
    """Two stages spill, tiles of 32 values do not fit, chunks of 128 do not compile."""

    def compiler(jobs, _=None):
        for job in jobs:
            if job.constexprs["BT"] == 128:
                yield resources(job, error="ptxas failed")
            elif job.num_stages == 2:
                yield resources(job, stack_bytes=512)
            elif job.constexprs.get("BV") == 32:
                yield resources(job, shared_bytes=SM_90.shared_per_block + 1)
            else:
                yield resources(job)

    pool = Pool(tmp_path / "kernels.py", 12, lambda jobs, _: tuple(compiler(jobs)))
    found = shortlist(*compiled, pool)
    assert list(found.chunks) == [64]
    for options in found.chunks[64].values():
        assert {o.config.num_stages for o in options}.isdisjoint({2})
        assert all(o.needs.shared_bytes == 40_000 for o in options)
    config = first_choice(found)
    assert config.schedule is None
    assert dict(config.kernels).keys() == found.chunks[64].keys()


def test_candidates_are_compiled_with_descriptors_too(compiled, tmp_path):
    """Every scan; of equal ones those with pointers come first, and both ways are options."""
    kernels, model = compiled
    asked = []

    def compiler(jobs, _bounds):
        asked.extend(jobs)
        return tuple(resources(job) for job in jobs)

    found = shortlist(kernels, model, Pool(tmp_path / "kernels.py", compiler=compiler))
    offered = {k.launch.label for k in kernels.kernels if k.launch.row_tiles}
    assert offered == {"scan_fwd", "states_fwd"}
    described = [j for j in asked if "tensordesc" in str(j.arguments)]
    assert len(described) == len(offered) * len(found.chunks) * Pool(tmp_path).candidates // 2
    for options in found.chunks.values():
        for label, own in options.items():
            ways = [o.config.descriptors for o in own]
            assert ways.count(False) <= OPTIONS + 2 * OTHERS
            assert ways.count(True) == (OTHERS if label in offered else 0)
            assert not ways[0]


def test_descriptors_that_keep_a_scan_from_spilling_come_first(compiled, tmp_path):
    kernels, model = compiled

    def compiler(jobs, _bounds):
        return tuple(
            resources(j, stack_bytes=0 if "tensordesc" in str(j.arguments) else 512) for j in jobs
        )

    found = shortlist(kernels, model, Pool(tmp_path / "kernels.py", compiler=compiler))
    chosen = dict(first_choice(found).kernels)
    assert {n for n, c in chosen.items() if c.descriptors} == {"scan_fwd", "states_fwd"}
    assert found.nearest(found.config(found.starts()[0])) == found.starts()[0]


def test_targets_without_descriptors_are_not_asked_for_them(compiled, tmp_path):
    kernels, usual = compiled
    model = Model(usual.kernels, usual.call, load_target("sm_80"))
    asked = []

    def compiler(jobs, _bounds):
        asked.extend(jobs)
        return tuple(resources(job) for job in jobs)

    shortlist(kernels, model, Pool(tmp_path / "kernels.py", compiler=compiler))
    assert asked
    assert "tensordesc" not in str([job.arguments for job in asked])


class Peculiar(Model):
    """Predicts that eight warps and small tiles are the fastest."""

    def seconds(self, label, config, compiled):
        return config.tile_k * config.tile_v / config.num_warps


def test_options_stand_in_the_order_of_their_predicted_times(compiled, tmp_path):
    kernels, usual = compiled
    model = Peculiar(usual.kernels, usual.call, usual.target)

    def compiler(jobs, _=None):
        return tuple(map(resources, jobs))

    found = shortlist(kernels, model, Pool(tmp_path / "kernels.py", 8, compiler))
    assert found.chunks.keys() == {64, 128}
    for options in found.chunks.values():
        for label, ranked in options.items():
            times = [model.seconds(label, o.config, None) for o in ranked]
            assert times == sorted(times)
        assert options["scan_fwd"][0].config.num_warps == 8
        assert {o.config.num_warps for o in options["scan_fwd"]} == {4, 8}


def test_where_nothing_fits_it_says_so(compiled, tmp_path):
    def compiler(jobs, _=None):
        return [resources(job, error="ptxas failed") for job in jobs]

    with pytest.raises(TuningError, match="no configuration fits on sm_90"):
        shortlist(*compiled, Pool(tmp_path / "kernels.py", 2, compiler))


def test_what_cannot_be_better_than_one_that_spilled_is_not_compiled(compiled, tmp_path):
    """With four warps and 64 values scans spill much: eight warps or fewer values stand in."""
    asked = []

    def compiler(jobs, bounds):
        made = []
        for job in jobs:
            much = job.num_warps == 4 and job.constexprs.get("BV", 0) >= 64
            made.append(resources(job, stack_bytes=2000 if much else 0))
            bounds.note(job, made[-1])
        asked.append(jobs)
        return made

    found = shortlist(*compiled, Pool(tmp_path / "kernels.py", 4, compiler))
    first, second = asked
    spilled = {
        (j.kernel_name, j.constexprs["BV"])
        for j in first
        if j.num_warps == 4 and j.constexprs.get("BV", 0) >= 64
    }
    assert spilled
    assert {job.constexprs["BT"] for job in second} == {128}
    for name, values in spilled:
        same = [j for j in second if j.kernel_name == name]
        assert same
        assert all(j.num_warps != 4 or j.constexprs["BV"] < values for j in same)
    assert found.chunks.keys() == {64, 128}


def test_a_gpu_that_no_file_lists_has_candidates_by_what_its_driver_says(compiled, tmp_path):
    """A consumer GPU with less shared memory: its own name is compiled for, its own limits hold."""
    kernels, usual = compiled
    driver = SimpleNamespace(
        name="NVIDIA GB10",
        major=12,
        minor=1,
        multi_processor_count=48,
        warp_size=32,
        shared_memory_per_block_optin=101_376,
        shared_memory_per_multiprocessor=102_400,
        regs_per_multiprocessor=65_536,
        max_threads_per_multi_processor=1536,
        L2_cache_size=25_165_824,
    )
    asked = []

    def compiler(jobs, _=None):
        asked.extend(jobs)
        return [
            resources(job, shared_bytes=101_377 if job.constexprs.get("BV") == 128 else 40_000)
            for job in jobs
        ]

    model = Model(usual.kernels, usual.call, from_device(driver))
    found = shortlist(kernels, model, Pool(tmp_path / "kernels.py", 12, compiler))
    assert {job.target.name for job in asked} == {"sm_121"}
    needs = [o.needs for options in found.chunks.values() for own in options.values() for o in own]
    assert needs
    assert all(need.shared_bytes == 40_000 for need in needs)
