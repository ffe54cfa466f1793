"""Every way to learn: its formula, what of the network it reaches, and that nothing of it stays behind."""

import math

import pytest
import torch
from tiny_unet import CONTEXT, TinyDenoiser, TinyTextEncoder, same_bits, tiny_unet, training_config, training_data
from torch import nn

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import KINDS, Adapter, AdapterConfig, FullWeights, find_targets
from comfyui_personalize.core.learning.adapter.config import parse_block_ranks
from comfyui_personalize.core.training.config import TrainingOptions
from comfyui_personalize.core.training.presets import PRESETS
from comfyui_personalize.core.training.trainer import Trainer

ADAPTERS = [kind for kind in KINDS if kind != "full"]
LINEAR, CONV = nn.Linear(6, 8), nn.Conv2d(4, 8, 3, padding=1)


def config(kind, **changes):
    return AdapterConfig(kind=kind, **{"rank": 4, "alpha": 6.0, **changes})


def part(module, chosen, seed=0):
    if chosen.kind == "full":
        return FullWeights(module, chosen, {path: path for path, _ in module.named_modules()})
    return Adapter(module, chosen, seed)


def single(layer):
    """A network of one layer called `own`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
    return nn.ModuleDict({"own": layer})


def randomise(learned, size=0.3):
    generator = torch.Generator().manual_seed(1)
    learned.load_state_dict({name: value + size * torch.randn(value.shape, generator=generator)
                             for name, value in learned.state_dict().items()})
    return learned.state_dict()


def effective_weight(layer, width):
    """The matrix of a linear layer, whatever is around it."""
    with torch.no_grad():
        return (layer(torch.eye(width)) - layer(torch.zeros(1, width))).T


def formula(kind, weight, state, rank=4, alpha=6.0):
    """W' from the tensors, as the papers have it."""
    own = {name.removeprefix("own."): tensor for name, tensor in state.items()}
    if kind in ("lora", "rslora", "dora"):
        scale = alpha / (math.sqrt(rank) if kind == "rslora" else rank)
        moved = weight + scale * own["lora_B.weight"] @ own["lora_A.weight"]
        if kind != "dora":
            return moved
        return own["lora_magnitude_vector.weight"][:, None] * moved / moved.norm(dim=1, keepdim=True)
    if kind == "lokr":
        inner = own.get("lokr_w2")
        inner = own["lokr_w2_a"] @ own["lokr_w2_b"] if inner is None else inner
        return weight + alpha / rank * torch.kron(own["lokr_w1"], inner)
    if kind == "loha":
        return weight + alpha / rank * (own["hada_w1_a"] @ own["hada_w1_b"]) * (own["hada_w2_a"] @ own["hada_w2_b"])
    return weight @ rotation(own["oft_R.weight"], rank).T


