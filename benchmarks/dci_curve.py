"""What DCI does to fidelity and to alignment, over omega: the paper's figures 6 and 9 on the pocket model.

    python benchmarks/dci_curve.py [--seeds 3] [--named 5] [--write]

Subjects: the held-out dog of the example personalization (a LoRA), and named individuals that the pocket model itself
knows. Every setting draws the same prompts from the same seeds with the same noise (DCI draws for the picture what
plain sampling draws). Fidelity is the judge's cosine to pictures of the subject, alignment the share of pictures whose
place or colour the judge recognises; the judge never saw a generated picture. Intervals: bootstrap over pictures, 95 %.
"""

from __future__ import annotations

import argparse
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "dci_curve.md"
EXAMPLE = ROOT / "workflows" / "personalizations" / "pocket_dog_example.safetensors"
STEPS, CFG, WINDOW, REFERENCES = 25, 3.0, 0.3, 8
AUXILIARY = "cat"


class Setting(NamedTuple):
    """One point of a curve: omega None is plain sampling."""

    label: str
    omega: float | None = None
    steps: int = STEPS
    window: float = WINDOW
    options: dict[str, Any] = {}


SETTINGS = (
    Setting("plain, equal steps"), Setting("plain, equal rows", steps=29),
    *(Setting(f"DCI, omega {omega:g}", omega) for omega in (-1.0, 0.5, 1.0, 1.5, 2.0)),
    Setting("plain, equal rows for window 0.6", steps=33),
    *(Setting(f"DCI, window 0.6, omega {omega:g}", omega, window=0.6) for omega in (0.5, 1.0, 1.5, 2.0)),
    *(Setting(f"the same, by resolution, omega {omega:g}", omega, window=0.6, options={"sharpening": "by_resolution"})
      for omega in (1.0, 2.0)),
    Setting("no masks (mean), window 0.6", 1.0, window=0.6, options={"aggregation": "half"}),
    Setting("no masks (sum), window 0.6", 1.0, window=0.6, options={"aggregation": "sum"}),
    Setting("split prompts, window 0.6, omega 1", 1.0, window=0.6, options={"prompts": "split"}),
    Setting("last layer only, window 0.6, omega 1", 1.0, window=0.6, options={"layers": "last"}),
)
CURVE = SETTINGS[:12]


class Subject(NamedTuple):
    """Who is drawn."""

    name: str
    noun: str
    look: Any
    model: Any
    clip: Any
    seed: int


class Prompt(NamedTuple):
    """What is asked for beside the subject, and which answer of the judge says that it is there."""

    text: str
    asked: str
    answer: int


class Score(NamedTuple):
    """One picture."""

    fidelity: float
    alignment: float
    noun: float


def start_comfyui() -> None:
    """Import the checkout as the package `comfyui_personalize`, and ComfyUI on the CPU."""
    sys.path.insert(0, str(ROOT / ".comfyui" / "ComfyUI"))
    package = types.ModuleType("comfyui_personalize")
    package.__path__ = [str(ROOT)]
    sys.modules[package.__name__] = package
    from comfy.cli_args import args

    args.cpu = True


def subjects(named: int) -> tuple[list[Subject], Any]:
    """The subjects, each with its MODEL and CLIP, and the VAE."""
    import comfy.sd
    import comfy.utils

    from comfyui_personalize.nodes.pocket_model import register_pocket
    from comfyui_personalize.pocket.world import individuals, subject

    register_pocket()
    checkpoint = ROOT / "pocket" / "checkpoints" / "pocket.safetensors"
    model, clip, vae = comfy.sd.load_checkpoint_guess_config(str(checkpoint))[:3]
    weights, metadata = comfy.utils.load_torch_file(str(EXAMPLE), return_metadata=True)
    identifier = str(metadata["personalize"]).split('"captions":["a ')[1].split(" ")[0]
    personal = comfy.sd.load_lora_for_models(model, clip, weights, 1.0, 1.0)
    found = [Subject(identifier, "dog", subject(0, "dog"), *personal, 0)]
    for number, (name, look) in enumerate(list(individuals().items())[20 : 20 + named]):
        found.append(Subject(name, look.noun, look, model, clip, 1 + number))
    return found, vae


def reference(who: Subject, judge: Any, vae: Any) -> Any:
    """The judge's mean embedding of true pictures of the subject, seen through the autoencoder: (64,)."""
    import numpy as np
    import torch

    from comfyui_personalize.pocket.judge import scene_of, to_judge_size
    from comfyui_personalize.pocket.world import SEEDS, render

    scenes = [scene_of(who.look, SEEDS["held_out_subjects"][700_000 + 100 * who.seed + i]) for i in range(REFERENCES)]
    pictures = torch.from_numpy(np.stack([render(scene)[0] for scene in scenes])).float() / 255
    seen = vae.decode(vae.encode(pictures)).movedim(-1, 1)
    return torch.nn.functional.normalize(judge(to_judge_size(seen))["identity"].mean(0), dim=0)


def contexts(who: Subject) -> list[Prompt]:
    """Places, in which the subject's colours are seen."""
    from comfyui_personalize.pocket.world import possible_contexts
    from comfyui_personalize.pocket.world_scenes import CONTEXTS, PHRASES

    return [Prompt(f"a {who.name} {who.noun} {PHRASES[context]}", "context", CONTEXTS.index(context))
            for context in possible_contexts(who.look) if context != "plain"]


