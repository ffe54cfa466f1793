"""What DCI works with: every case samples a graph, and `docs/dci_compatibility.md` is written from the same list.

A case is a function of MODEL, positive, negative and CLIP to latents. What works must, with DCI's mixing taken out,
equal the same graph without DCI (the patch does to a picture what it always does), and differ from it with the mixing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import comfy.controlnet
import comfy.hooks
import nodes as stock
import torch
from comfy.cldm.cldm import ControlNet
from comfy.ldm.modules.attention import optimized_attention
from comfy_extras import (
    nodes_apg,
    nodes_attention_multiply,
    nodes_cfg,
    nodes_context_windows,
    nodes_differential_diffusion,
    nodes_easycache,
    nodes_eps,
    nodes_freelunch,
    nodes_fresca,
    nodes_hooks,
    nodes_hypertile,
    nodes_mahiro,
    nodes_model_advanced,
    nodes_model_downscale,
    nodes_nag,
    nodes_pag,
    nodes_perpneg,
    nodes_sag,
    nodes_tcfg,
    nodes_tomesd,
)
from comfy_extras import nodes_custom_sampler as custom
from dci_rig import empty_latent, encode, steps_in_window
from dci_rig import ksample as ksample_8
from tiny_model import UNET_SHAPE, random_weights
from torch import Tensor

STEPS = 4  # one of them in the window
ksample = functools.partial(ksample_8, steps=STEPS)
Sample = Callable[[Any, list, list, Any], Tensor]
RANDOM = "draws at random in every call, so pictures with and without DCI differ by that too"
TEXT_KEY = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        group: heading of its table.
        node: what the user connects.
        sample: the graph.
        refused: what the error says, or '' where it works.
        note: what to know.
        exact: equal without mixing; not where a patch draws at random.
    """

    group: str
    node: str
    sample: Sample
    refused: str = ""
    note: str = ""
    exact: bool = True


def cases() -> list[Case]:
    """Every row."""
    return [*samplers(), *conditionings(), *latents(), *patches()]


def samplers() -> Iterator[Case]:
    group = "Samplers and guiders"

    def case(node: str, sample: Sample, note: str = "") -> Case:
        return Case(group, node, sample, note=note)

    def guided(guider: Callable[..., Any]) -> Sample:
        return lambda m, p, n, c: custom_sample(m, guider(m, p, n, c))

    yield case("KSampler", lambda m, p, n, c: ksample(m, p, n),
               "every sampler in ComfyUI's list; with seed_exact each draws for your picture what it draws without "
               "DCI, but dpm_adaptive chooses its steps by all rows")
    yield case("KSampler (Advanced), in stages", lambda m, p, n, c: stages(m, p, n),
               "the stages equal one run when the switch is after the window; a stage that starts inside it without "
               "added noise starts its auxiliary picture as a copy of yours")
    yield case("SamplerCustom", lambda m, p, n, c: custom.SamplerCustom.execute(
        m, True, 3, 4.0, p, n, *sampler_and_sigmas(m), empty_latent()).args[0]["samples"])
    yield case("SamplerCustomAdvanced with CFGGuider", guided(lambda m, p, n, c: custom.CFGGuider.execute(
        m, p, n, 4.0)))
    yield case("… with BasicGuider", guided(lambda m, p, n, c: custom.BasicGuider.execute(m, p)),
               "no negative prompt: 2 rows per step in the window instead of 1")
    yield case("… with DualCFGGuider", guided(lambda m, p, n, c: custom.DualCFGGuider.execute(
        m, p, encode(c, "times square"), n, 4.0, 2.0, "regular")), "one of the two prompts from DCI or both")
    yield case("… with PerpNegGuider", guided(lambda m, p, n, c: nodes_perpneg.PerpNegGuider.execute(
        m, p, n, encode(c, "blurry"), 4.0, 1.0)), "its projection is each branch's own")
    yield case("… with DualModelGuider", guided(lambda m, p, n, c: custom.DualModelGuider.execute(m, p, 4.0, m, n)),
               "DCI on the model of the positive prompt")


