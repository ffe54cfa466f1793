"""Learned vectors: vectors in token-embedding space that stand for a word of the prompts.

Textual Inversion (arXiv:2208.01618) learns such vectors alone; the identifier's vectors may as well train beside an
adapter, and ICO's contexts (Jin et al., ECCV 2024) are the same thing for words that only one photo's caption has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..data.examples import generator_for
from ..errors import require
from ..model.contracts import WordVectors
from ..wording import word_pattern

Start = Literal["word", "random", "given"]
Norm = Literal["free", "fixed"]
MOST = 8


@dataclass(frozen=True, kw_only=True)
class TokenVectorsConfig:
    """One learned word.

    Attributes:
        word: the word of the prompts that the vectors stand for: an identifier, or a caption's own placeholder.
        count: m, vectors per text encoder.
        start: "word" copies the embeddings of `start_text` (repeated where it has fewer tokens), "random" draws
            N(0, std²), "given" takes vectors that were made before, such as a prototype's.
        start_text: the text for "word"; a coarse description such as the class noun.
        std: deviation of a random start.
        learning_rate: their own rate.
        stop_at: fraction of the run after which they stand still (pivotal tuning).
        norm: "free", or "fixed" at the norms of the start.
        is_context: whether only this run's captions know the word, so that it is kept for inspection alone.
        digest: what a given start was made from; part of the run's key.
    """

    word: str
    count: int = 1
    start: Start = "word"
    start_text: str = ""
    std: float = 0.02
    learning_rate: float = 5e-4
    stop_at: float = 1.0
    norm: Norm = "free"
    is_context: bool = False
    digest: str = ""

    def __post_init__(self) -> None:
        require(bool(self.word.strip()), "word", "an empty text", "the identifier", "Name the word to learn.")
        require(1 <= self.count <= MOST or self.is_context, "vectors", self.count, f"1 to {MOST}", "Use for example 2.")
        require(self.start in get_args(Start), "start", repr(self.start), "one of " + ", ".join(get_args(Start)),
                "Choose one of them.")
        require(self.norm in get_args(Norm), "norm", repr(self.norm), "one of " + ", ".join(get_args(Norm)),
                "Choose one of them.")
        require(self.start != "word" or bool(self.start_text.strip()), "start_text", "an empty text",
                "one or more words to start from", "Write for example the class noun.")
        require(self.std > 0, "std", self.std, "a number above 0", "Use 0.02.")
        require(self.learning_rate > 0, "learning_rate of token vectors", self.learning_rate, "a number above 0",
                "Start from 5e-4.")
        require(0 < self.stop_at <= 1, "stop_at", self.stop_at, "a fraction of the run, above 0 and at most 1",
                "Use 1 to train them to the end.")


class TokenVectors:
    """All learned vectors of a run, as one `Trainable`. They are in no module, so putting in and out does nothing.

    Args:
        configs: one per word.
        starts: for each word and text encoder its first vectors (m, D).
    """

    def __init__(self, configs: Sequence[TokenVectorsConfig], starts: WordVectors):
        self.configs = tuple(configs)
        self._vectors = {config.word: {encoder: nn.Parameter(start.detach().clone().float())
                                       for encoder, start in sorted(starts[config.word].items())}
                         for config in self.configs}
        self._norms = {config.word: {encoder: start.norm(dim=-1, keepdim=True).detach().clone()
                                     for encoder, start in self._vectors[config.word].items()}
                       for config in self.configs if config.norm == "fixed"}

    @property
    def vectors(self) -> WordVectors:
        """The vectors as they are, with their graph."""
        return self._vectors

    def of(self, config: TokenVectorsConfig) -> list[nn.Parameter]:
        """One word's parameters."""
        return list(self._vectors[config.word].values())

    def parameters(self) -> list[nn.Parameter]:
        return [parameter for config in self.configs for parameter in self.of(config)]

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{number}.{encoder}": vectors.detach().clone()
                for number, config in enumerate(self.configs)
                for encoder, vectors in self._vectors[config.word].items()}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        own = self.state_dict()
        fits = own.keys() == tensors.keys() and all(own[name].shape == tensors[name].shape for name in own)
        require(fits, "token vectors", "vectors of other words, numbers or text encoders",
                f"the {len(own)} tensors of this run", "Load what the same graph saved.")
        for number, config in enumerate(self.configs):
            for encoder, vectors in self._vectors[config.word].items():
                vectors.copy_(tensors[f"{number}.{encoder}"])

    def inject(self) -> None:
        """Nothing: prompts are encoded with them."""

    def eject(self) -> None:
        """Nothing: they are in no module."""

    @torch.no_grad()
    def after_step(self) -> None:
        """Bring the vectors of a fixed norm back to it."""
        for word, norms in self._norms.items():
            for encoder, norm in norms.items():
                vectors = self._vectors[word][encoder]
                vectors.mul_(norm / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12))

    def export(self, *, contexts: bool) -> dict[str, dict[str, Tensor]]:
        """Copies of the vectors of the identifiers, or of the contexts."""
        return {config.word: {encoder: vectors.detach().clone().cpu()
                              for encoder, vectors in self._vectors[config.word].items()}
                for config in self.configs if config.is_context == contexts}


def reads(prompt: str, word: str) -> bool:
    """Whether a word stands in a prompt: in any case, and not as a part of a longer word or as a file's name."""
    return _pattern((word,)).search(prompt) is not None


def replace_words(prompt: str, words: Collection[str], replacement: Callable[[str], str]) -> str:
    """The prompt with every one of the words replaced by `replacement` of that word."""
    if not words:
        return prompt
    longest_first = sorted(words, key=len, reverse=True)

    def meant(match: re.Match[str]) -> str:
        return next(word for word in longest_first if reads(match[0], word))

    return _pattern(tuple(words)).sub(lambda match: replacement(meant(match)), prompt)


@lru_cache(maxsize=4096)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?<!embedding:){word_pattern(*words)}", re.IGNORECASE)


def start_vectors(config: TokenVectorsConfig, seed: int, widths: Mapping[str, int],
                  read: Callable[[str], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The first vectors (m, D) of a word for each text encoder, where they are not given.

    Args:
        config: says how.
        seed: of a random start; each word has its own stream.
        widths: D of each text encoder.
        read: the embedding rows (n, D) of a text for each text encoder.
    """
    if config.start == "random":
        return {encoder: config.std * torch.randn(config.count, width,
                                                  generator=generator_for(seed, f"vectors/{config.word}/{encoder}", 0))
                for encoder, width in widths.items()}
    rows = read(config.start_text)
    return {encoder: found[torch.arange(config.count) % len(found)].detach().clone().float()
            for encoder, found in rows.items()}
