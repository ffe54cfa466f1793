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

IDENTIFIERS = ("it tested the number of tokens: 'unique' is two in CLIP's vocabulary, 'xxy5syt00' seven, 'sks' one, "
               "and none of them means anything to the pocket model. Among rare identifiers alone fidelity times "
               "alignment goes from 0.40 to 0.55, five times the difference here, and no word that the model knows "
               "was tried ('blue', tried since, gives 0.58)")
CONTEXTS = ("the contexts started from 'of', 'a' and a full stop. The pocket model never read 'of' and the full stop; "
            "their rows are drawn as names are, so every caption carried extra names that are gone at sampling. From "
            "the known words 'a' and 'on' subject 8 goes from fidelity 0.22 to 0.64 at the same alignment (the manual "
            "prompt: 0.59). V learned ten times as fast as the authors' does, too")
PICKED = ("our recipe was picked from 8 candidates and the others' rates from 3, on 2 subjects, which favours ours; "
          "{}no more than 5 subjects were run")
LEVELS = ("it mixes training with the level told at sampling. Level 0 in place of 8 gives 0.36 dB with no training at "
          "all, and training at low noise adds 0.05 dB less than training at the usual noise")

WITHDRAWN: dict[str, str] = {
    "a rare identifier beats an English word": IDENTIFIERS,
    "a rare identifier beats random letters": IDENTIFIERS,
    "learned contexts (ICO) beat the manual prompt":
        CONTEXTS + ". And the manual prompt was a bare 'V noun', where the paper's is 'a photo of a V noun'",
    "more context vectors (n 4, k 2) give a better curve than fewer (n 2, k 1)": CONTEXTS,
    "more identifier vectors (m 4) give more fidelity than one": CONTEXTS,
    "more identifier vectors (m 4) give less alignment than one": CONTEXTS,
    "ICO with DCI is better than ICO alone": CONTEXTS,
    "the object-specific loss reduces overfitting to the photo's place":
        "it compares equal steps, in which this loss learns more. At equal fidelity, which three subjects have, about "
        "0.10 of the 0.27 are left",
    "our best recipe lies above Textual Inversion": PICKED.format(
        "Textual Inversion was judged at 160 steps, its published setting is 3000; "),
    "our best recipe lies above DreamBooth": PICKED.format("it is DreamBooth with a masked loss; "),
    "our best recipe lies above Custom Diffusion": PICKED.format(""),
    "our best recipe lies above LoRA": PICKED.format(""),
    "our best recipe lies above ED-LoRA": PICKED.format("ED-LoRA lacks its layer-wise vectors; "),
    "our best recipe lies above ICO": PICKED.format("one subject is negative, and ICO started from words that the "
                                                    "model does not know; "),
    "our best recipe lies above ICO + DCI": PICKED.format("ICO started from words that the model does not know; "),
    "our best recipe lies above one-shot": PICKED.format("one subject is negative; "),
    "fine-tuning the upscaler at low noise beats the usual noise": LEVELS,
    "fine-tuning the upscaler at low noise beats no fine-tuning at the usual level": LEVELS,
    "low noise keeps edges better than the usual noise": LEVELS,
}
"""A claim's text to what was found wrong with how it was measured. It has no verdict until it is run again; whoever
runs it again takes it out here."""

UNMEASURED = (
    "describing the subject in words in place of photos (DreamBooth, figs. 2 and 16): how much of a subject a long "
    "prompt of the base model can give was not tried",
    "every method at its authors' scale of class images: 24 were used for 5 photos here, DreamBooth has about 200 for "
    "each photo",
    "the identifier's weak prior in pictures, over many identifiers: Identifier Picker can look at it, the bench does "
    "not",
    "ED-LoRA with its layer-wise vectors: this project has none, so its row is a LoRA and a word of ordinary vectors",
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
    "a prototype start beats a random one":
        "the fit itself works (cosine to its target from 0.76 to 0.92), but the diffusion model does not read that "
        "direction: pooled projection and token sequence were trained for different ends, and before training the "
        "prototype shows no more of the subject than its noun. The random start is one draw, and draws go from 0.03 to "
        "0.53 of fidelity at the deviation of the world's names",
    "fine-tuning the upscaler at low noise beats no fine-tuning":
        "both told level 0 at sampling, so this is the training alone; training at the usual noise adds 0.05 dB more "
        "at its own level",
}
"""A claim's text to why it fails here, or what its verdict hides; written by hand once the figures are known."""
