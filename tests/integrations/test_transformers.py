import importlib
import importlib.util
import sys

import pytest
import torch
from tiny_models import MODELS, VOCABULARY

from lincodegen.integrations import patch_transformers

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install lincodegen[hf]"
)
transformers.logging.set_verbosity_error()
if importlib.util.find_spec("fla") is not None:
    pytest.skip("models call flash-linear-attention, not their own path", allow_module_level=True)

TOLERANCE = 1e-5
FUNCTIONS = {
    "qwen3_next": ("torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"),
    "kimi_linear": ("chunk_kimi_delta_attention", "recurrent_kimi_delta_attention"),
}


@pytest.fixture(params=MODELS)
def model(request):
    if importlib.util.find_spec(f"transformers.models.{request.param}") is None:
        pytest.skip(f"transformers {transformers.__version__} has no {request.param}")
    return MODELS[request.param].make()


def tokens(batch: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, VOCABULARY, (batch, length), generator=generator)


def logits_and_gradients(model) -> dict[str, torch.Tensor]:
    """The logits and the gradient of every parameter, of a sequence longer than a chunk."""
    ids = tokens(1, 67)
    model.zero_grad()
    result = model(ids, labels=ids)
    result.loss.backward()
    found = {n: x.grad.clone() for n, x in model.named_parameters() if x.grad is not None}
    return {"logits": result.logits.detach(), **found}


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm()) if b.any() else float(a.norm())


def module_of(name: str):
    return importlib.import_module(f"transformers.models.{name}.modeling_{name}")


def test_logits_and_gradients_are_those_of_the_models_own_path(model):
    own = logits_and_gradients(model)
    with patch_transformers():
        ours = logits_and_gradients(model)
    errors = {name: relative(ours[name], own[name]) for name in own}
    assert ours.keys() == own.keys()
    assert max(errors.values()) < TOLERANCE, max(errors.items(), key=lambda x: x[1])
    assert any(e > 0 for e in errors.values()), "the ops were not called"


def test_generation_with_a_cache_gives_the_same_tokens(model):
    ids = tokens(2, 9)
    settings = {"max_new_tokens": 20, "do_sample": False, "return_dict_in_generate": True}
    own = model.generate(ids, output_logits=True, **settings)
    with patch_transformers():
        ours = model.generate(ids, output_logits=True, **settings)
    assert torch.equal(own.sequences, ours.sequences)
    assert relative(torch.stack(ours.logits), torch.stack(own.logits)) < TOLERANCE


@pytest.mark.parametrize("name", FUNCTIONS)
def test_undo_restores_the_originals(name):
    module = module_of(name)
    before = [vars(module)[x] for x in FUNCTIONS[name]]
    patch = patch_transformers()
    assert not any(vars(module)[x] is y for x, y in zip(FUNCTIONS[name], before, strict=True))
    assert f"transformers.models.{name}.modeling_{name}.{FUNCTIONS[name][0]}" in patch.replaced
    with patch_transformers() as second:
        assert not second.replaced
    patch.undo()
    patch.undo()
    assert all(vars(module)[x] is y for x, y in zip(FUNCTIONS[name], before, strict=True))


def test_the_originals_are_back_after_an_error():
    module = module_of("qwen3_next")
    before = module.torch_chunk_gated_delta_rule
    with pytest.raises(RuntimeError, match="stop"), patch_transformers():
        raise RuntimeError("stop")
    assert module.torch_chunk_gated_delta_rule is before


def test_functions_that_layers_hold_are_replaced_and_put_back():
    module = module_of("qwen3_next")
    original = module.torch_chunk_gated_delta_rule
    old, new = torch.nn.Identity(), torch.nn.Identity()
    old.chunk_gated_delta_rule = original
    with patch_transformers():
        assert old.chunk_gated_delta_rule is module.torch_chunk_gated_delta_rule is not original
        new.chunk_gated_delta_rule = module.torch_chunk_gated_delta_rule
    assert old.chunk_gated_delta_rule is original
    assert new.chunk_gated_delta_rule is original


def arguments(name: str, length: int, dtype: torch.dtype) -> tuple[list, dict]:
    """Arguments of a module's function; the gated delta rule's q and k have half the heads."""
    generator = torch.Generator().manual_seed(2)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(1, length, *shape, generator=generator)

    heads = 2 if name == "qwen3_next" else 4
    q, k, v = draw(heads, 16), draw(heads, 16), draw(4, 24)
    g = -draw(4).abs() if name == "qwen3_next" else -draw(4, 16).abs()
    beta = draw(4).sigmoid().to(dtype)
    return [x.to(dtype) for x in (q, k, v)], {"g": g, "beta": beta}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("length", [1, 21])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_results_have_the_types_of_the_originals(name, normalise, length, dtype):
    module = module_of(name)
    qkv, gates = arguments(name, length, dtype)
    qkv[1] = torch.nn.functional.normalize(qkv[1], dim=-1)
    state = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(3))
    originals = {x: vars(module)[x] for x in FUNCTIONS[name]}
    with patch_transformers():
        pairs = [(original, vars(module)[x]) for x, original in originals.items()]
    for original, replacement in pairs:
        chunks = {"chunk_size": 16} if "chunk" in original.__name__ else {}
        for output_final_state in (True, False):
            options = gates | {
                "initial_state": state.clone(),
                "output_final_state": output_final_state,
                "use_qk_l2norm_in_kernel": normalise,
                "use_cache": True,
            }
            with torch.no_grad():
                own = original(*qkv, **chunks, **options)
                ours = replacement(*qkv, **chunks, **options)
            assert torch.equal(options["initial_state"], state)
            assert (own[1] is None) == (ours[1] is None) == (not output_final_state)
            bound = 1e-2 if dtype == torch.bfloat16 else TOLERANCE
            for a, b in zip(ours, own, strict=True):
                if b is not None:
                    assert (a.dtype, a.shape) == (b.dtype, b.shape)
                    assert a.is_contiguous()
                    assert relative(a.double(), b.double()) < bound


@pytest.mark.parametrize("name", FUNCTIONS)
def test_packed_sequences_are_kept_apart(name):
    module, chunked = module_of(name), FUNCTIONS[name][0]
    qkv, gates = arguments(name, 40, torch.float32)
    offsets = [0, 0, 17, 40]
    options = {"output_final_state": True, "use_qk_l2norm_in_kernel": True}
    with patch_transformers():
        packed, states = vars(module)[chunked](
            *qkv, **gates, **options, cu_seqlens=torch.tensor(offsets, dtype=torch.int32)
        )
    for n, (start, stop) in enumerate([(0, 17), (17, 40)], 1):
        parts = [x[:, start:stop] for x in qkv], {x: y[:, start:stop] for x, y in gates.items()}
        output, state = vars(module)[chunked](*parts[0], **parts[1], **options, chunk_size=16)
        assert relative(packed[:, start:stop], output) < TOLERANCE
        assert relative(states[n : n + 1], state) < TOLERANCE


def test_every_file_with_one_of_the_functions_is_found():
    with patch_transformers() as patch:
        replaced = set(patch.replaced)
    loaded = {n: m for n, m in sys.modules.items() if ".modeling_" in n and "transformers." in n}
    names = {x for pair in FUNCTIONS.values() for x in pair}
    assert {f"{n}.{x}" for n, m in loaded.items() for x in names & vars(m).keys()} == replaced
