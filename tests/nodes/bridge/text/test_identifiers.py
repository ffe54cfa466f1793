"""Identifiers for every tokenizer that ComfyUI brings along, without the encoders' weights."""

from __future__ import annotations

import functools
import gc
import weakref

import pytest
import torch
from comfy.sd1_clip import SD1Tokenizer, SDTokenizer
from comfy.text_encoders import aura_t5, flux, hydit, longcat_image, pixart_t5, qwen35, qwen_image, sd3_clip, z_image
from comfy.text_encoders.hunyuan_image import HunyuanImageTokenizer
from comfy.text_encoders.hunyuan_video import LLAMA3Tokenizer
from comfy.text_encoders.spiece_tokenizer import SPieceTokenizer

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.subject.identifier import rare_words
from comfyui_personalize.core.subject.made_words import _is_quiet_word
from comfyui_personalize.nodes.bridge.text.identifiers import identifiers_for
from comfyui_personalize.nodes.bridge.text.language_words import language_words
from comfyui_personalize.nodes.bridge.text.vocabulary import (
    CLIP_RARE_FROM,
    RARE_FROM,
    T5_RARE,
    _vocabulary,
    vocabularies_of,
)

TOKENIZERS = {
    "flux": flux.FluxTokenizer, "sd3": sd3_clip.SD3Tokenizer, "pixart": pixart_t5.PixArtTokenizer,
    "auraflow": aura_t5.AuraT5Tokenizer, "z-image": z_image.ZImageTokenizer, "klein": flux.KleinTokenizer,
    "qwen-image": qwen_image.QwenImageTokenizer, "qwen35": qwen35.Qwen35ImageTokenizer,
    "longcat": longcat_image.LongCatImageTokenizer, "hunyuan-image": HunyuanImageTokenizer,
}
EVERYDAY = {
    "French":
        "le la les un une des de du et ou où que qui quoi dans avec pour sans sous sur moi toi lui nous vous "
        "mon ton son ma ta sa cet foi loi roi peu pas bas cas fou eau thé feu jeu rue mur vie joie nuit jour "
        "main pied chat chien maison enfant femme homme rouge bleu vert blanc noir petit grand beau bon "
        "mauvais manger boire dormir aller venir école pain fromage arbre fleur oiseau merci bonjour",
    "German":
        "der die das den dem ein eine und oder aber nicht mit von zu bei nach aus auf an in ihm ihn ihr sie "
        "wir uns mir dir mich dich nie neu alt gut rot blau grün weiß tag uhr weg rad ohr arm bein kopf hand "
        "haus hund katze kind frau mann vogel baum blume tisch stuhl brot käse wasser feuer schnee gehen "
        "kommen essen trinken schlafen sehen klein groß schön danke bitte",
    "Spanish":
        "el la los las un una unos de del y o que con sin por para sobre yo tu él ella nos mi su mis sus este "
        "esa ojo pie mar sol luz paz voz rey ley tío día año casa perro gato niño mujer hombre rojo azul "
        "verde blanco negro pequeño grande bueno malo comer beber dormir ir venir escuela pan queso árbol "
        "flor pájaro gracias hola",
    "Italian":
        "il lo la gli le un uno una di che con per tra fra io tu lui lei noi voi mio tuo suo sei due tre cane "
        "gatto casa uomo donna bambino rosso verde bianco nero piccolo grande mangiare bere pane acqua sole",
    "Romanian, which T5 knows":
        "vot doi ori joc caz vei lua foc jur joi pui zic copil casa om apa foc pisica caine mare mic frumos",
}
"""What people say every day: none of it may name somebody's dog."""


SMALLER_LANGUAGES = "tuo suo kto vem zou ojo voz eru uur enn kdo jde nya mij oko"
"""Words that language models know as one rare token."""


class TokenizersOnly:
    """What `vocabularies_of` needs of a CLIP object."""

    def __init__(self, tokenizer):
        self.tokenizer, self.tokenize = tokenizer, tokenizer.tokenize_with_weights


@functools.cache
def vocabularies(name):
    return tuple(vocabularies_of(TokenizersOnly(TOKENIZERS[name]())))


def vocabulary_of(name, tokenizer):
    vocabulary = _vocabulary(name, tokenizer)
    assert vocabulary is not None
    return vocabulary


