"""A page that asks people which of two methods' pictures is better, blind: one HTML file that needs no network.

Each pair shows two methods' pictures of one prompt. It is asked twice: with the subject's photos, and with the prompt
(Jin et al., ECCV 2024, user study). *Blind* means that what is seen, the order of the pictures in the file and the
markup tell nothing of the methods: their names stand in the file only as encoded text, which the answers' download
needs. It is no secret from somebody who decodes it on purpose. Order and sides are drawn anew for each rater, from
their name (core/evaluation/paired_page_template/rating.js).
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy
from PIL import Image
from torch import Tensor

from ..errors import require
from ..store.files import canonical_json, make_folder, write_bytes
from .paired_comparison import PROMPT_FIDELITY, QUESTIONS, SUBJECT_FIDELITY

TEMPLATE = Path(__file__).with_name("paired_page_template")
SCRIPTS = ("statistics.js", "rating.js", "results.js")
EVIDENCE = {SUBJECT_FIDELITY: "photos", PROMPT_FIDELITY: "prompt"}
MOST_PHOTOS = 6
"""Reference photos on the page: what can be taken in at a glance."""
LONGEST_SIDE = 1024
LONGEST_PHOTO_SIDE = 384
LOSSLESS_SIDE = 256
"""Pictures up to this size are stored without loss, larger ones as JPEG: all of a page in the same way."""
JPEG = {"format": "JPEG", "quality": 94, "subsampling": 0}


def write_page(methods: Mapping[str, Tensor], prompts: Sequence[str], references: Sequence[Tensor], path: str | Path,
               title: str, seed: int, pairs_per_sheet: int = 0) -> Path:
    """Write the page of `make_page` in one step and return its path.

    Raises:
        InputError: as `make_page`.
        StorageError: for a full disk.
    """
    page, path = make_page(methods, prompts, references, title, seed, pairs_per_sheet), Path(path)
    make_folder(path.parent)
    write_bytes(path, page)
    return path


def make_page(methods: Mapping[str, Tensor], prompts: Sequence[str], references: Sequence[Tensor], title: str,
              seed: int, pairs_per_sheet: int = 0) -> bytes:
    """The page as HTML; the same bytes for the same input.

    Args:
        methods: (N, 3, H, W) in 0..1 by name; picture i of each shows prompt i.
        prompts: N texts as raters should read them, so without the identifier.
        references: the subject's photos (3, h, w) in 0..1, of any sizes; the first `MOST_PHOTOS` are shown.
        seed: of the sheets and of the order in the file.
        pairs_per_sheet: at most so many pairs for one sitting; 0 = all on one sheet.

    Raises:
        InputError: fewer than two methods, names that are equal or empty, pictures of other numbers or sizes, another
            number of prompts, an empty prompt, no reference.
    """
    named = {name.strip(): pictures for name, pictures in methods.items()}
    check_names(list(methods))
    _check_pictures(named, prompts)
    require(len(references) > 0, "references", "no photo", "1 or more photos of the subject",
            "Connect the subject, or its photos.")
    require(bool(title.strip()), "title", "an empty text", "what the page is called", "Write for example 'My dog'.")
    require(pairs_per_sheet >= 0, "pairs_per_sheet", pairs_per_sheet, "0 (all) or more", "Use for example 25.")
    study = _study(named, prompts, references, title.strip(), seed, pairs_per_sheet)
    return _fill_template(title.strip(), canonical_json(study)).encode()


def check_names(names: Sequence[str]) -> None:
    """What can be said of the methods' names before there are pictures.

    Raises:
        InputError: fewer than two, an empty one, or two that are equal but for case and spaces.
    """
    plain = [" ".join(name.split()).casefold() for name in names]
    require(len(plain) >= 2, "methods", f"{len(plain)} method(s)", "2 or more", "Connect another method's pictures.")
    require(all(plain), "name", "an empty name", "a name for every method", "Write what each method is called.")
    for name, own in zip(names, plain, strict=True):
        require(plain.count(own) == 1, "name", f"{name!r} for two methods", "a name of its own for each",
                "Rename one of them.")


def _check_pictures(methods: Mapping[str, Tensor], prompts: Sequence[str]) -> None:
    first, expected = next((name, pictures.shape) for name, pictures in methods.items())
    for name, pictures in methods.items():
        require(pictures.ndim == 4 and pictures.shape[1] == 3, f"pictures of {name}", tuple(pictures.shape),
                "a batch (N, 3, H, W)", "Connect ordinary pictures.")
        require(len(pictures) > 0, f"pictures of {name}", "none", "1 or more pictures", "Connect some.")
        require(bool(pictures.isfinite().all()), f"pictures of {name}", "NaN or infinite pixels", "finite pixels",
                "Look at the node that made them.")
        require(len(pictures) == expected[0], f"pictures of {name}", f"{len(pictures)} pictures",
                f"{expected[0]}, as {first} has", "Draw the same prompts with every method.")
        require(pictures.shape == expected, f"pictures of {name}", f"{pictures.shape[3]} x {pictures.shape[2]} pixels",
                f"{expected[3]} x {expected[2]}, as {first} has", "Draw one size: another would give the method away.")
    require(len(prompts) == expected[0], "prompts", f"{len(prompts)} for {expected[0]} pictures",
            "one for each picture", "Write one line per picture, in the pictures' order.")
    require(all(prompt.strip() for prompt in prompts), "prompts", "an empty one", "a text for every picture",
            "Write what the picture should show.")


def _study(methods: Mapping[str, Tensor], prompts: Sequence[str], references: Sequence[Tensor], title: str, seed: int,
           pairs_per_sheet: int) -> dict[str, Any]:
    """What the page's script reads: pictures in a drawn order, sheets of pairs of their numbers, the encoded key."""
    chance = random.Random(seed)  # noqa: S311 - pairs are shuffled, nothing secret
    origins = [(name, index) for name in methods for index in range(len(prompts))]
    chance.shuffle(origins)
    content = {
        "title": title,
        "questions": [{"name": name, "text": text, "shows": EVIDENCE[name]} for name, text in QUESTIONS.items()],
        "prompts": [" ".join(prompt.split()) for prompt in prompts],
        "photos": [_data_uri(photo, LONGEST_PHOTO_SIDE) for photo in references[:MOST_PHOTOS]],
        "pictures": [_data_uri(methods[name][index], LONGEST_SIDE) for name, index in origins],
        "sheets": _sheets(origins, pairs_per_sheet, chance),
        "key": _encoded([name for name, _ in origins]),
    }
    digest = hashlib.blake2b(canonical_json(content).encode(), digest_size=6).hexdigest()
    return {**content, "study": digest}


