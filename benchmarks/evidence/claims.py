"""What the papers lead one to expect, each as a comparison of two methods in one measure."""

from __future__ import annotations

from dataclasses import dataclass

DREAMBOOTH = "DreamBooth (arXiv:2208.12242)"
ICO_DCI = "Jin et al., ECCV 2024"
ONE_SHOT = "Lu, Xie, Guo 2024"
AREA = "area"
"""The summary of a curve: `intervals.frontier_area` over a method's checkpoints."""
AT_EQUAL_FIDELITY = " at equal fidelity"
"""Behind a measure: `intervals.at_equal_fidelity` of the two curves in place of their last checkpoints."""


@dataclass(frozen=True)
class Claim:
    """`first` minus `second` in `measure` is expected above (+1) or below (-1) zero."""

    text: str
    source: str
    first: str
    second: str
    measure: str
    expected: int


def _prior(text: str, measure: str, expected: int = -1) -> Claim:
    return Claim(f"prior preservation {text}", DREAMBOOTH, "dreambooth", "dreambooth_without_prior", measure, expected)


CLAIMS: tuple[Claim, ...] = (
    _prior("reduces drift", "drift"),
    _prior("reduces drift at equal fidelity", "drift" + AT_EQUAL_FIDELITY),
    _prior("reduces copying of the photos' places", "copying"),
    _prior("reduces copying of the photos' places at equal fidelity", "copying" + AT_EQUAL_FIDELITY),
    _prior("reduces overfitting to the photos' places where none is asked for", "overfitting"),
    _prior("reduces that overfitting at equal fidelity", "overfitting" + AT_EQUAL_FIDELITY),
    _prior("keeps diversity", "diversity", +1),
    _prior("keeps diversity at equal fidelity", "diversity" + AT_EQUAL_FIDELITY, +1),
    Claim("prior preservation reduces drift of a LoRA", DREAMBOOTH, "lora_prior", "lora", "drift", -1),
    Claim("the right noun gives more fidelity than a wrong one", DREAMBOOTH, "lora", "lora_wrong_noun", "fidelity", +1),
    Claim("the right noun gives more fidelity than none", DREAMBOOTH, "lora", "lora_no_noun", "fidelity", +1),
    Claim("the right noun gives a better curve than a wrong one", DREAMBOOTH, "lora", "lora_wrong_noun", AREA, +1),
    Claim("the right noun gives a better curve than none", DREAMBOOTH, "lora", "lora_no_noun", AREA, +1),
    Claim("pictures with the right noun show the class; those with a wrong one do less", DREAMBOOTH, "lora",
          "lora_wrong_noun", "noun", +1),
    Claim("a rare identifier beats an English word that the model knows", DREAMBOOTH, "lora", "lora_english_word",
          AREA, +1),
    Claim("learned contexts (ICO) beat the manual prompt", ICO_DCI, "ico", "ico_manual_prompt", AREA, +1),
    Claim("more context vectors (n 4, k 2) give a better curve than fewer (n 2, k 1)", ICO_DCI, "ico_n4k2", "ico",
          AREA, +1),
    Claim("more identifier vectors (m 4) give more fidelity than one", ICO_DCI, "ico_m4", "ico_m1", "fidelity", +1),
    Claim("more identifier vectors (m 4) give less alignment than one", ICO_DCI, "ico_m4", "ico_m1", "alignment", -1),
    Claim("a prototype start beats a random one", ONE_SHOT, "one_shot", "one_shot_random_start", AREA, +1),
    Claim("class-characterizing regularisation helps alignment", ONE_SHOT, "one_shot", "one_shot_without_cl",
          "alignment", +1),
    Claim("class-characterizing regularisation gives a better curve", ONE_SHOT, "one_shot", "one_shot_without_cl",
          AREA, +1),
    Claim("the object-specific loss gives a better curve", ONE_SHOT, "one_shot", "one_shot_without_sp", AREA, +1),
    Claim("the object-specific loss reduces copying of the photo's place", ONE_SHOT, "one_shot",
          "one_shot_without_sp", "copying", -1),
    Claim("the object-specific loss reduces overfitting to the photo's place at equal fidelity", ONE_SHOT, "one_shot",
          "one_shot_without_sp", "overfitting" + AT_EQUAL_FIDELITY, -1),
)
LOW = "low noise, level 0"
UPSCALER_CLAIMS: tuple[Claim, ...] = (
    Claim("fine-tuning the upscaler at low noise beats no fine-tuning", DREAMBOOTH, LOW, "no fine-tuning, level 0",
          "PSNR, dB", +1),
)
"""Of `benchmarks/super_resolution.py`: its own subjects and measures, so `methods` are its rows. Low noise against the
usual noise is no claim: the levels told at sampling differ, and say more than the training does."""

UNMEASURED = (
    "describing the subject in words in place of photos (DreamBooth, figs. 2 and 16): how much of a subject a long "
    "prompt of the base model can give was not tried",
    "every method at its authors' scale of class images: 24 were used for 5 photos here, DreamBooth has about 200 for "
    "each photo",
    "the identifier's weak prior in pictures, over many identifiers: Identifier Picker can look at it, the bench does "
    "not",
    "ED-LoRA with its layer-wise vectors: this project has none, so its row is a LoRA and a word of ordinary vectors",
    "rendition in styles, expressions and viewpoints (DreamBooth 4.2): the world has styles, which the bench does not "
    "ask for, and neither of the others",
    "human preference (the papers' user studies): no people were asked; a blind page can be made of any two sets of "
    "pictures",
    "KID and LPIPS over the papers' networks, CLIP-I and CLIP-T of OpenAI's CLIP, DINO: they need pretrained weights; "
    "with `--clip`, `--dino` and `--lpips` the same report has them",
    "two objects together without bleeding (one-shot, fig. 9): the untrained pocket model, asked for 'a dog and a "
    "house', shows both apart in a quarter of its pictures ([figures](../benchmarks/results/two_objects.md)); bleeding "
    "of learned words could not be told from that",
    "random letters as an identifier: the paper's reason against them is that each letter means something, and to the "
    "pocket model none does",
    "our best recipe against the other methods: it is picked from five candidates and their rates from three, on the "
    "same two subjects, which favours it",
)

REASONS: dict[str, str] = {
    "fine-tuning the upscaler at low noise beats no fine-tuning":
        "both told level 0 at sampling, so this is the training alone; training at the usual noise adds 0.52 dB at its "
        "own level, so it is not the low noise that helps",
}
"""A claim's text to why it fails here, or what its verdict hides; written by hand once the figures are known."""
