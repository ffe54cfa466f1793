"""Rare-token identifiers: words that a text encoder reads as one token each and that mean nearly nothing.

Source: DreamBooth (arXiv:2208.12242), 3.2, 'rare-token identifiers': k = 1..3 tokens by uniform sampling
without replacement among rare tokens of at most three characters. Ours: CLIP's range of ids, no English
words, the round trip, and the ranking by a weak prior (`weak_priors`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ..data.examples import generator_for
from ..errors import InputError, require
from .english import is_english_word, is_offensive
from .quiet_tokens import is_quiet
from .subject import CAPTION_TEMPLATE, CLASS_TEMPLATE, fill
from .vocabulary import MAX_CHARACTERS, MAX_TOKENS, Vocabulary

PROBE_WORDS = tuple(
    "red blue green yellow black white old new small big wooden metal glass golden furry shiny cute angry "
    "happy scary drawing painting cartoon toy robot photo man woman child animal bird car food flower tree "
    "house city sea night snow war sport music computer".split()
)
"""Common words of every kind: what an identifier must not act like."""


@dataclass(frozen=True, kw_only=True)
class WeakPrior:
    """How little a word does to the class prompt, in text-embedding space.

    Attributes:
        closeness: cos(T('a {V} {noun}'), T('a {noun}')), at most 1.
        meaning: how much V acts like a common word, see `weak_priors`; at most 1, lower is better.
        nearest: that common word.
    """

    closeness: float
    meaning: float
    nearest: str

    @property
    def score(self) -> float:
        """Higher is better: close to the bare class prompt, far from every common word."""
        return self.closeness - self.meaning


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An identifier that passed every rule.

    Attributes:
        text: the identifier.
        token_ids: per encoder, the ids that it reads, alone and inside the caption.
        reasons: why it is safe.
        prior: its weak prior, once measured.
        pull: how much more alike it makes pictures, `picture_prior.picture_pull`, once measured.
    """

    text: str
    token_ids: Mapping[str, tuple[int, ...]]
    reasons: tuple[str, ...]
    prior: WeakPrior | None = None
    pull: float | None = None

    @property
    def score(self) -> float:
        """Higher is better: the prior's in text, less what it makes pictures alike (only more alike counts)."""
        return (self.prior.score if self.prior else 0.0) - max(0.0, self.pull or 0.0)


def rare_words(vocabularies: Sequence[Vocabulary], avoid: Collection[str] = ()) -> tuple[str, ...]:
    """Every word that is one token in all vocabularies, rare in one, and not refused by `refusal`; sorted."""
    unwanted = {word.lower() for word in avoid}
    texts = {
        vocabulary.words[index]
        for vocabulary in vocabularies
        for index in vocabulary.rare
        if index in vocabulary.words
    }
    shared = set.intersection(*({*vocabulary.words.values()} for vocabulary in vocabularies))
    return tuple(
        sorted(text for text in texts & shared if refusal(text) is None and text.lower() not in unwanted)
    )


def refusal(word: str) -> str | None:
    """Why a single word cannot be (part of) an identifier, or None."""
    if not 2 <= len(word) <= MAX_CHARACTERS:
        return f"has {len(word)} characters; 2 or {MAX_CHARACTERS} are unlikely to carry a meaning"
    if not (word.isascii() and word.isalnum()):
        return "has characters other than plain letters and digits"
    if not any(character.isalpha() for character in word):
        return "is a number"
    if is_english_word(word) or is_offensive(word):
        return "is an English word, name or abbreviation" if is_english_word(word) else "is offensive"
    return None


def find_candidates(
    vocabularies: Sequence[Vocabulary],
    *,
    class_noun: str,
    tokens: int = 1,
    count: int = 8,
    seed: int = 0,
    avoid: Collection[str] = (),
) -> tuple[Candidate, ...]:
    """`count` identifiers of `tokens` rare words each, by uniform sampling without replacement.

    Raises:
        InputError: when the loaded encoders share too few rare words.
    """
    check_request(vocabularies, tokens, count)
    found: list[Candidate] = []
    for text in _draw(rare_words(vocabularies, avoid), tokens, seed):
        if survives_round_trip(text, class_noun, vocabularies):
            found.append(_candidate(text, class_noun, vocabularies))
        if len(found) == count:
            return tuple(found)
    raise too_few(len(found), tokens, count)