def colours(who: Subject) -> list[Prompt]:
    """Another colour for the subject, against what the model learned of it: a weak prior."""
    from comfyui_personalize.pocket.judge import COLOUR_NAMES

    return [Prompt(f"a {name} {who.name} {who.noun} in the snow", "colour", number)
            for number, name in enumerate(COLOUR_NAMES) if name not in (who.look.colour, who.look.second, "white")]


def draw(who: Subject, setting: Setting, text: str, seeds: int, vae: Any) -> Any:
    """Pictures (seeds, 3, H, W) of a prompt about the subject."""
    import comfy.sample
    import torch

    from comfyui_personalize.core.dci.config import DCIConfig
    from comfyui_personalize.core.dci.subjects import Subject as Named
    from comfyui_personalize.core.dci.subjects import SubjectPrompt
    from comfyui_personalize.nodes.bridge.dual_branch import patch_dual_branch
    from comfyui_personalize.nodes.bridge.dual_prompt import encode_dual_prompt

    encode = who.clip.encode_from_tokens_scheduled
    model, positive = who.model, encode(who.clip.tokenize(text))
    if setting.omega is not None:
        config = DCIConfig(omega=setting.omega, window=setting.window, **setting.options)
        other = AUXILIARY if who.noun != AUXILIARY else "dog"
        named = Named(identifier=who.name, class_noun=who.noun, auxiliary_noun=other)
        model = patch_dual_branch(model, config)
        positive = encode_dual_prompt(who.clip, SubjectPrompt(prompt=text, subjects=(named,),
                                                              split=config.prompts == "split"))
    latent = torch.zeros(seeds, 16, 12, 12)
    seed = 1000 * who.seed + sum(map(ord, text))
    samples = comfy.sample.sample(model, comfy.sample.prepare_noise(latent, seed), setting.steps, CFG,
                                  "euler_ancestral", "normal", positive, encode(who.clip.tokenize("")), latent,
                                  seed=seed, disable_pbar=True)
    return vae.decode(samples).movedim(-1, 1)


def score(who: Subject, prompts: Sequence[Prompt], setting: Setting, seeds: int, vae: Any, judge: Any,
          target: Any) -> list[Score]:
    """One score for every picture of a subject under a setting."""
    from comfyui_personalize.pocket.judge import to_judge_size
    from comfyui_personalize.pocket.world_shapes import NOUNS

    scores = []
    for prompt in prompts:
        answers = judge(to_judge_size(draw(who, setting, prompt.text, seeds, vae)))
        for row in range(seeds):
            scores.append(Score(float(answers["identity"][row] @ target),
                                float(answers[prompt.asked][row].argmax() == prompt.answer),
                                float(answers["noun"][row].argmax() == NOUNS.index(who.noun))))
    return scores


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % bootstrap interval over pictures."""
    import numpy as np

    rng = np.random.default_rng(0)
    data = np.asarray(values)
    means = data[rng.integers(0, len(data), (2000, len(data)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{data.mean():.3f} [{low:.3f}, {high:.3f}]"


def table(title: str, found: dict[str, list[Score]]) -> str:
    """Markdown: one row per setting."""
    lines = [f"## {title}", "", "| setting | fidelity | prompt obeyed | class | pictures |", "|---|---|---|---|---|"]
    for label, scores in found.items():
        columns = [interval([one[kind] for one in scores]) for kind in range(3)]
        lines.append(f"| {label} | {' | '.join(columns)} | {len(scores)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="DCI's curve over omega on the pocket model.")
    parser.add_argument("--seeds", type=int, default=3, help="pictures per prompt")
    parser.add_argument("--named", type=int, default=0, help="named individuals beside the held-out subject")
    parser.add_argument("--only", default="", help="only the tables whose title holds this")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    options = parser.parse_args()
    start_comfyui()
    import torch

    from comfyui_personalize.pocket.judge import load_judge

    torch.set_num_threads(1)
    judge = load_judge()
    tables = []
    with torch.inference_mode():
        people, vae = subjects(options.named)
        groups = {"Held-out dog, personalized by LoRA: places": (people[:1], contexts, SETTINGS),
                  "Held-out dog, personalized by LoRA: another colour": (people[:1], colours, CURVE),
                  "Named individuals of the pocket model: another colour": (people[1:], colours, CURVE)}
        for title, (members, ask, settings) in groups.items():
            if not members or options.only not in title:
                continue
            found: dict[str, list[Score]] = {}
            targets = {who.name: reference(who, judge, vae) for who in members}
            for setting in settings:
                started = time.time()
                found[setting.label] = [one for who in members for one in score(
                    who, ask(who), setting, options.seeds, vae, judge, targets[who.name])]
                print(f"{setting.label}: {time.time() - started:.0f} s", file=sys.stderr, flush=True)
            tables.append(table(title, found))
            print(tables[-1], flush=True)
    if options.write:
        RESULTS.write_text("\n\n".join([HEADER, *tables]) + "\n", encoding="utf-8")


HEADER = f"""# DCI over omega on the pocket model

`python benchmarks/dci_curve.py --write`: euler_ancestral, {STEPS} steps, cfg {CFG:g}, window {WINDOW:g} unless said,
shared guidance, auxiliary noun '{AUXILIARY}'. Equal rows: plain sampling with as many steps as DCI's network
rows pay for. Fidelity: the judge's cosine to true pictures of the subject; prompt obeyed and class: the share of
pictures in which the judge sees the place or colour, and the class. Means with 95 % bootstrap intervals over
pictures."""


if __name__ == "__main__":
    main()
