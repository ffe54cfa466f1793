"""Where a prompt's words stand in the text context that the network reads, for every kind of CLIP.

Several text encoders either lie on top of each other (SDXL: one column holds both encoders' view of one token), or one
behind the other (SD3: CLIP's columns, then T5's), or do not reach the context at all (Flux: CLIP-L is pooled only).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ....core.dci.dbim import BranchTokens
from ....core.dci.phrases import (
    PromptTokens,
    Token,
    between,
    content_tokens,
    is_same_token,
    shared_start,
    trimmed,
)
from ....core.dci.spelling import Spelling, find_phrase, find_phrases, occupied, replaced, spell
from ....core.dci.subjects import SubjectPrompt
from ....core.errors import InputError, require
from ....core.wording import spellings
from .token_pieces import piece_of

Tokens = dict[str, list[Any]]
"""ComfyUI's tokens: for every text encoder chunks of (token, weight)."""
CLIP_ENCODERS = frozenset({"l", "g", "h"})
UNLIKE = ("a", "7")
NOTICEABLE = 0.2
"""From which part of the largest difference on two rows are of different tokens, and not of different rounding."""


def locate_branches(clip: Any, subject: SubjectPrompt) -> tuple[BranchTokens, BranchTokens]:
    """Token columns of both branches, found without loading the text encoder.

    The concept branch counts every 'V noun', the auxiliary branch all but the auxiliary nouns; with split prompts each
    counts all that it has.

    Raises:
        InputError: without a text encoder, or where 'V noun' is not in the prompt; it shows the tokens.
    """
    require(clip is not None, "clip", "nothing", "a text encoder",
            "The checkpoint has none: connect a CLIP loader.")
    _, *both = _aligned(clip, subject.texts, subject.auxiliary_texts)
    entire = [encoder_tokens(clip, tokens) for tokens in both]
    found = {encoder: _locate(clip, subject, encoder, entire[0][encoder], entire[1][encoder]) for encoder in entire[0]}
    if not subject.split:
        concept = _branch(clip, entire[0], {encoder: subjects for encoder, (subjects, _) in found.items()})
        nouns = _branch(clip, entire[1], {encoder: nouns for encoder, (_, nouns) in found.items()})
        others = tuple(column for column in nouns.content if column not in nouns.counted)
        return concept, BranchTokens(nouns.length, nouns.content, others)
    parts = [encoder_tokens(clip, tokens) for tokens in tokenize_branches(clip, subject)[1:]]
    require(all(tokens.tokens for tokens in parts[1].values()), "prompt", "nothing but the subject",
            "words beside the subject, for split prompts", "Write where the subject is, or use entire prompts.")
    everything = [_branch(clip, part, {encoder: set(tokens.columns) for encoder, tokens in part.items()})
                  for part in parts]
    return everything[0], everything[1]


def context_rows(clip: Any, tokens: Sequence[Tokens], contexts: Sequence[Tensor],
                 located: tuple[BranchTokens, BranchTokens]) -> tuple[BranchTokens, BranchTokens]:
    """Located tokens as rows of the encoded contexts, of which some text encoders leave out the chat template's.

    How many they leave out at the front shows where the contexts of two prompts first differ: these encoders read from
    left to right.

    Args:
        clip: the text encoder.
        tokens: both branches' tokens.
        contexts: both branches' contexts, (1, T, D).
        located: both branches' columns among the tokens.

    Raises:
        InputError: where the rows are not the tokens'.
    """
    encoder = context_layout(clip)[0][0]
    missing = located[0].length - contexts[0].shape[1]
    if missing <= 0 or _is_read_by_the_network(clip, encoder):
        return located
    first, second = ([entry[0] for chunk in each[encoder] for entry in chunk] for each in tokens)
    token = next(place for place, (one, other) in enumerate(zip(first, second, strict=False))
                 if not is_same_token(one, other))
    left_out = token - _first_difference(*contexts)
    require(0 <= left_out <= missing, "clip", f"{contexts[0].shape[1]} rows for {located[0].length} tokens",
            "a text encoder whose rows are its tokens', in order", "Sample this model without DCI.")
    concept, auxiliary = (_without_rows(found, left_out, context.shape[1])
                          for found, context in zip(located, contexts, strict=True))
    return concept, auxiliary


def _first_difference(first: Tensor, second: Tensor) -> int:
    """The first row at which two contexts (1, T, D) differ by more than rounding does."""
    length = min(first.shape[1], second.shape[1])
    one, other = (rows[0, :length].float() for rows in (first, second))
    change = (one - other).norm(dim=-1) / torch.maximum(one.norm(dim=-1), other.norm(dim=-1)).clamp_min(1e-6)
    return int((change > NOTICEABLE * change.max()).nonzero()[0])


def _without_rows(tokens: BranchTokens, left_out: int, length: int) -> BranchTokens:
    content, counted = (tuple(column - left_out for column in found if 0 <= column - left_out < length)
                        for found in (tokens.content, tokens.counted))
    return BranchTokens(length, content, counted)


