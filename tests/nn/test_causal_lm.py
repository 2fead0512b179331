"""The language model: decoding, padding, training, storing, compiling."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mixers import EVERY_RULE, VOCABULARY, assert_near, small_model
from torch.nn import functional

from lincodegen.nn import Cache, CausalLM


def tokens(batch, length, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (batch, length), generator=generator)


@pytest.mark.parametrize("name", EVERY_RULE)
@torch.no_grad()
def test_generation_is_that_without_a_cache(name):
    model, start = small_model(name), tokens(2, 7)
    wanted = start
    for _ in range(5):
        wanted = torch.cat((wanted, model(wanted)[:, -1].argmax(-1, keepdim=True)), 1)
    assert torch.equal(model.generate(start, 5), wanted)


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_nothing_depends_on_padding(side):
    model, lengths, width = small_model("gated_delta_rule"), (3, 8, 1), 8
    real = [tokens(1, n, seed=n) for n in lengths]
    place = torch.arange(width)
    sizes = torch.tensor(lengths)[:, None]
    mask = place >= width - sizes if side == "left" else place < sizes
    found = []
    for filler in (0, 5):
        padded = torch.full((len(lengths), width), filler)
        padded[mask] = torch.cat(real, 1)[0]
        cache = Cache()
        logits = model(padded, cache, mask=mask)
        follow = torch.cat([logits, model(torch.full((3, 1), 4), cache)], 1)
        found.append((follow, model.generate(padded, 4, mask=mask)[:, width:]))
    assert torch.equal(found[0][0], found[1][0])
    for i, alone in enumerate(real):
        assert_near(found[0][0][i, :width][mask[i]], model(alone)[0])
        follow = model(torch.cat((alone, torch.tensor([[4]])), 1))[0, -1]
        assert_near(found[0][0][i, width], follow)
        for _, generated in found:
            assert torch.equal(generated[i], model.generate(alone, 4)[0, lengths[i] :])
    assert (found[0][0][:, :width][~mask] == 0).all()


def test_sampling_and_the_stop_token():
    model, start = small_model("gla"), tokens(2, 3)
    drawn = [
        model.generate(start, 6, temperature=1.0, generator=torch.Generator().manual_seed(s))
        for s in (0, 0, 1)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    greedy = model.generate(start, 6)
    cold = torch.Generator().manual_seed(0)
    assert torch.equal(model.generate(start, 6, temperature=1e-6, generator=cold), greedy)
    stop = int(greedy[0, 3])
    ended = model.generate(start[:1], 6, stop=stop)
    assert ended.tolist() == greedy[:1, :4].tolist()
    both = model.generate(start, 6, stop=stop)
    assert (both[0, 3:] == stop).all()
    assert model.generate(start, 0).tolist() == start.tolist()


def trained(model, steps):
    """Losses of repeating the token before the last one."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for step in range(steps):
        batch = tokens(16, 2, seed=step).repeat(1, 12)
        logits = model(batch[:, :-1])
        loss = functional.cross_entropy(logits[:, 2:].flatten(0, 1), batch[:, 3:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["kda", "mamba2", "rwkv7", "hgrn2", "gsa"])
def test_a_model_learns(name):
    torch.manual_seed(0)
    sizes = {"K": 16} if name == "mamba2" else {}
    model = CausalLM(name, vocabulary=VOCABULARY, width=32, heads=2, layers=2, **sizes)
    losses = trained(model, 40)
    assert losses[0] == pytest.approx(torch.tensor(float(VOCABULARY)).log().item(), rel=0.1)
    assert losses[-1] < 0.6 * losses[0]


def test_checkpoints_give_the_same_gradients():
    found = []
    for checkpointing in (False, True):
        model = small_model("kda").train()
        model.checkpointing = checkpointing
        model(tokens(2, 9)).square().sum().backward()
        found.append([x.grad for x in model.parameters()])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@torch.no_grad()
def test_a_stored_model_is_the_same(tmp_path):
    model = small_model("hgrn2")
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other = CausalLM("hgrn2", vocabulary=VOCABULARY, width=24, heads=2, layers=2)
    assert not torch.equal(other(tokens(1, 5)), model(tokens(1, 5)))
    other.load_state_dict(torch.load(tmp_path / "model.pt"))
    assert torch.equal(other(tokens(1, 5)), model(tokens(1, 5)))


def test_layers_share_what_a_rule_says():
    model = small_model("hgrn2")
    first, second = (block.mixer.learned["bounds"] for block in model.blocks)
    assert first is second
    model(tokens(1, 5)).sum().backward()
    assert first.grad.abs().max() > 0


def test_weights_of_the_residual_stream_start_smaller():
    torch.manual_seed(0)
    model = CausalLM("delta_rule", vocabulary=99, width=96, heads=2, layers=8)
    block = model.blocks[3]
    deviations = [w.std().item() for w in (block.up.weight, block.down.weight)]
    assert deviations == pytest.approx([0.02, 0.005], rel=0.05)
    assert block.mixer.out.weight.std().item() == pytest.approx(0.005, rel=0.05)


@pytest.mark.parametrize(("name", "offsets"), [("gated_delta_rule", (0, 4, 9)), ("rwkv7", None)])
def test_compiled(name, offsets):
    model = small_model(name, layers=1)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    call = (tokens(2, 9),) if offsets is None else (tokens(1, 9), None, torch.tensor(offsets))
    wanted = model(*call)
    found = compiled(*call)
    assert_near(found, wanted)
    found.square().sum().backward()
    assert all(x.grad.isfinite().all() for x in model.parameters())


def asked(*arguments, **options):
    return small_model("gla").generate(*arguments, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: asked(tokens(1, 0), 1), r"the shape \[1, 0\]; expected: \[B, T\], T at least 1"),
        (lambda: asked(tokens(1, 2), -1), "max_new_tokens = -1; expected: 0 or more"),
        (lambda: asked(tokens(1, 2), 1, temperature=-1.0), "temperature = -1.0"),
        (lambda: asked(tokens(1, 2), 1, mask=torch.zeros(1, 2)), "a sequence is all padding"),
        (lambda: asked(tokens(1, 2), 1, mask=torch.ones(2)), r"the mask has the shape \[2\]"),
        (lambda: small_model("gla")(torch.zeros(1, 2)), r"the shape \[1, 2\] in float32"),
        (
            lambda: small_model("gla")(tokens(1, 2), None, torch.tensor([0, 2]), torch.ones(1, 2)),
            "mask and cu_seqlens; expected: one of them",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_readme_s_example_runs():
    readme = Path(__file__).resolve().parents[2] / "README.md"
    blocks = re.findall(r"^```python\n(.*?)^```$", readme.read_text(), re.MULTILINE | re.DOTALL)
    (block,) = (b for b in blocks if "lincodegen.nn" in b)
    names = {}
    exec(block, names)
    assert names["logits"].shape == (2, 16, 1000)
    assert names["longer"].shape == (2, 24)


def test_nothing_imports_the_modules_unasked():
    code = "import sys, lincodegen; sys.exit('lincodegen.nn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