def _sheets(origins: Sequence[tuple[str, int]], pairs_per_sheet: int, chance: random.Random) -> list[list[Any]]:
    """Sheets of [prompt, picture, picture], of equal size but for one pair and of every pair of methods alike."""
    where = {origin: number for number, origin in enumerate(origins)}
    names, count = sorted({name for name, _ in origins}), 1 + max(index for _, index in origins)
    kinds = [[[index, *chance.sample((where[first, index], where[second, index]), 2)] for index in range(count)]
             for first, second in combinations(names, 2)]
    for kind in kinds:
        chance.shuffle(kind)
    mixed = list(chain.from_iterable(zip(*kinds, strict=True)))
    sheets = -(-len(mixed) // pairs_per_sheet) if pairs_per_sheet else 1
    return [mixed[len(mixed) * n // sheets:len(mixed) * (n + 1) // sheets] for n in range(sheets)]


def _encoded(value: Any) -> str:
    """JSON in base64: nothing that is read at a glance."""
    return base64.b64encode(canonical_json(value).encode()).decode()


def _data_uri(picture: Tensor, longest: int) -> str:
    """Pixels (3, H, W) in 0..1 as a data URI, reduced to the longest side, without any metadata."""
    pixels = (picture.detach().cpu().float().clamp(0, 1) * 255).round().byte().movedim(0, -1)
    image = Image.fromarray(numpy.ascontiguousarray(pixels.numpy()))
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    settings: Mapping[str, Any] = {"format": "PNG", "optimize": True} if max(image.size) <= LOSSLESS_SIDE else JPEG
    stored = io.BytesIO()
    image.save(stored, **settings)
    return f"data:image/{settings['format'].lower()};base64,{base64.b64encode(stored.getvalue()).decode()}"


def _fill_template(title: str, study: str) -> str:
    """The template with its style, script and study inside; nothing else may run or be loaded."""
    style = _read(["page.css"])
    script = _read(SCRIPTS)
    policy = (f"default-src 'none'; img-src data:; style-src '{_fingerprint(style)}'; "
              f"script-src '{_fingerprint(script)}'; base-uri 'none'; form-action 'none'")
    parts = {"policy": policy, "title": html.escape(title), "style": style, "script": script,
             "study": study.replace("<", "\\u003c")}
    return re.sub(r"{{(\w+)}}", lambda place: parts[place[1]], _read(["page.html"]))


def _read(names: Iterable[str]) -> str:
    return "".join(TEMPLATE.joinpath(name).read_text(encoding="utf-8") for name in names)


def _fingerprint(text: str) -> str:
    """What a content security policy calls the hash of an inline element."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