def tokenize_branches(clip: Any, subject: SubjectPrompt) -> tuple[Tokens, Tokens, Tokens]:
    """ComfyUI's tokens of what the concept branch sees, the same at the auxiliary branch's length, and the latter's."""
    return _aligned(clip, subject.concept_branch, subject.auxiliary_branch)


def _aligned(clip: Any, first: Sequence[str], second: Sequence[str]) -> tuple[Tokens, Tokens, Tokens]:
    """Tokens of two prompts, the first also padded to the second's length where an encoder takes any (T5, an LLM), the
    second to the first's: the rows of a call have one length.

    CLIP's chunks of 77 are left as they are: repeated, they have the same attention. So is what is padded on the left,
    which the network itself pads (Flux.2), or what it reads as token ids (Anima).
    """
    plain, other = tokenize(clip, first), tokenize(clip, second)
    padded = {encoder: list(chunks) for encoder, chunks in plain.items()}
    for encoder in (encoder for group in context_layout(clip) for encoder in group):
        tokenizer = _tokenizer(clip, encoder)
        is_padded = tokenizer.pad_to_max_length or getattr(tokenizer, "pad_left", False)
        if is_padded or _is_read_by_the_network(clip, encoder):
            continue
        longest = max(len(chunks[encoder][-1]) for chunks in (padded, other))
        for chunks in (padded, other):
            missing = longest - len(chunks[encoder][-1])
            chunks[encoder][-1] = chunks[encoder][-1] + [(tokenizer.pad_token, 1.0)] * missing
    return plain, padded, other


def _is_read_by_the_network(clip: Any, encoder: str) -> bool:
    """Whether a tokenizer has no text encoder beside another that has: the network reads its ids (Anima's T5)."""
    loaded = getattr(clip, "cond_stage_model", None)
    return (encoder == "t5xxl" and loaded is not None and len(clip.tokenize("")) > 1
            and getattr(loaded, "t5xxl", None) is None)


def tokenize(clip: Any, texts: Sequence[str]) -> Tokens:
    """ComfyUI's tokens of one text for all encoders, or of two as CLIPTextEncodeSDXL makes them (CLIP-G's, CLIP-L's).

    Raises:
        InputError: for a second text without a CLIP-L and a CLIP-G.
    """
    tokens = clip.tokenize(texts[0])
    if len(texts) == 1:
        return tokens
    require({"l", "g"} <= tokens.keys(), "prompt_l", f"a second text for the encoders {', '.join(sorted(tokens))}",
            "none, or SDXL's CLIP", "Leave it empty: only SDXL has two texts.")
    tokens["l"] = clip.tokenize(texts[1])["l"]
    empty = clip.tokenize("")
    longest = max(len(tokens["l"]), len(tokens["g"]))
    for encoder in ("l", "g"):
        tokens[encoder] = tokens[encoder] + empty[encoder] * (longest - len(tokens[encoder]))
    return tokens


def encoder_tokens(clip: Any, tokens: Tokens) -> dict[str, PromptTokens]:
    """The words of a prompt as every text encoder that reaches the context sees them."""
    kept = [encoder for group in context_layout(clip) for encoder in group]
    return {encoder: _content(clip, encoder, chunks) for encoder, chunks in tokens.items() if encoder in kept}


def context_layout(clip: Any) -> list[list[str]]:
    """The text encoders as the context is made of them: groups behind each other, members on top of each other.

    CLIP's make it alone, or beside T5 in SD3; where there are others, CLIP's are only pooled (Flux, Kandinsky,
    HiDream), and of several others T5, or the first, makes it.
    """
    encoders = list(clip.tokenize(""))
    others = [encoder for encoder in encoders if encoder not in CLIP_ENCODERS]
    if not others:
        return [encoders]
    if sorted(encoders) != ["g", "l", "t5xxl"]:
        return [["t5xxl" if "t5xxl" in others else others[0]]]
    loaded = getattr(clip, "cond_stage_model", None)  # SD3 works with any of its three

    def is_loaded(encoder: str) -> bool:
        return loaded is None or getattr(loaded, encoder if encoder == "t5xxl" else f"clip_{encoder}", None) is not None

    groups = [[encoder for encoder in group if is_loaded(encoder)] for group in (["g", "l"], ["t5xxl"])]
    return [group for group in groups if group]


def show_tokens(clip: Any, encoder: str, tokens: Iterable[Token]) -> str:
    """Tokens as a person reads them: a | photo | of."""
    tokenizer = _tokenizer(clip, encoder)

    def word(token: Token) -> str:
        if isinstance(token, Tensor):
            return "<embedding>"
        return str(tokenizer.untokenize([(token, 1.0)])[0][1]).removesuffix("</w>")

    return " | ".join(map(word, tokens)) or "(none)"