def find(name, **request):
    return identifiers_for(vocabularies(name), **{"class_noun": "toy car", "tokens": 3, "count": 8} | request)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_three_tokens_always_give_eight_words_that_every_encoder_reads_as_few_rare_pieces(name):
    found = find(name)
    assert len({candidate.text for candidate in found}) == 8
    for candidate in found:
        assert candidate.token_ids.keys() == {vocabulary.name for vocabulary in vocabularies(name)}
        assert max(map(len, candidate.token_ids.values())) == 3
        for vocabulary in vocabularies(name):
            ids = candidate.token_ids[vocabulary.name]
            pieces = [vocabulary.pieces[index] for index in ids]
            assert "".join(pieces) == candidate.text, "de-tokenized it is itself"
            assert all(index >= 2000 and 2 <= len(piece) <= 3
                       for index, piece in zip(ids, pieces, strict=True) if piece)
            assert len(ids) > 1 or ids[0] in vocabulary.rare


@pytest.mark.parametrize("tokens", [1, 2, 3])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_caption_has_the_words_own_tokens_between_the_articles_and_the_nouns(name, tokens):
    for candidate in find(name, tokens=tokens, count=4):
        for vocabulary in vocabularies(name):
            article, noun = (list(vocabulary.tokenize(text)) for text in ("a", "a toy car"))
            assert list(vocabulary.tokenize(f"a {candidate.text} toy car")) == [
                *article, *candidate.token_ids[vocabulary.name], *noun[len(article):]]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_largest_request_is_served_with_three_tokens_and_repeats_by_seed(name):
    words = [candidate.text for candidate in find(name, count=64, seed=5)]
    assert len(set(words)) == 64 and words[:8] == [candidate.text for candidate in find(name, seed=5)]
    assert words[:8] != [candidate.text for candidate in find(name, seed=6)]


@pytest.mark.parametrize("language", EVERYDAY)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_everyday_words_of_other_languages_are_not_offered(name, language):
    assert not [word for word in EVERYDAY[language].split() for tokens in (1, 2, 3)
                if _is_quiet_word(word, vocabularies(name), language_words(), tokens)]


@pytest.mark.parametrize("name", ["auraflow", "z-image", "qwen35"])
def test_one_token_with_a_vowel_may_be_a_word_of_a_smaller_language_and_is_not_offered(name):
    words = {candidate.text for candidate in find(name, tokens=1, count=64) if len(candidate.text) <= 3}
    assert not any(set(word) & set("aeiouy") for word in words) and not words & set(SMALLER_LANGUAGES.split())


def test_without_the_tokenizers_evidence_many_of_them_would_be_offered():
    """The check above has something to find: T5's rare words of three letters are French, German and Romanian."""
    (t5,) = vocabularies("pixart")
    everyday = {word for words in EVERYDAY.values() for word in words.split()}
    assert len(everyday & set(rare_words([t5]))) >= 8


@pytest.mark.parametrize(
    ("seed", "tokens", "words"),
    [
        (0, 1, ["npa", "atr", "cek", "isf"]),
        (1, 1, ["ruk", "tsb", "yey", "ntv"]),
        (0, 2, ["npa atr", "cek isf", "noc xh", "nhc hta"]),
        (7, 3, ["rtr sqm pik", "lhp sli phc", "yte xvi skc", "tsm msi lun"]),
    ],
)
def test_clip_alone_gives_the_identifiers_that_it_always_gave(seed, tokens, words):
    clip = vocabularies_of(TokenizersOnly(SD1Tokenizer()))
    found = identifiers_for(clip, class_noun="dog", tokens=tokens, count=4, seed=seed)
    assert [candidate.text for candidate in found] == words


def test_one_token_of_a_language_model_is_one_rare_token_behind_a_space():
    (qwen,) = vocabularies("z-image")
    for candidate in find("z-image", tokens=1, count=20):
        (index,) = candidate.token_ids["qwen3_4b"]
        assert qwen.words[index] == candidate.text and index >= RARE_FROM and index in qwen.rare


def test_clip_and_t5_share_no_quiet_word_of_one_token_and_the_reasons_say_so():
    for candidate in find("flux", tokens=1):
        assert candidate.reasons[-1] == "3 tokens, for too few words without a meaning have 1"