def check_request(vocabularies: Sequence[Vocabulary], tokens: int, count: int) -> None:
    """Raise `InputError` for what no picker can do."""
    require(1 <= tokens <= MAX_TOKENS, "tokens", tokens, f"1 to {MAX_TOKENS} tokens", "Use 1 unless one is too weak.")
    require(count >= 1, "candidates", count, "1 or more candidates", "Use for example 8.")
    require(bool(vocabularies), "clip", "a text encoder whose tokenizer holds no words",
            "one whose vocabulary has words (CLIP, T5, Qwen, Gemma, Llama, Mistral and their like)",
            "Type an identifier by hand and test it with this model.")


def too_few(found: int, tokens: int, count: int) -> InputError:
    """What to say where the vocabularies offer less than was asked for."""
    return InputError("candidates", f"{found} safe identifiers of {tokens} tokens", f"{count}",
                      "Ask for fewer candidates or tokens, or avoid fewer words.")


def _draw(pool: Sequence[str], tokens: int, seed: int) -> Iterator[str]:
    """Groups of `tokens` words from one random order of the pool, each word used once."""
    order = torch.randperm(len(pool), generator=generator_for(seed, "identifier", 0)).tolist()
    for first in range(0, len(order) - tokens + 1, tokens):
        yield " ".join(pool[index] for index in order[first : first + tokens])


def survives_round_trip(identifier: str, class_noun: str, vocabularies: Sequence[Vocabulary]) -> bool:
    """Whether every encoder reads exactly the identifier's own tokens, alone and inside 'a {V} {noun}'."""
    return all(_reads_whole(identifier, class_noun, vocabulary) for vocabulary in vocabularies)


def _reads_whole(identifier: str, class_noun: str, vocabulary: Vocabulary) -> bool:
    ids = [vocabulary.id_of(word) for word in identifier.split()]
    if None in ids or list(vocabulary.tokenize(identifier)) != ids:
        return False
    noun = list(vocabulary.tokenize(class_noun)) if class_noun.strip() else []
    caption = list(vocabulary.tokenize(fill(CAPTION_TEMPLATE, identifier, class_noun)))
    return caption == [*vocabulary.tokenize("a"), *ids, *noun]


def _candidate(text: str, class_noun: str, vocabularies: Sequence[Vocabulary]) -> Candidate:
    token_ids = {vocabulary.name: tuple(vocabulary.tokenize(text)) for vocabulary in vocabularies}
    rare = [
        vocabulary.name
        for vocabulary in vocabularies
        if all(index in vocabulary.rare for index in token_ids[vocabulary.name])
    ]
    reasons = (
        "rare in " + " and ".join(rare) if rare else "each word is rare in one of the encoders",
        f"{MAX_CHARACTERS} characters or fewer, letters and digits",
        "no English word",
        f"same tokens alone and in '{fill(CAPTION_TEMPLATE, text, class_noun)}'",
    )
    return Candidate(text=text, token_ids=token_ids, reasons=reasons)


def weak_priors(
    identifiers: Sequence[str], class_noun: str, embed: Callable[[str], Tensor]
) -> list[WeakPrior]:
    """closeness = cos(e_V, e), meaning = max_w cos(e_V − e, e_w − e), with e_x = T('a {x} {noun}').

    e is T('a {noun}'). Raw cosines of whole sentences all lie near 1, so likeness to a common word w is
    measured between the *shifts* that V and w cause. Source: ours, an extension of arXiv:2208.12242, 3.2.

    Args:
        embed: text -> (D,), the text encoder's pooled output.
    """
    plain = embed(fill(CLASS_TEMPLATE, "", class_noun)).float()
    captions = [fill(CAPTION_TEMPLATE, word, class_noun) for word in (*PROBE_WORDS, *identifiers)]
    embeddings = torch.stack([embed(caption).float() for caption in captions])
    shifts = embeddings - plain
    probes, own = shifts[: len(PROBE_WORDS)], shifts[len(PROBE_WORDS) :]
    likeness = cosine_similarity(own[:, None], probes[None], dim=-1)  # (identifiers, probes)
    closeness = cosine_similarity(embeddings[len(PROBE_WORDS) :], plain[None], dim=-1)
    return [
        WeakPrior(closeness=float(near), meaning=float(row.max()), nearest=PROBE_WORDS[int(row.argmax())])
        for near, row in zip(closeness, likeness, strict=True)
    ]


