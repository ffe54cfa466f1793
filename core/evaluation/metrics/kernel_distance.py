"""KID: how far apart are two *sets* of pictures? The squared maximum mean discrepancy of an encoder's vectors.

KID over Inception (arXiv:1801.01401) needs weights of its own; this one is over the encoder that is given, CLIP or
DINO, and is called so. Figures over different encoders, or with Inception's, are not comparable.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import require
from .encoders import ImageEncoder, Pictures, embed_each

PACKAGE = "torchmetrics"
SUBSETS = 100


@dataclass(frozen=True)
class KernelDistance:
    """KID.

    Attributes:
        mean: over the subsets; may fall below 0, because the estimate is unbiased.
        spread: standard deviation over the subsets; no interval of the mean.
        subset_size: pictures of either set in each subset.
    """

    mean: float
    spread: float
    subset_size: int


def has_torchmetrics() -> bool:
    """Whether the optional package is there."""
    return importlib.util.find_spec(PACKAGE) is not None


def require_torchmetrics(name: str) -> None:
    """Raise `InputError` where the optional package that gives a figure is not installed."""
    require(has_torchmetrics(), name, f"no package {PACKAGE}", f"the package {PACKAGE}",
            f"Install it in ComfyUI's Python (pip install {PACKAGE}).")


def kernel_distance(encoder: ImageEncoder, generated: Pictures, references: Pictures, subset_size: int = 0,
                    seed: int = 0) -> KernelDistance:
    """KID of two sets of pictures over an encoder: `vector_distance` of what it sees."""
    return vector_distance(embed_each(encoder, generated), embed_each(encoder, references), subset_size, seed)


def vector_distance(generated: Tensor, references: Tensor, subset_size: int = 0, seed: int = 0) -> KernelDistance:
    """MMD^2 with the kernel (1 + cos(x, y))^3, unbiased, mean over 100 random subsets; lower is better.

    Inception's vectors are long and its kernel divides by their width; an encoder's have length 1, so here gamma is 1.
    The global random state is left as it was.

    Args:
        generated: (N, P) unit vectors of pictures.
        references: (M, P) unit vectors of photos.
        subset_size: pictures per subset; 0 = as many as the smaller set has, but 1000 at most.
        seed: of the subsets.

    Raises:
        InputError: torchmetrics is not installed, fewer than 2 pictures in a set, or a subset larger than a set.

    Source: Binkowski et al., arXiv:1801.01401, 4; torchmetrics' KernelInceptionDistance.
    """
    require_torchmetrics("KID")
    fewest = min(len(generated), len(references))
    require(fewest >= 2, "KID", f"a set of {fewest} pictures", "2 or more pictures and 2 or more photos",
            "Give more, or leave KID out.")
    size = subset_size or min(fewest, 1000)
    require(2 <= size <= fewest, "subset_size", size, f"2 to {fewest}, the smaller set's size", "Use 0 for all of it.")
    make = importlib.import_module("torchmetrics.image.kid").KernelInceptionDistance
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # that the vectors are kept in memory
        torch.manual_seed(seed)
        kid = make(feature=nn.Identity(), subsets=SUBSETS, subset_size=size, gamma=1.0)
        kid.update(references, real=True)
        kid.update(generated, real=False)
        mean, spread = kid.compute()
    return KernelDistance(float(mean), float(spread), size)
