"""What the papers lead one to expect, each as a comparison of two methods in one measure."""

from __future__ import annotations

from dataclasses import dataclass

DREAMBOOTH = "DreamBooth (arXiv:2208.12242)"
ICO_DCI = "Jin et al., ECCV 2024"
ONE_SHOT = "Lu, Xie, Guo 2024"
OURS = "this project"
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


def _best(other: str, title: str) -> Claim:
    return Claim(f"our best recipe lies above {title}", OURS, "best", other, AREA, +1)


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
    Claim("a rare identifier beats an English word", DREAMBOOTH, "lora", "lora_english_word", AREA, +1),
    Claim("a rare identifier beats random letters", DREAMBOOTH, "lora", "lora_random_letters", AREA, +1),
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
    Claim("the object-specific loss reduces overfitting to the photo's place", ONE_SHOT, "one_shot",
          "one_shot_without_sp", "overfitting", -1),
    _best("textual_inversion", "Textual Inversion"),
    _best("dreambooth", "DreamBooth"),
    _best("custom_diffusion", "Custom Diffusion"),
    _best("lora", "LoRA"),
    _best("ed_lora", "ED-LoRA"),
    _best("ico", "ICO"),
    _best("ico_dci", "ICO + DCI"),
    _best("one_shot", "one-shot"),
)
LOW, USUAL = "low noise, level 0", "usual noise, level 8"
UPSCALER_CLAIMS: tuple[Claim, ...] = (
    Claim("fine-tuning the upscaler at low noise beats the usual noise", DREAMBOOTH, LOW, USUAL, "PSNR, dB", +1),
    Claim("fine-tuning the upscaler at low noise beats no fine-tuning", DREAMBOOTH, LOW, "no fine-tuning, level 0",
          "PSNR, dB", +1),
    Claim("fine-tuning the upscaler at low noise beats no fine-tuning at the usual level", DREAMBOOTH, LOW,
          "no fine-tuning, level 8", "PSNR, dB", +1),
    Claim("low noise keeps edges better than the usual noise", DREAMBOOTH, LOW, USUAL, "gradient error", -1),
)
"""Of `benchmarks/super_resolution.py`: its own subjects and measures, so `methods` are its rows."""

UNMEASURED = (
    "rendition in styles, expressions and viewpoints (DreamBooth 4.2): the world has none of them",
    "human preference (the papers' user studies): no people were asked; a blind page can be made of any two sets of "
    "pictures",
    "KID and LPIPS over the papers' networks, CLIP-I and CLIP-T of OpenAI's CLIP, DINO: they need pretrained weights; "
    "with `--clip`, `--dino` and `--lpips` the same report has them",
    "two objects together without bleeding (one-shot, fig. 9): the world has one thing per picture, and the untrained "
    "pocket model, asked for 'a dog and a house', blends them into one: both are found apart in 2 of 100 of its "
    "pictures, in 82 of 100 drawn ones ([figures](../benchmarks/results/two_objects.md)); bleeding of learned words "
    "could not be told from that",
    "an order between an English word and random letters as identifiers: the paper claims none",
)

REASONS: dict[str, str] = {
    "fine-tuning the upscaler at low noise beats the usual noise":
        "the level told while sampling explains it: level 0 in place of 8 gives as much without any fine-tuning",
    "a rare identifier beats an English word":
        "the pocket model's captions never had the word, so it means no more than a rare token; a LoRA learns it "
        "faster (more fidelity, less alignment at equal steps)",
    "a rare identifier beats random letters":
        "as above; random letters are several tokens, which hold more of the subject",
    "learned contexts (ICO) beat the manual prompt":
        "the contexts take part of the subject along and are dropped at sampling: fidelity falls with their number, "
        "0.56 with none, 0.47 with three, 0.31 with six",
    "more context vectors (n 4, k 2) give a better curve than fewer (n 2, k 1)":
        "as above: what the contexts hold is missing from V; likely a matter of their rate in so few steps, not tried",
    "the object-specific loss reduces overfitting to the photo's place":
        "it learns more in the same steps, of the place too: with one photo the plain loss beside it still sees the "
        "whole picture",
    "a prototype start beats a random one":
        "likely the pocket's prototype is near its class's other individuals; a random start is as fast here",
    "our best recipe lies above DreamBooth": "it is DreamBooth with a masked loss; five subjects are too few",
}
"""A claim's text to why it fails here, or what its verdict hides; written by hand once the figures are known."""