def conditionings() -> Iterator[Case]:
    group = "Between the conditioning and the sampler"

    def case(node: str, change: Callable[[list, list, Any], Any], refused: str = "", note: str = "") -> Case:
        def sample(m: Any, p: list, n: list, clip: Any) -> Tensor:
            changed = change(p, n, clip)
            positive, negative = changed if isinstance(changed, tuple) else (changed, n)
            return ksample(m, positive, negative, empty_latent(2))

        return Case(group, node, sample, refused, note)

    whole = torch.ones(1, 64, 64)
    half = torch.cat([torch.ones(1, 64, 32), torch.zeros(1, 64, 32)], dim=2)
    text = "whose text another node changed"
    yield case("Combine with a plain prompt", lambda p, n, c: p + boat(c), note="the plain prompt is in both branches")
    yield case("Concat, DCI as conditioning_to", lambda p, n, c: stock.ConditioningConcat().concat(p, boat(c))[0],
               note="both branches read the added text, which counts in neither mask")
    yield case("Average", lambda p, n, c: stock.ConditioningAverage().addWeighted(p, boat(c), 0.5)[0], text,
               "a mean of two prompts has no token positions")
    yield case("Zero Out", lambda p, n, c: stock.ConditioningZeroOut().zero_out(p)[0], text,
               "nothing is left of the text")
    yield case("Set Area", lambda p, n, c: stock.ConditioningSetArea().append(p, 64, 32, 0, 0, 1.0)[0] + boat(c),
               note="the masks are made inside the area")
    yield case("Set Area with Percentage", lambda p, n, c: stock.ConditioningSetAreaPercentage().append(
        p, 1.0, 0.5, 0.0, 0.5, 1.0)[0] + boat(c))
    yield case("Set Area Strength", lambda p, n, c: stock.ConditioningSetAreaStrength().append(p, 0.7)[0] + boat(c))
    yield case("Set Mask", lambda p, n, c: stock.ConditioningSetMask().append(p, half, "default", 1.0)[0] + boat(c))
    yield case("Set Mask with bounds", lambda p, n, c: stock.ConditioningSetMask().append(
        p, whole, "mask bounds", 1.0)[0] + boat(c))
    yield case("Set Timestep Range", lambda p, n, c: stock.ConditioningSetTimestepRange().set_range(p, 0.0, 0.5)[0]
               + stock.ConditioningSetTimestepRange().set_range(boat(c), 0.5, 1.0)[0])
    combine = nodes_hooks.ConditioningSetDefaultAndCombine().set_default_and_combine
    yield case("Cond Set Default Combine", lambda p, n, c: combine(
        stock.ConditioningSetMask().append(p, half, "default", 1.0)[0], boat(c))[0])
    yield case("Apply ControlNet", lambda p, n, c: stock.ControlNetApplyAdvanced().apply_controlnet(
        p, n, control_network(), hint(), 1.0, 0, 1)[:2])
    hook = nodes_hooks.PairConditioningSetProperties().set_properties
    yield case("hooks: a LoRA on the conditioning", lambda p, n, c: hook(p, n, 1.0, "default", hooks=lora_hook()))


def latents() -> Iterator[Case]:
    group = "Latents"
    given = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))}
    masked = {**given, "noise_mask": torch.cat([torch.zeros(1, 1, 64, 32), torch.ones(1, 1, 64, 32)], dim=3)}
    soft = {**given, "noise_mask": torch.linspace(0, 1, 64).expand(1, 1, 64, 64).clone()}
    yield Case(group, "Image to image, denoise 0.9", lambda m, p, n, c: ksample_8(m, p, n, given, denoise=0.9),
               note="past the window (denoise below about 0.7 at window 0.3) it is plain sampling")
    yield Case(group, "Set Latent Noise Mask (inpainting)", lambda m, p, n, c: ksample(m, p, n, masked),
               note="what the mask keeps is kept")
    yield Case(group, "Differential Diffusion", lambda m, p, n, c: ksample_8(
        nodes_differential_diffusion.DifferentialDiffusion.execute(m, 1.0).args[0], p, n, soft))
    yield Case(group, "batches", lambda m, p, n, c: ksample(m, p, n, empty_latent(3)),
               note="a picture does not depend on its place")
    yield Case(group, "odd sizes", lambda m, p, n, c: ksample(m, p, n, {"samples": torch.zeros(1, 4, 9, 11)}))


