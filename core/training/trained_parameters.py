"""Which parameters train in a run, and at which rate: those of adapters in the networks, and token vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..data.examples import TrainingData
from ..errors import require
from ..learning.adapter import Adapter, AdapterConfig, BeginTokenDetached, Frozen, RankByTimestep, make_adapters
from ..learning.token_vectors import TokenVectors, TokenVectorsConfig, start_vectors
from ..learning.trainable import Trainable
from ..model.contracts import Denoiser, TextEncoder, WordVectors
from ..model.schedule import NoiseSchedule
from ..wording import fold
from .config import TrainingConfig, TrainingOptions

DENOISER, TEXT_ENCODER, TOKEN_VECTORS = "denoiser", "text_encoder", "token_vectors"

FROZEN, BEGIN_TOKEN, RANKS = "frozen", "begin token", "rank by timestep"

Trainables = dict[str, Trainable]


def make_trainables(owners: Mapping[str, Denoiser | TextEncoder], config: TrainingConfig, data: TrainingData,
                    text_encoder: TextEncoder, starts: WordVectors, schedule: NoiseSchedule) -> Trainables:
    """Everything that trains, by name; nothing is put in where one of them cannot be made.

    Raises:
        InputError: as for each of them, or where nothing would train.
    """
    token_vectors = learned_vectors(config, data)
    vectors = {word.word: starts[word.word] if word.start == "given" else
               start_vectors(word, config.seed, text_encoder.widths, text_encoder.token_rows) for word in token_vectors}
    trained = _with_a_rate(owners, config)
    require(bool(trained or token_vectors), "training", "nothing that trains", "a network or token vectors",
            "Turn on training of the diffusion model, or connect token vectors.")
    detached = BeginTokenDetached(owners[DENOISER].module) if config.options.detach_begin_token else None
    trainables: Trainables = dict(make_adapters(trained, adapter_configs(config.options), config.seed))
    trainables |= {f"{FROZEN} {name}": Frozen(owner.module) for name, owner in owners.items() if name not in trained}
    if token_vectors:
        trainables[TOKEN_VECTORS] = TokenVectors(token_vectors, vectors)
    denoiser = trainables.get(DENOISER)
    if config.options.min_rank and isinstance(denoiser, Adapter):
        trainables[RANKS] = RankByTimestep(denoiser.module, denoiser.layers, config.options.min_rank, schedule)
    if detached is not None:
        trainables[BEGIN_TOKEN] = detached  # last: its hooks go around adapters
    return trainables


def adapter_configs(options: TrainingOptions) -> dict[str, AdapterConfig]:
    """How each network learns, where it does."""
    return {DENOISER: options.adapter, TEXT_ENCODER: options.text_adapter or options.adapter}


def learned_vectors(config: TrainingConfig, data: TrainingData) -> tuple[TokenVectorsConfig, ...]:
    """The user's own learned vectors and those of the objectives.

    Raises:
        InputError: one word is learned twice.
    """
    token_vectors = [*config.token_vectors, *(word for objective in config.objectives
                                      for word in objective.token_vectors(data, config.learning_rate))]
    names = [word.word for word in token_vectors]
    for name in names:
        alike = [other for other in names if fold(other) == fold(name)]
        require(len(alike) == 1, "token vectors", f"{' and '.join(map(repr, dict.fromkeys(alike)))} learned twice",
                "each word once", "Remove one of the two nodes, or pick another identifier; case does not count.")
    return tuple(token_vectors)


def parameter_groups(trainables: Trainables, config: TrainingConfig) -> list[dict[str, Any]]:
    """One group of parameters per rate: each adapter's, and each learned word's, with the fraction of the run
    after which it stands still."""
    rates = {DENOISER: config.learning_rate, TEXT_ENCODER: config.options.text_encoder_rate}
    groups: list[dict[str, Any]] = []
    for name, trainable in trainables.items():
        if isinstance(trainable, TokenVectors):
            groups += [{"params": trainable.of(word), "lr": word.learning_rate, "stop_at": word.stop_at,
                        "weight_decay": 0.0} for word in trainable.configs]
        elif name in rates:
            groups.append({"params": trainable.parameters(), "lr": rates[name], "stop_at": 1.0})
    return groups


def leave_casts_to_autocast(trainables: Trainables) -> None:
    """Keep peft from casting under autocast."""
    for trainable in trainables.values():
        if isinstance(trainable, Adapter):
            trainable.leave_casts_to_autocast()


def _with_a_rate(owners: Mapping[str, Denoiser | TextEncoder],
                 config: TrainingConfig) -> dict[str, Denoiser | TextEncoder]:
    trains = {DENOISER: config.options.trains_denoiser, TEXT_ENCODER: config.options.text_encoder_rate > 0}
    return {name: owner for name, owner in owners.items() if trains[name]}
