"""What the papers lead one to expect, each as a comparison of two methods in one measure."""

from __future__ import annotations

from dataclasses import dataclass

DREAMBOOTH = "DreamBooth (arXiv:2208.12242)"
ICO_DCI = "Jin et al., ECCV 2024"
ONE_SHOT = "Lu, Xie, Guo 2024"
AREA = "area"
"""The summary of a curve: `intervals.frontier_area` over a method's checkpoints."""


@dataclass(frozen=True)
class Claim:
    """`first` minus `second` in `measure` is expected above (+1) or below (-1) zero."""

    text: str
    source: str
    first: str
    second: str
    measure: str
    expected: int


CLAIMS: tuple[Claim, ...] = (
    Claim("prior preservation reduces drift", DREAMBOOTH, "dreambooth", "dreambooth_without_prior", "drift", -1),
    Claim("prior preservation reduces copying of the photos' places", DREAMBOOTH, "dreambooth",
          "dreambooth_without_prior", "copying", -1),
    Claim("prior preservation keeps diversity", DREAMBOOTH, "dreambooth", "dreambooth_without_prior", "diversity", +1),
    Claim("the right noun gives more fidelity than a wrong one", DREAMBOOTH, "lora", "lora_wrong_noun", "fidelity", +1),
    Claim("the right noun gives more fidelity than none", DREAMBOOTH, "lora", "lora_no_noun", "fidelity", +1),
    Claim("a rare identifier beats an English word", DREAMBOOTH, "lora", "lora_english_word", AREA, +1),
    Claim("a rare identifier beats random letters", DREAMBOOTH, "lora", "lora_random_letters", AREA, +1),
    Claim("learned contexts (ICO) beat the manual prompt", ICO_DCI, "ico", "ico_manual_prompt", AREA, +1),
    Claim("more identifier vectors give more fidelity", ICO_DCI, "ico_m4", "ico_m1", "fidelity", +1),
    Claim("more identifier vectors give less alignment", ICO_DCI, "ico_m4", "ico_m1", "alignment", -1),
    Claim("a prototype start beats a random one", ONE_SHOT, "one_shot", "one_shot_random_start", AREA, +1),
    Claim("class-characterizing regularisation helps alignment", ONE_SHOT, "one_shot", "one_shot_without_cl",
          "alignment", +1),
    Claim("the object-specific loss helps", ONE_SHOT, "one_shot", "one_shot_without_sp", AREA, +1),
    Claim("the object-specific loss reduces copying of the photo's place", ONE_SHOT, "one_shot",
          "one_shot_without_sp", "copying", -1),
)
UNMEASURED = (
    "rendition in styles, expressions and viewpoints (DreamBooth 4.2): the world has none of them",
    "human preference (the papers' user studies): no people were asked",
    "CLIP-I, CLIP-T, DINO, KID and LPIPS on real models: no pretrained weights can be had here",
)
