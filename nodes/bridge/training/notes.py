"""What is noted of a run in its folder, for the list of runs in the editor."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from torch import Tensor

from ....core.store.run_notes import THUMBNAIL, keep_thumbnail, note_run
from ....core.store.runs import Run
from ..photos.latents import square_pixels
from ..progress import to_pil
from ..queued import base_model, running_graph
from .request import Request

SIDE = 256
"""Pixels of a thumbnail's photo, and of the picture beside it."""


def note(request: Request, run: Run) -> None:
    """Note graph, user, base model and a first photo of a run that a queued graph asks for."""
    queued = running_graph()
    if queued is None:
        return
    note_run(run.folder, base_model(queued.prompt, queued.node), queued.user, queued.kept)
    if not (run.folder / THUMBNAIL).exists():
        keep_thumbnail(run.folder, thumbnail(request, None))


def note_picture(request: Request, folder: Path, picture: Tensor) -> None:
    """Put a picture (H, W, 3) of the trained subject beside the photo."""
    if running_graph() is not None:
        keep_thumbnail(folder, thumbnail(request, picture))


def thumbnail(request: Request, picture: Tensor | None) -> bytes:
    """A JPEG: the first photo, and the picture on its right where there is one."""
    photo = square_pixels(request.subjects[0].photos[0].pixels, SIDE)
    parts = [to_pil(photo), *([] if picture is None else [to_pil(picture).resize((SIDE, SIDE))])]
    sheet = Image.new("RGB", (SIDE * len(parts), SIDE))
    for number, part in enumerate(parts):
        sheet.paste(part, (number * SIDE, 0))
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=85)
    return file.getvalue()