def patches() -> Iterator[Case]:
    group = "Patches on the model"

    def case(node: str, patch: Callable[[Any, Any], Any], refused: str = "", note: str = "", exact: bool = True,
             **settings: Any) -> Case:
        def sample(m: Any, p: list, n: list, clip: Any) -> Tensor:
            patched = patch(m, clip)
            found = getattr(patched, "args", patched)  # a node's outputs, or the MODEL itself
            return ksample(found[0] if isinstance(found, tuple) else found, p, n, empty_latent(2), **settings)

        return Case(group, node, sample, refused, note, exact)

    yield case("Load LoRA", lambda m, c: with_lora(m))
    yield case("Perturbed-Attention Guidance", lambda m, c: nodes_pag.PerturbedAttentionGuidance.execute(m, 3.0))
    yield case("Adaptive Projected Guidance", lambda m, c: nodes_apg.APG.execute(m, 1.0, 15.0, 0.5))
    yield case("RescaleCFG", lambda m, c: nodes_model_advanced.RescaleCFG().patch(m, 0.7)[0])
    yield case("CFG-Zero*", lambda m, c: nodes_cfg.CFGZeroStar.execute(m))
    yield case("CFGNorm", lambda m, c: nodes_cfg.CFGNorm.execute(m, 1.0))
    yield case("TCFG", lambda m, c: nodes_tcfg.TCFG.execute(m))
    yield case("Mahiro", lambda m, c: nodes_mahiro.Mahiro.execute(m), note="its mean is each branch's own")
    yield case("FreSca", lambda m, c: nodes_fresca.FreSca.execute(m, 1.0, 1.25, 2))
    yield case("Epsilon Scaling", lambda m, c: nodes_eps.EpsilonScaling.execute(m, 1.005))
    yield case("PerpNeg (deprecated)", lambda m, c: nodes_perpneg.PerpNeg.execute(m, encode(c, "blurry"), 1.0),
               "PerpNeg", "it takes one mean over all rows, the auxiliary pictures' too; Perp-Neg Guider works")
    yield case("Self-Attention Guidance", lambda m, c: nodes_sag.SelfAttentionGuidance.execute(m, 0.5, 2.0),
               "Self-Attention Guidance", "it pairs attention maps with pictures by counting rows")
    yield case("Normalized Attention Guidance", lambda m, c: nodes_nag.NAGuidance.execute(m, 5.0, 0.5, 1.5),
               note="guides your picture, not the auxiliary one")
    yield case("FreeU", lambda m, c: nodes_freelunch.FreeU_V2.execute(m, 1.3, 1.4, 0.9, 0.2))
    yield case("HyperTile", lambda m, c: nodes_hypertile.HyperTile.execute(m, 256, 2, 0, False), note=RANDOM,
               exact=False)
    yield case("Token merging", lambda m, c: nodes_tomesd.TomePatchModel.execute(m, 0.3), note=RANDOM, exact=False)
    yield case("Kohya Deep Shrink", lambda m, c: nodes_model_downscale.PatchModelAddDownscale.execute(
        m, 1, 2.0, 0.0, 0.35, True, "bicubic", "bicubic"))
    yield case("attention multiply", lambda m, c: nodes_attention_multiply.UNetCrossAttentionMultiply.execute(
        m, 1.1, 1.0, 1.0, 1.0))
    yield case("another attn2 replacement", lambda m, c: with_replacement(m), note="DCI mixes what it gives")
    yield case("another attn2 patch (hypernetworks, IP-Adapter-like)", lambda m, c: with_attention_patch(m))
    yield case("EasyCache", lambda m, c: nodes_easycache.EasyCacheNode.execute(m, 0.2, 0.15, 0.95, False),
               "EasyCache", "it reuses differences between steps whose rows differ in number")
    yield case("LazyCache", lambda m, c: nodes_easycache.LazyCacheNode.execute(m, 0.2, 0.15, 0.95, False),
               "LazyCache", "it decides by a mean over all rows which steps to skip, the auxiliary pictures' too")
    yield case("Context Windows", lambda m, c: nodes_context_windows.ContextWindowsManualNode.execute(
        m, 1, 0, "standard_static", 1, False, "flat", 0, False), "context windows", "they cut the batch into frames")


