"""Costs of every shipped op on every target: printed, as JSON, with longer sequences."""

import json
from itertools import pairwise

import pytest

from lincodegen.cost.report import cost_text, kept_bytes
from lincodegen.errors import SpecError
from lincodegen.loading import shipped_names
from lincodegen.pipeline import check, cost
from lincodegen.resources import defaults_dir, specs_dir
from lincodegen.targets import list_targets

RECORDED = sorted(path.stem for path in defaults_dir().glob("*.json"))
DIRECTION = {
    "kernels": int,
    "bytes": float,
    "bytes_with_rereads": float,
    "least_bytes": float,
    "seconds": float,
    "roof_seconds": float,
    "launches": list,
    "touched_again": dict,
}
LAUNCH = {
    "label": str,
    "kernel": (dict, type(None)),
    "bytes": float,
    "bytes_with_rereads": float,
    "tensors": list,
    "seconds": float,
    "limit": str,
    "limits": dict,
}
KERNEL = {
    "config": dict,
    "compiled": (dict, type(None)),
    "spilled_bytes": float,
    "programs": int,
    "resident": (int, type(None)),
    "rounds": (int, type(None)),
    "chunks_in_a_row": int,
    "products_of_a_chunk": int,
    "dots": dict,
    "dots_once": dict,
    "vector": float,
    "exp2": float,
}
TENSOR = {"tensor": str, "bytes": float, "bytes_with_rereads": float, "written": bool}
LIMITS = ["memory", "tensor cores", "issue", "serial chain"]


def report(name, target, **sizes):
    return cost(specs_dir() / f"{name}.yaml", target, sizes)


def has_shape(found, shape):
    return list(found) == list(shape) and all(isinstance(found[k], t) for k, t in shape.items())


@pytest.mark.parametrize("target", list_targets())
def test_every_op_prints_on_every_target(target):
    for name in shipped_names():
        found = report(name, target)
        text, directions = str(found), found.cost.directions
        assert text.startswith(f"{name} on {target} (")
        assert all(x.label in text for d in directions for x in d.launches)
        assert all(0 < d.roof <= d.seconds for d in directions), name
        known = target in RECORDED
        kernels = [x.kernel for d in directions for x in d.kernels]
        assert all((k.default.compiled is not None) == (k.resident is not None) for k in kernels)
        assert not known or all(k.default.compiled.target == target for k in kernels)
        assert known or f"no compile record for {target}" in text


@pytest.mark.parametrize("name", shipped_names())
def test_json_keeps_its_shape(name):
    found = json.loads(json.dumps(report(name, "sm_90").to_json(), allow_nan=False))
    assert list(found) == ["op", "target", "device", "sizes", "directions", "kept", "notes"]
    assert list(found["directions"]) == ["forward", "backward"]
    for direction in found["directions"].values():
        assert has_shape(direction, DIRECTION)
        for launch in direction["launches"]:
            assert has_shape(launch, LAUNCH)
            assert list(launch["limits"]) == LIMITS
            assert all(has_shape(tensor, TENSOR) for tensor in launch["tensors"])
            assert launch["kernel"] is None or has_shape(launch["kernel"], KERNEL)


@pytest.mark.parametrize(
    ("name", "inverse", "states"),
    [
        # per token and head of 64-token chunks in 16 bits: A; h [128, 128] a chunk, z
        ("delta_rule", 128, 128 + 512 + 256),
        # a backward of one launch needs no states
        ("retention", 0, 0),
        # two squares; three decayed operands, and the decay of a chunk in 32 bits
        ("kda", 256, 256 + 512 + 256 + 3 * 256 + 8),
    ],
)
def test_what_a_forward_keeps_is_counted(name, inverse, states):
    found = report(name, "sm_90", tokens=8192)
    kept = {
        keep: size / found.cost.sizes.token_heads for keep, size in kept_bytes(found.cost).items()
    }
    assert kept == {"nothing": 0, "inverse": inverse, "states": states}
    assert f"nothing 0, inverse {inverse}, states {states} bytes" in str(found)


@pytest.mark.parametrize("name", shipped_names())
def test_costs_grow_with_the_sequence(name):
    costs = [report(name, "sm_90", tokens=tokens).cost for tokens in (1, 64, 1000, 8192, 65536)]
    for shorter, longer in pairwise(costs):
        for before, after in zip(shorter.directions, longer.directions, strict=True):
            assert before.bytes < after.bytes
            assert before.moved <= after.moved
            assert before.seconds <= after.seconds
            assert before.bytes <= before.moved


def test_bytes_of_a_token_do_not_depend_on_batch_and_heads():
    one, many = (report("kda", "sm_90", batch=b, heads=h).cost for b, h in ((3, 64), (6, 128)))
    for first, second in zip(one.directions, many.directions, strict=True):
        assert first.bytes / one.sizes.token_heads == second.bytes / many.sizes.token_heads


def test_what_no_file_knows_is_said():
    text = str(report("delta_rule", "gfx950"))
    assert "exponentials are not timed" in text
    assert "serial chains are not timed" in text
    assert "serial chain unknown" in text
    assert "occupancy from that of gfx942" in text
    assert "compiled: no record" in str(report("delta_rule", "sm_90", size=64))
    assert "compiled: no record" in str(report("gsa", "sm_90", dims={"M": 64}))
    for dtype in ("fp16", "fp32"):
        assert "occupancy unknown" in str(report("delta_rule", "sm_90", dtype=dtype))


def test_an_unknown_dimension_is_an_error_that_names_the_known_ones():
    with pytest.raises(SpecError, match=r"retention\.yaml: no dimension is called 'W'.*K, V"):
        report("retention", "sm_90", dims={"W": 64})


def test_a_spec_without_a_chunked_form_has_no_cost(tmp_path):
    path = tmp_path / "nonlinear.yaml"
    text = (specs_dir() / "linear_attention.yaml").read_text()
    path.write_text(text.replace("S += outer(k, v)", "S = tanh(S) + outer(k, v)"))
    assert "runs token by token" in str(check(path))
    assert cost(path, "sm_90", {}) is None


def test_a_tensor_of_several_launches_is_named_with_what_it_adds():
    found = report("gated_delta_rule", "sm_90").cost
    again = found.forward.touched_again()
    assert again["k"] == (("prep_fwd", "scan_fwd"), 256 * found.sizes.token_heads)
    assert "v" not in again
    assert "k +256: prep_fwd, scan_fwd" in cost_text(found)