def _tokenizer(clip: Any, encoder: str) -> Any:
    """The tokenizer of one text encoder."""
    found = getattr(clip.tokenizer, f"clip_{encoder}", None) or getattr(clip.tokenizer, encoder, None)
    require(found is not None, "clip", f"a text encoder {encoder!r} that is not known here",
            "CLIP-L, CLIP-G, CLIP-H or T5", "Use the CLIP of an SD 1.x, SD 2.x, SDXL, SD3 or Flux model.")
    return found


def _content(clip: Any, encoder: str, chunks: Sequence[Sequence[tuple[Any, ...]]]) -> PromptTokens:
    tokenizer = _tokenizer(clip, encoder)
    tokens = [[entry[0] for entry in chunk] for chunk in chunks]
    if tokenizer.end_token is not None:
        return content_tokens(tokens, tokenizer.start_token, tokenizer.end_token)
    before, behind = _template(clip, encoder)
    return between([token for chunk in tokens for token in chunk], before, behind, tokenizer.pad_token)


def _template(clip: Any, encoder: str) -> tuple[list[Token], list[Token]]:
    """The tokens that a tokenizer puts before and behind every prompt: begin token and chat template.

    They are what prompts without a word in common share at both ends.
    """
    first, second = ([entry[0] for chunk in clip.tokenize(text)[encoder] for entry in chunk] for text in UNLIKE)
    pad = _tokenizer(clip, encoder).pad_token
    ends = [trimmed(tokens, pad, from_start=False)[::-1] for tokens in (first, second)]
    return shared_start(first, second), trimmed(shared_start(*ends)[::-1], pad)


def _spelled(clip: Any, encoder: str, tokens: Sequence[Token]) -> Spelling:
    return spell(tokens, piece_of(_tokenizer(clip, encoder)))


def _phrase(clip: Any, encoder: str, phrase: str) -> Spelling:
    return _spelled(clip, encoder, _content(clip, encoder, clip.tokenize(phrase)[encoder]).tokens)


def _locate(clip: Any, subject: SubjectPrompt, encoder: str, prompt: PromptTokens,
            auxiliary: PromptTokens) -> tuple[set[int], set[int]]:
    """One text encoder's columns of all subjects in the prompt, and of their replacements in the auxiliary prompt."""
    forms = [[(_phrase(clip, encoder, phrase), _phrase(clip, encoder, noun)) for phrase, noun in one.forms]
             for one in subject.subjects]
    text, other = (_spelled(clip, encoder, found.tokens) for found in (prompt, auxiliary))
    for one, pairs in zip(subject.subjects, forms, strict=True):
        require(bool(find_phrases(text, pairs)), "prompt", f"the tokens {show_tokens(clip, encoder, prompt.tokens)}",
                _expected(clip, encoder, one.forms[0][0], subject.prompt),
                "Write identifier and class noun side by side, as the model was trained with them.")
    occurrences = find_phrases(text, [pair for pairs in forms for pair in pairs])
    nouns = replaced(occurrences, other)
    left = any(find_phrase(other, phrase) for pairs in forms for phrase, _ in pairs)
    if nouns is None or left:
        raise InputError("prompt", f"{subject.prompt!r}, of which {subject.auxiliary_texts[0]!r} was made",
                         f"{subject.subjects[0].forms[0][0]!r} in it, each time as plain words",
                         "Leave nothing but white space and the brackets of weights between its words, and no letter "
                         "or digit right beside it.")
    return ({prompt.columns[token] for token in occupied(text, occurrences)},
            {auxiliary.columns[token] for token in nouns})


def _expected(clip: Any, encoder: str, phrase: str, prompt: str) -> str:
    """What the prompt lacks; in another case it may be there for a person, and not for T5."""
    tokens = _content(clip, encoder, clip.tokenize(phrase)[encoder]).tokens
    written = spellings(prompt, phrase)
    case = f", and this text encoder reads {written[0]!r} as another word" if written and phrase not in written else ""
    return f"{phrase!r} in it, as the tokens {show_tokens(clip, encoder, tokens)}{case}"


def _branch(clip: Any, tokens: Mapping[str, PromptTokens], counted: Mapping[str, set[int]]) -> BranchTokens:
    """Columns of the context, from every encoder's own.

    Raises:
        InputError: where encoders that lie on top of each other count other columns.
    """
    length = 0
    content: set[int] = set()
    chosen: set[int] = set()
    for group in context_layout(clip):
        first = counted[group[0]]
        require(all(counted[encoder] == first for encoder in group), "prompt",
                " and ".join(f"columns {sorted(counted[encoder])}" for encoder in group),
                "the subject's tokens at the same place for all text encoders",
                "Let both texts begin alike up to the subject, without embeddings of different lengths before it.")
        content |= {length + column for encoder in group for column in tokens[encoder].columns}
        chosen |= {length + column for column in first}
        length += min(tokens[encoder].length for encoder in group)
    return BranchTokens(length, tuple(sorted(content)), tuple(sorted(chosen)))
