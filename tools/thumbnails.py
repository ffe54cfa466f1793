"""The gallery's thumbnails: photo -> result with one line of words, every workflow in the same frame.

`make gallery` runs the workflows, keeps their pictures in `.gallery` and draws these; `make thumbnails` draws what is
kept again, with no run.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from PIL import Image, ImageDraw, ImageFont, ImageOps

from .install_comfyui import ROOT

KEPT: Final = ROOT / ".gallery"
WORKFLOWS: Final = ROOT / "workflows"
SIZE: Final = (512, 320)
TILE, MARGIN, STRIP = 224, 16, 64
INK, PAPER, ARROW = "#1c1c1c", "#ffffff", "#c2571a"


class Story(NamedTuple):
    """What a thumbnail shows."""

    words: str
    """One line."""
    photos: tuple[str, ...]
    """Files of `workflows/photos`, on the left: one large, or up to four small."""
    results: tuple[str, ...]
    """Titles of Save Image nodes whose pictures stand on the right; of two and more, one row each. None where the
    workflow needs files that are not here."""
    labels: tuple[str, ...] = ()
    """A word on each row."""


DOG: Final = tuple(f"personalize_dog_{number}.png" for number in (1, 2, 3, 4))
MASKED: Final = ("personalize_dog_masked.png",)
SCENE: Final = ("personalize_scene_masked.png",)
STORIES: Final[dict[str, Story]] = {
    "00": Story("A model, your photos, one word", DOG, ("Your subject",)),
    "00a": Story("The same as a form: an app", DOG, ("Your subject",)),
    "00b": Story("For models that come as three files", DOG, ()),
    "01": Story("Four photos, and your subject anywhere", DOG, ("Your subject",)),
    "02": Story("One photo and a painted mask are enough", MASKED, ("Your subject",)),
    "03": Story("The prompt obeyed, with the subject kept", DOG[1:2], ("Plain", "With DCI"), ("plain", "DCI")),
    "04": Story("A saved subject in img2img and inpainting", SCENE, ("Image to image", "Inpainting"),
                ("img2img", "inpaint")),
    "05": Story("Photos with contexts of their own (ICO)", DOG, ("Your subject",)),
    "06": Story("A word for it: Textual Inversion", DOG, ("Your subject",)),
    "07": Story("One photo, a prototype, a new place", MASKED, ("Your subject",)),
    "08": Story("Custom Diffusion: only the words' layers learn", DOG, ("Your subject",)),
    "09": Story("All weights: a checkpoint of your own", DOG, ("Your subject",)),
    "10": Story("Two subjects from one photo", ("personalize_two_objects.png",),
                ("The dog alone", "The backpack alone", "Both"), ("dog", "backpack", "both")),
    "11": Story("Four times as large, with its own details", DOG,
                ("Personalized picture", "Four times as large"), ("small", "large")),
    "12": Story("How strongly should the prompt count?", DOG[1:2], ("One sheet per seed: plain, then stronger",)),
    "13": Story("Two subjects in one picture", (), ("One prompt", "Two halves"), ("one prompt", "two halves")),
    "14": Story("Inpainting that fits its surroundings", SCENE, ("Inpainting, plain", "Inpainting with DCI"),
                ("plain", "DCI")),
    "15": Story("Where does DCI listen?", DOG, ("Pictures", "Masks of the subject"), ("picture", "mask")),
    "16": Story("How like the subject, how like the prompt?", DOG, ("Sheet, personalized", "Sheet, before"),
                ("after", "before")),
    "17": Story("Which settings do people prefer?", DOG, ("Base model", "Personalized", "Personalized, with DCI"),
                ("base", "trained", "DCI")),
    "18": Story("Captions by a model that sees", DOG, ()),
    "19": Story("One photo, an edit model's views", DOG[:1], ()),
    "20": Story("A picture shown, a LoRA, or both?", DOG, ()),
}
"""By the workflow's number."""


def keep_pictures(name: str, pictures: Mapping[str, Sequence[Image.Image]], folder: Path = KEPT) -> None:
    """Keeps a run's pictures, by the title of their Save Image node, in place of the last run's."""
    shutil.rmtree(folder / name, ignore_errors=True)
    for title, images in pictures.items():
        place = folder / name / title.replace("/", "_")
        place.mkdir(parents=True)
        for number, image in enumerate(images):
            image.save(place / f"{number:03}.png")


