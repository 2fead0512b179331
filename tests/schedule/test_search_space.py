"""The search space of kernels: on which targets a scan may load through descriptors."""

import pytest

from lincodegen.pipeline import compile_spec
from lincodegen.resources import specs_dir
from lincodegen.schedule.space import Extents, search_space
from lincodegen.targets import list_targets, load_target
from lincodegen.tune.kernels import op_kernels

SIZES = {"k": 64, "v": 64}


@pytest.fixture(scope="module", params=["gated_delta_rule", "gated_delta_product", "gla"])
def kernels(request):
    return op_kernels(request.param, compile_spec(specs_dir() / f"{request.param}.yaml").programs)


def space_of(kernel):
    described = bool(kernel.launch.row_tiles)
    return search_space(kernel.kernel, Extents(SIZES, kernel.slots, 2, described))


@pytest.mark.parametrize("target", list_targets())
def test_descriptors_are_chosen_only_where_the_hardware_has_them(kernels, target):
    able = load_target(target).descriptors
    for kernel in kernels.kernels:
        found = list(space_of(kernel).configs(load_target(target)))
        asking = [c for c in found if c.descriptors]
        assert len(asking) == (len(found) // 2 if kernel.launch.row_tiles and able else 0)
        assert all(type(c.descriptors) is bool for c in found)


def test_what_may_be_chosen_is_what_launchers_pass(kernels):
    described = set()
    for kernel in kernels.kernels:
        launch = kernels.text[kernels.text.index(f"{kernel.launch.name}[") :]
        passed = launch[: launch.index("num_stages")].count("rows_of(")
        assert passed == len(kernel.launch.row_tiles)
        assert not passed or kernel.kernel.carry is not None
        described |= {kernel.launch.label} if passed else set()
    assert "scan_fwd" in described


def test_a_choice_that_a_target_does_not_have_is_named(kernels):
    space = next(space_of(k) for k in kernels.kernels if k.launch.row_tiles)
    config = next(c for c in space.configs(load_target("sm_90")) if c.descriptors)
    reasons = space.broken(config, load_target("gfx942"))
    assert any("descriptors" in reason for reason in reasons)