def test_each_kind_of_tokenizer_has_its_range_of_rare_tokens():
    ranges = {vocabulary.name: vocabulary.rare for name in ("flux", "auraflow", "z-image", "qwen35")
              for vocabulary in vocabularies(name)}
    assert ranges == {"clip_l": range(CLIP_RARE_FROM, 49_408), "t5xxl": T5_RARE, "pile_t5xl": range(16_000, 32_000),
                      "qwen3_4b": range(RARE_FROM, 151_669), "qwen35_2b": range(RARE_FROM, 248_077)}


def test_an_encoder_of_bytes_does_not_choose():
    """Hunyuan Image reads text in quotation marks by ByT5."""
    assert [vocabulary.name for vocabulary in vocabularies("hunyuan-image")] == ["qwen25_7b"]


def test_bert_marks_what_goes_on_and_not_what_begins():
    vocabulary = vocabulary_of("hydit_clip", hydit.HyditBertTokenizer())
    assert "dog" in vocabulary.words.values() and "##ing" not in vocabulary.words.values()
    assert len(identifiers_for([vocabulary], class_noun="dog", tokens=3, count=8)) == 8


def test_a_tokenizer_that_comes_with_the_encoders_file_is_read_as_well(tmp_path):
    """SentencePiece's own, as for Gemma, UMT5 and mT5: without a space before the first word."""
    import sentencepiece

    generator = torch.Generator().manual_seed(0)
    syllables = [a + b + c for a in "bdfgklmnprstvz" for b in "aeiouy" for c in "bdgklmnprstxz"]
    lines = [" ".join(syllables[place] + syllables[other] for place, other in torch.randint(
        len(syllables), (12, 2), generator=generator).tolist()) for _ in range(3000)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*lines, *["a dog and a toy car"] * 400]), model_prefix=str(tmp_path / "small"),
        vocab_size=3600, model_type="bpe", add_dummy_prefix=False, minloglevel=2)

    class Small(SDTokenizer):
        def __init__(self):
            super().__init__(str(tmp_path / "small.model"), pad_with_end=False, tokenizer_class=SPieceTokenizer,
                             has_start_token=False, pad_to_max_length=False, max_length=999, min_length=1)

    vocabulary = vocabulary_of("gemma2_2b", Small())
    assert vocabulary.tokenize("dog") != vocabulary.read("dog"), "a word reads otherwise behind a space"
    assert len(identifiers_for([vocabulary], class_noun="toy car", tokens=3, count=8)) == 8


def test_a_tokenizers_entries_are_sorted_once_and_go_with_it():
    tokenizer = SD1Tokenizer().clip_l
    known, alive = vocabulary_of("l", tokenizer), weakref.ref(tokenizer)
    assert vocabulary_of("l", tokenizer).words is known.words
    del tokenizer, known
    gc.collect()
    assert alive() is None


def test_a_tokenizer_that_loses_the_spaces_does_not_choose_and_alone_is_refused():
    class Joined(LLAMA3Tokenizer):
        def tokenize_with_weights(self, text, *args, **settings):
            return super().tokenize_with_weights(text.replace(" ", ""), *args, **settings)

    class Llama:
        def __init__(self):
            self.llama = Joined()
            self.llama.tokenizer = _without_spaces(self.llama.tokenizer)

        def tokenize_with_weights(self, text, **settings):
            return {"llama": self.llama.tokenize_with_weights(text, **settings)}

    found = vocabularies_of(TokenizersOnly(Llama()))
    assert found == []
    with pytest.raises(InputError, match="clip: got a text encoder whose tokenizer holds no words"):
        identifiers_for(found, class_noun="dog")


def _without_spaces(tokenizer):
    class Wrapped:
        def __call__(self, text):
            return tokenizer(text.replace(" ", ""))

        def get_vocab(self):
            return tokenizer.get_vocab()

    return Wrapped()


def test_llamas_tokenizer_counts_where_it_keeps_words_apart():
    vocabulary = vocabulary_of("llama", LLAMA3Tokenizer())
    assert {"dog", "maison"} <= set(vocabulary.words.values()) and 40_000 in vocabulary.rare
    if vocabulary.read("dog") is not None:  # not so with some versions of transformers
        assert len(identifiers_for([vocabulary], class_noun="dog", tokens=3, count=8)) == 8

