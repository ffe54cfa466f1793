"""How good is a personalization? Fidelity to the subject, alignment with the prompt, drift of the class, diversity.

A method is measured by its *curve* of fidelity against alignment over training steps, never by one point.
"""

from __future__ import annotations

from .diversity import PictureDistance, coarse_distance, cosine_distance, diversity, encoder_distance
from .encoders import ImageEncoder, Pictures, TransformersImageEncoder, embed_each, load_image_encoder
from .intervals import Estimate, estimate
from .kernel_distance import KernelDistance, has_torchmetrics, kernel_distance, vector_distance
from .lpips import check_lpips, load_lpips
from .nouns import NOUN_TEMPLATE, NounScore, class_nouns, rank_nouns
from .similarity import (
    drift,
    image_similarity,
    mean_cosines,
    mean_pairwise_cosine,
    picture_similarities,
    prompt_alignment,
    prompt_alignments,
    without_identifier,
)

__all__ = ["NOUN_TEMPLATE", "Estimate", "ImageEncoder", "KernelDistance", "NounScore", "PictureDistance", "Pictures",
           "TransformersImageEncoder", "check_lpips", "class_nouns", "coarse_distance", "cosine_distance", "diversity",
           "drift", "embed_each", "encoder_distance", "estimate", "has_torchmetrics", "image_similarity",
           "kernel_distance", "load_image_encoder", "load_lpips", "mean_cosines", "mean_pairwise_cosine",
           "picture_similarities", "prompt_alignment", "prompt_alignments", "rank_nouns", "vector_distance",
           "without_identifier"]
