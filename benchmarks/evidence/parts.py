"""A method's choices as the inputs of Personalize Trainer, made by the nodes that a graph would use."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.v0_0_2 import io

from ...core.store.class_images import PriorRecipe
from ...core.subject.subject import Subject
from ...nodes.bridge.sampling.class_images import make_class_images, model_digest, text_encoder_digest
from ...nodes.bridge.sockets import ObjectiveChain, TokenVectorsSettings
from ...nodes.image_text_encoder import ImageTextEncoder
from ...nodes.prototypical_embedding import PrototypicalEmbedding
from ...pocket.config import SIZE
from .dci_nouns import first_noun

if TYPE_CHECKING:
    from .comfy_process import Loaded
    from .methods import Method

CLASS_SAMPLING: dict[str, Any] = {"sampler": "euler_ancestral", "scheduler": "normal", "steps": 25, "cfg": 3.0,
                                  "seed": 0}


def trainer_inputs(method: Method, loaded: Loaded, subject: Subject) -> dict[str, Any]:
    """Everything beside the models, the subject and the trainer's own widgets."""
    inputs: dict[str, Any] = {"options": method.options, "objective": objective_chain(method, loaded, subject)}
    if method.vectors is not None:
        inputs["token_vectors"] = token_vectors(method, loaded, subject)
    if any(objective.needs_image_text for objective in method.objectives):
        inputs["image_text"] = image_text_encoder()
    return inputs


def objective_chain(method: Method, loaded: Loaded, subject: Subject) -> ObjectiveChain:
    """The method's objectives with the class images that they want."""
    names = {"noun": subject.class_noun, "other": first_noun(subject.class_noun)}
    pools = tuple(class_images(loaded, noun.format(**names), method.class_count)
                  for noun in method.class_nouns if method.has_class_images)
    return ObjectiveChain(objectives=method.objectives, class_images=pools)


def class_images(loaded: Loaded, class_noun: str, count: int) -> Any:
    """A pool of 'a {noun}' by the untrained model, from disk where it was made before."""
    recipe = PriorRecipe(model=model_digest(loaded.model), text_encoder=text_encoder_digest(loaded.clip), size=SIZE,
                         prompt=f"a {class_noun}", **CLASS_SAMPLING)
    return make_class_images(loaded.model, loaded.clip, recipe, class_noun, count, batch=8)[0]


def token_vectors(method: Method, loaded: Loaded, subject: Subject) -> tuple[TokenVectorsSettings, ...]:
    """The learned identifier: from its own start, or from the prototype of photo and masked subject."""
    assert method.vectors is not None
    if not method.has_prototype:
        return (TokenVectorsSettings(identifier=subject.identifier, config=method.vectors),)
    return run_node(PrototypicalEmbedding, (subject,), image_text_encoder(), loaded.clip, method.vectors.count,
                    method.vectors.learning_rate, 1.0, 100, 5e-3)[0]


@cache
def image_text_encoder() -> Any:
    """The pocket's own."""
    return run_node(ImageTextEncoder, "pocket")[0]


def run_node(node: type[io.ComfyNode], *arguments: Any) -> tuple[Any, ...]:
    """A node's outputs, as ComfyUI's executor gets them."""
    with torch.inference_mode():
        return node.PREPARE_CLASS_CLONE(None).execute(*arguments).result