def boat(clip: Any) -> list:
    """Another prompt."""
    return encode(clip, "a boat")


def custom_sample(model: Any, guider: Any) -> Tensor:
    noise = custom.RandomNoise.execute(3).args[0]
    with torch.inference_mode():
        return custom.SamplerCustomAdvanced.execute(
            noise, guider.args[0], *sampler_and_sigmas(model), empty_latent()).args[0]["samples"].clone()


def sampler_and_sigmas(model: Any) -> tuple[Any, Tensor]:
    return (custom.KSamplerSelect.execute("ddim").args[0],
            custom.BasicScheduler.execute(model, "normal", STEPS, 1.0).args[0])


def stages(model: Any, positive: list, negative: list) -> Tensor:
    split = steps_in_window(STEPS)
    first = ksample(model, positive, negative, last_step=split)
    return ksample(model, positive, negative, {"samples": first}, start_step=split, disable_noise=True)


def delta(shape: torch.Size) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)) / shape[-1] ** 0.5


def with_lora(model: Any) -> Any:
    patched = model.clone()
    assert patched.add_patches({TEXT_KEY: ("diff", (delta(model.model.state_dict()[TEXT_KEY].shape),))}, 1.0)
    return patched


def lora_hook() -> Any:
    width = UNET_SHAPE["model_channels"] * 2
    name = TEXT_KEY.removesuffix(".weight")
    lora = {f"{name}.lora_up.weight": delta(torch.Size((width, 4))),
            f"{name}.lora_down.weight": delta(torch.Size((4, UNET_SHAPE["context_dim"])))}
    return comfy.hooks.create_hook_lora(lora=lora, strength_model=1.0, strength_clip=0.0)


def with_replacement(model: Any) -> Any:
    patched = model.clone()
    patched.set_model_attn2_replace(lambda query, key, value, options: 0.9 * optimized_attention(
        query, key, value, options["n_heads"]), "middle", 0)
    return patched


def with_attention_patch(model: Any) -> Any:
    patched = model.clone()
    patched.set_model_attn2_patch(lambda query, key, value, options: (query, 1.1 * key, value))
    return patched


def hint() -> Tensor:
    return torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(4))


def control_network() -> Any:
    network = ControlNet(**{**UNET_SHAPE, "hint_channels": 3, "dtype": torch.float32})
    weights = random_weights(network, "", torch.Generator().manual_seed(4))
    network.load_state_dict({name: 0.3 * value for name, value in weights.items()})
    return comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))


def page(rows: list[Case]) -> str:
    """The document."""
    lines = [HEADER]
    for group in dict.fromkeys(row.group for row in rows):
        lines += ["", f"## {group}", "", "| node | | to know |", "|---|---|---|"]
        lines += [f"| {row.node} | {'**refused**' if row.refused else 'works'} | {row.note} |"
                  for row in rows if row.group == group]
    return "\n".join(lines) + "\n"


HEADER = """# What DCI works with

Written by `WRITE_DOCS=1 pytest tests/nodes/bridge/dci/test_compatibility.py` from the cases that the test samples, on
a random model of Stable Diffusion's structure. *Works* means: with DCI's mixing taken out, the picture is the one
that the same graph gives without DCI (not compared where a node draws at random), and with the mixing in it is
another one. *Refused* means an error that says why, before the first step.

torch.compile (TorchCompileModel) works: the same picture, without compiling anew at every step; tested with a backend
that only passes on (`tests/nodes/bridge/dci/test_compile.py`). A prompt from DCI on a MODEL without it is an ordinary
prompt; whenever such a graph is queued, a warning says so (`tests/nodes/bridge/dci/test_graph_check.py`). Not tested:
GLIGEN, several GPUs, compiled code on a GPU.

Other networks than UNets (experimental): docs/dci_joint_attention.md says which work and which are refused."""