def rotation(entries, size):
    """Block-diagonal Cayley transforms (I - Q)(I + Q)^-1 of skew matrices with these upper triangles."""
    blocks = []
    for row in entries:
        skew = torch.zeros(size, size)
        skew[tuple(torch.triu_indices(size, size, 1))] = row
        skew = skew - skew.T
        blocks.append((torch.eye(size) - skew) @ torch.linalg.inv(torch.eye(size) + skew))
    return torch.block_diag(*blocks)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_the_weight_is_the_papers_formula(kind):
    network = single(nn.Linear(8, 12))
    weight = network["own"].weight.detach().clone()
    state = randomise(learned := Adapter(network, config(kind, targets="own"), 0))
    expected = formula(kind, weight, state)
    torch.testing.assert_close(effective_weight(network["own"], 8), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(expected, weight, atol=0.05)
    learned.eject()


def test_an_oft_rotation_keeps_the_norm_of_every_row():
    network = single(nn.Linear(8, 12))
    before = network["own"].weight.norm(dim=1)
    randomise(Adapter(network, config("oft", targets="own"), 0))
    torch.testing.assert_close(effective_weight(network["own"], 8).norm(dim=1), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("targets", ["attention", "all"])
def test_new_ones_change_nothing_and_leave_nothing(kind, targets):
    unet = tiny_unet()
    modules = {path: id(module) for path, module in unet.named_modules()}
    before = {name: (id(value), value.requires_grad, value.detach().clone()) for name, value in unet.named_parameters()}
    inputs = torch.randn(1, 4, 8, 8), torch.tensor([500]), torch.randn(1, 7, CONTEXT)
    with torch.no_grad():
        plain = unet(*inputs).sample
        learned = part(unet, config(kind, targets=targets))
        tolerance = 1e-6 if kind in ("dora", "oft") else 0.0  # a norm divided by itself, a product with the identity
        torch.testing.assert_close(unet(*inputs).sample, plain, atol=tolerance, rtol=0)
        randomise(learned, 0.05)
        moved = unet(*inputs).sample
        learned.eject()
        assert torch.equal(unet(*inputs).sample, plain) and not torch.allclose(moved, plain, atol=1e-3)
        learned.inject()
        assert torch.equal(unet(*inputs).sample, moved)
        learned.eject()
    assert {path: id(module) for path, module in unet.named_modules()} == modules
    for name, value in unet.named_parameters():
        assert (id(value), value.requires_grad) == before[name][:2] and torch.equal(value, before[name][2])


@pytest.mark.parametrize("kind", KINDS)
def test_what_learns_is_float32_in_a_half_precision_network(kind):
    learned = part(tiny_unet().half(), config(kind))
    assert {parameter.dtype for parameter in learned.parameters()} == {torch.float32}
    assert all(parameter.isfinite().all() for parameter in learned.parameters())


@pytest.mark.parametrize("kind", ADAPTERS)
def test_the_seed_decides_the_start(kind):
    states = [Adapter(tiny_unet(), config(kind), seed).state_dict() for seed in (3, 3, 4)]
    assert same_bits(states[0], states[1])
    assert same_bits(states[0], states[2]) == (kind == "oft")  # it has nothing random


def run(chosen, steps=2, resume_at=None, **options):
    """A trainer's weights after some steps, and its network."""
    settings = training_config(steps=steps, text_encoder_rate=1e-3, **options)
    settings = type(settings)(**{**vars(settings), "options": type(settings.options)(
        **{**vars(settings.options), "adapter": chosen})})
    state = None
    while True:
        trainer = Trainer(denoiser=TinyDenoiser(), text_encoder=TinyTextEncoder(), data=training_data(),
                          config=settings)
        with trainer:
            if state is not None:
                trainer.load_state(*state)
            for step in trainer.steps():
                if step.step == resume_at and state is None:
                    state = trainer.state()
                    break
            else:
                return trainer.state()[0], trainer


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_the_intended_parameters_get_a_gradient(kind):
    chosen = config(kind, targets="attention", alpha=4.0)
    before = {name: value.clone() for name, value in part(TinyDenoiser().module, chosen).state_dict().items()}
    state, trainer = run(chosen, steps=3)
    after = {name.removeprefix("denoiser."): value for name, value in state.items() if name.startswith("denoiser.")}
    assert all(not torch.equal(after[name], value) for name, value in before.items())
    assert all(value.grad is None for value in trainer.denoiser.module.parameters())
    assert any(name.startswith("text_encoder.") for name in state)


@pytest.mark.parametrize("kind", ["dora", "lokr", "full"])
def test_a_resumed_run_ends_with_the_same_bits(kind):
    chosen = config(kind, targets="attention")
    assert same_bits(run(chosen, 4)[0], run(chosen, 4, resume_at=2)[0])


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("targets", ["cross_attention_kv", "attention_and_feed_forward", "all"])
def test_every_kind_resumes_in_every_target(kind, targets):
    chosen = config(kind, targets=r".*attn.*\.to_k|self_attn\.q_proj" if targets == "cross_attention_kv" else targets)
    assert same_bits(run(chosen, 3)[0], run(chosen, 3, resume_at=1)[0])


# Targets and ranks

def test_all_layers_are_linear_and_convolutions_but_no_norms():
    layers = find_targets(tiny_unet(), config("lora", targets="all"))
    assert all(isinstance(layer, nn.Linear | nn.Conv2d) for layer in layers.values())
    assert {"conv_in", "conv_out", "time_embedding.linear_1"} <= layers.keys()
    assert not any("norm" in path.rpartition(".")[2] for path in layers)


def test_all_weights_are_every_parameter_there_is():
    unet = tiny_unet()
    learned = part(unet, config("full", targets="all"))
    assert set(learned.paths) == {name for name, _ in unet.named_parameters()}
    assert sum(parameter.numel() for parameter in learned.parameters()) == sum(
        parameter.numel() for parameter in unet.parameters())


def test_tied_weights_train_as_one():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    module = nn.ModuleDict({"first": first, "second": second})
    learned = part(module, config("full", targets="all"))
    assert module["first"].weight is module["second"].weight and len(learned.parameters()) == 3
    learned.eject()
    assert module["first"].weight is module["second"].weight


def test_oft_leaves_out_convolutions_wider_than_one():
    layers = find_targets(tiny_unet(), config("oft", targets="all"))
    assert {layer.kernel_size for layer in layers.values() if isinstance(layer, nn.Conv2d)} <= {(1, 1)}


def test_a_weight_that_did_not_move_is_not_in_the_file():
    network = single(nn.Linear(3, 3))
    learned = part(network, config("full", targets="all"))
    assert learned.export({"own": "key"}) == {}
    with torch.no_grad():
        network["own"].bias += 1
    assert list(learned.export({"own": "key"})) == ["key.diff_b"]
    torch.testing.assert_close(learned.export({"own": "key"})["key.diff_b"], torch.ones(3))


def test_the_difference_of_half_precision_weights_is_stored_in_half():
    network = single(nn.Linear(3, 3)).half()
    base = network["own"].weight.detach().clone()
    learned = part(network, config("full", targets="all"))
    randomise(learned, 0.01)
    difference = learned.export({"own": "key"})["key.diff"]
    assert difference.dtype == torch.float16
    torch.testing.assert_close(base.float() + difference.float(), network["own"].weight.detach(), atol=2e-5, rtol=0)


def test_ranks_by_block_are_read_from_a_text():
    assert parse_block_ranks("middle=8, output = 32\n\nattn{1,2}\\.to_k=0") == {
        "middle": 8, "output": 32, "attn{1,2}\\.to_k": 0}
    chosen = config("lora", block_ranks="mid=2, up=0")
    assert chosen.ranks_of(["mid_block.to_q", "up_blocks.0.to_q", "down.to_q"]) == {
        "mid_block.to_q": 2, "up_blocks.0.to_q": 0, "down.to_q": 4}


def test_the_first_of_two_entries_that_are_found_counts():
    assert config("lora", block_ranks="mid.*to_q=2, mid=3").ranks_of(["mid.to_q", "mid.to_k"]) == {
        "mid.to_q": 2, "mid.to_k": 3}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_every_block_has_its_own_rank(kind):
    learned = Adapter(tiny_unet(), config(kind, block_ranks="mid=2, up=0"), 0)
    assert any("mid_block" in path for path in learned.paths) and not any("up_blocks" in path for path in learned.paths)
    ranks = {path: next(iter(learned.module.get_submodule(path).r.values())) for path in learned.paths}
    if kind != "oft":  # whose r is the number of blocks
        assert all(rank == (2 if "mid" in path else 4) for path, rank in ranks.items())


@pytest.mark.parametrize(("fields", "message"), [
    ({"block_ranks": "middle"}, "block_ranks: got 'middle', expected entries such as middle=8"),
    ({"block_ranks": "middle=-1"}, "block_ranks: got 'middle=-1'"),
    ({"block_ranks": "(=3"}, "block_ranks: .* cannot be read"),
    ({"kind": "full", "block_ranks": "middle=3"}, "block_ranks: got 'middle=3', expected nothing with the kind full"),
])
def test_a_config_refuses(fields, message):
    with pytest.raises(InputError, match=message):
        AdapterConfig(**fields)


@pytest.mark.parametrize(("changes", "message"), [
    ({"kind": "lora", "block_ranks": "nowhere=3"}, "block_ranks: got 'nowhere', which is in no trained layer's path"),
    ({"kind": "oft", "rank": 3}, r"rank: got 3, expected a block size above 1 that divides 32, the inputs of layer"),
    ({"kind": "oft", "rank": 1}, "rank: got 1, expected a block size above 1"),
])
def test_a_network_refuses(changes, message):
    from comfyui_personalize.core.learning.adapter import find_all_targets

    with pytest.raises(InputError, match=message):
        find_all_targets({"unet": tiny_unet()}, {"unet": AdapterConfig(**changes)})


def test_a_block_that_only_one_of_two_networks_has_is_known():
    from comfyui_personalize.core.learning.adapter import find_all_targets

    chosen = config("lora", block_ranks="mid_block=2")
    modules = {"unet": tiny_unet(), "text": TinyTextEncoder().module}
    assert find_all_targets(modules, dict.fromkeys(modules, chosen)).keys() == modules.keys()


@pytest.mark.parametrize("kind", ["dora", "oft", "full"])
def test_weights_of_8_bits_are_refused_where_they_cannot_hold_the_change(kind):
    module = single(nn.Linear(4, 4)).to(torch.float8_e4m3fn)
    with pytest.raises(InputError, match=f"got {kind}, and layer own is stored in 8 bits, expected lora"):
        find_targets(module, config(kind, targets="own"))
    assert find_targets(module, config("lora", targets="own"))


# Presets

def test_presets_are_the_papers_settings():
    assert {name: preset.options.adapter.kind for name, preset in PRESETS.items()} == {
        "textual_inversion": "lora", "dreambooth": "full", "custom_diffusion": "full", "lora": "lora",
        "ed_lora": "lora", "ico": "full", "one_shot": "lora"}
    assert not PRESETS["textual_inversion"].options.trains_denoiser
    assert PRESETS["dreambooth"].options.adapter.targets == "all"
    assert {PRESETS[name].options.adapter.targets for name in ("custom_diffusion", "ico")} == {"cross_attention_kv"}
    assert PRESETS["ed_lora"].options.text_encoder_rate > 0 and PRESETS["lora"].options == TrainingOptions()
    assert (PRESETS["one_shot"].steps, PRESETS["one_shot"].learning_rate) == (100, 1e-4)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_belongs_to_it(name):
    lines = PRESETS[name].describe().splitlines()
    assert f"steps {PRESETS[name].steps}, learning_rate" in lines[1] and "text encoder: " in lines[1]
    assert len(lines) == 4 and lines[2].startswith("Connect: ") and lines[3].startswith("Source: ")