def rank(
    candidates: Sequence[Candidate], class_noun: str, embed: Callable[[str], Tensor]
) -> tuple[Candidate, ...]:
    """The candidates with their weak priors, best first."""
    priors = weak_priors([candidate.text for candidate in candidates], class_noun, embed)
    order = sorted(range(len(candidates)), key=lambda index: (-priors[index].score, candidates[index].text))
    return tuple(replace(candidates[index], prior=priors[index]) for index in order)


def warnings_about(identifier: str, class_noun: str, vocabularies: Sequence[Vocabulary] = ()) -> tuple[str, ...]:
    """What is wrong with an identifier and a noun that the user typed; nothing for one of the picker's.

    Args:
        vocabularies: of the loaded text encoders; without them what is wrong in every encoder is found.
    """
    empty = [] if class_noun.strip() else ["the class noun is empty, so nothing is known of its class. Say what it is."]
    return (*empty, *_warnings_about_words(identifier, vocabularies))


def warnings_about_reading(identifier: str, vocabularies: Sequence[Vocabulary]) -> tuple[str, ...]:
    """Of those warnings the ones that only the loaded text encoders know: pieces, and common words of theirs."""
    words = " ".join(word for word in identifier.split() if not is_english_word(word))
    return _warnings_about_words(words, vocabularies)


def _warnings_about_words(words: str, vocabularies: Sequence[Vocabulary]) -> tuple[str, ...]:
    problems = ((word, _word_problem(word, vocabularies)) for word in words.split())
    return tuple(f"identifier '{word}' {problem}. Take one that the identifier picker ranks."
                 for word, problem in problems if problem)


def _word_problem(word: str, vocabularies: Sequence[Vocabulary]) -> str | None:
    if word.startswith("embedding:"):
        return None  # a learned embedding, which has no text; a bare vocabulary would read its file name
    readings = [(vocabulary, vocabulary.read(word) or tuple(vocabulary.tokenize(word))) for vocabulary in vocabularies]
    for vocabulary, ids in readings:
        if any(index < 0 for index in ids):
            return None
        if len(ids) != 1 and not is_quiet(ids, vocabulary):
            return f"splits into {len(ids)} common pieces in {vocabulary.name} ({vocabulary.spell(ids)})"
    if is_english_word(word):
        return "is an English word, name or abbreviation"
    if readings and not any(len(ids) > 1 or ids[0] in vocabulary.rare for vocabulary, ids in readings):
        return "is a common word of the text encoder's vocabulary"
    return None


def report(candidates: Sequence[Candidate], class_noun: str) -> str:
    """Which to use and how, a table of the candidates, best first, and under it why each is safe."""
    has_pull = any(candidate.pull is not None for candidate in candidates)
    header = (f"{'rank':>4}  {'identifier':<12} {'score':>6} {'close':>6} {'like':>6} {'of':<9} "
              f"{'pull  ' if has_pull else ''}token ids")
    rows = [_row(place, candidate) for place, candidate in enumerate(candidates, start=1)]
    reasons = [f"{candidate.text}: {'; '.join(candidate.reasons)}" for candidate in candidates]
    legend = (
        f"score = close - like{' - pull (where above 0)' if has_pull else ''}; close: how near 'a V noun' is to "
        "'a noun' (1 = same); like: how much V acts like the nearest common word"
        + ("; pull: how much more alike V makes pictures than the noun alone does (0 = not at all, 1 = all the same)"
           if has_pull else "")
    )
    noun, best = class_noun.strip(), candidates[0].text
    use = f"Use {best}. Write '{f'{best} {noun}'.strip()}' in prompts."
    return "\n".join([use, "", f"Identifiers for '{noun or '(no noun)'}'", header, *rows, "", legend, "",
                      "Why each is safe:", *reasons])


def _row(place: int, candidate: Candidate) -> str:
    ids = ", ".join(f"{name} {' '.join(map(str, found))}" for name, found in candidate.token_ids.items())
    prior = candidate.prior
    if candidate.pull is not None:
        ids = f"{candidate.pull:<5.2f} {ids}"
    if prior is None:
        return f"{place:>4}  {candidate.text:<12} {'-':>6} {'-':>6} {'-':>6} {'-':<9} {ids}"
    measures = f"{candidate.score:>6.3f} {prior.closeness:>6.3f} {prior.meaning:>6.3f} {prior.nearest:<9}"
    return f"{place:>4}  {candidate.text:<12} {measures} {ids}"