def kept_pictures(name: str, title: str, folder: Path = KEPT) -> list[Image.Image]:
    """The pictures of a node, in order; none where the workflow was not run."""
    return [Image.open(path).convert("RGB") for path in sorted((folder / name / title.replace("/", "_")).glob("*.png"))]


def draw(story: Story, results: Sequence[Sequence[Image.Image]], photos: Sequence[Image.Image]) -> Image.Image:
    """The frame: photos, an arrow, results, and the words below.

    Args:
        results: a row of pictures per title of the story; fewer pictures leave the rest of a row white.
    """
    frame = Image.new("RGB", SIZE, PAPER)
    ink, top = ImageDraw.Draw(frame), MARGIN
    right = SIZE[0] - MARGIN - TILE
    if not results:
        frame.paste(grid(photos[:4]), ((SIZE[0] - TILE) // 2, top))
    elif photos:
        frame.paste(grid(photos[:4]), (MARGIN, top))
        middle, x = top + TILE // 2, MARGIN + TILE + 6
        ink.polygon([(x, middle - 12), (right - 6, middle), (x, middle + 12)], fill=ARROW)
    else:
        right = (SIZE[0] - TILE) // 2
    if results:
        frame.paste(rows(results, story.labels), (right, top))
    font = fitting_font(story.words, SIZE[0] - 2 * MARGIN)
    ink.text((SIZE[0] // 2, SIZE[1] - STRIP // 2 - 4), story.words, INK, font, anchor="mm")
    return frame


def grid(pictures: Sequence[Image.Image]) -> Image.Image:
    """One picture, or two by two of them, in a square tile."""
    square, side = Image.new("RGB", (TILE, TILE), PAPER), TILE if len(pictures) == 1 else TILE // 2
    for number, picture in enumerate(pictures):
        square.paste(whole(picture, (side, side)), (number % 2 * side, number // 2 * side))
    return square


def rows(results: Sequence[Sequence[Image.Image]], labels: Sequence[str]) -> Image.Image:
    """One title's pictures two by two; of several titles a row each, with its label."""
    if len(results) == 1:
        first = results[0]
        is_wide = bool(first) and first[0].width > 2 * first[0].height
        return stacked(first[:4]) if is_wide else grid(first[:4])
    tile, height = Image.new("RGB", (TILE, TILE), PAPER), TILE // len(results)
    ink = ImageDraw.Draw(tile)
    for number, pictures in enumerate(results):
        left = 0
        for picture in pictures:
            width = max(1, round(height * picture.width / picture.height))
            if left + width > TILE and left:
                break
            shown = whole(picture, (min(width, TILE), height))
            tile.paste(shown, (left, number * height))
            left += shown.width
        if number < len(labels):
            ink.text((4, number * height + 3), labels[number], "white", ImageFont.load_default(15), stroke_width=2,
                     stroke_fill="black")
    return tile


def stacked(sheets: Sequence[Image.Image]) -> Image.Image:
    """Wide sheets below each other."""
    tile, height = Image.new("RGB", (TILE, TILE), PAPER), TILE // max(1, len(sheets))
    for number, sheet in enumerate(sheets):
        tile.paste(whole(sheet, (TILE, height)), (0, number * height))
    return tile


def whole(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """All of a picture in a box of a size, on white."""
    return ImageOps.pad(picture, size, Image.Resampling.LANCZOS, color=PAPER)


def fitting_font(words: str, width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The largest of a few sizes in which the words fit in one line."""
    sizes = [ImageFont.load_default(size) for size in (26, 24, 22, 20, 18)]
    return next((font for font in sizes if font.getlength(words) <= width), sizes[-1])


def write_thumbnail(name: str, folder: Path = KEPT) -> bool:
    """Draws the thumbnail of a workflow whose pictures are kept; False where they are not."""
    story = STORIES[name.split()[0]]
    results = [kept_pictures(name, title, folder) for title in story.results]
    if not all(results):
        return False
    photos = [Image.open(WORKFLOWS / "photos" / photo).convert("RGB") for photo in story.photos]
    draw(story, results, photos).save(WORKFLOWS / f"{name}.jpg", quality=88)
    return True


def main() -> None:
    """Draws every thumbnail whose pictures are kept, and says which are not."""
    for path in sorted((WORKFLOWS / "api").glob("*.json")):
        if not write_thumbnail(path.stem):
            print(f"{path.stem}: not run yet; make gallery runs it")


if __name__ == "__main__":
    main()
