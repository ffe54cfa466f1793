"""The nodes' help pages, as the editor's panel can show them: 270 pixels wide, without a way to another page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

DOCS = Path(__file__).parents[1] / "web" / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
PICTURE = re.compile(r"!\[([^]]+)\]\(([^)]+)\)")
LINK = re.compile(r"(?<!!)\[[^]]+\]\(([^)\s]+)|^\[[^]]+\]:\s*(\S+)"
                  r"|<a [^>]*href=[\"']([^\"']*)|<((?!https?:)\S+\.md)>", re.MULTILINE)
MOST_BYTES = 15 * 1024

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))


def node_of(page: Path) -> str:
    """The node's id: Node.md, or Node/language.md."""
    return page.stem if page.parent == DOCS else page.parent.name


def links(text: str) -> list[str]:
    """Where the page's links lead."""
    return [next(filter(None, found)) for found in LINK.findall(text)]


@every_page
def test_a_page_begins_with_a_small_picture_of_its_node(page):
    """The panel takes paths from web/docs, whichever folder the page is in."""
    (title, path), *_ = PICTURE.findall(page.read_text(encoding="utf-8"))
    assert title and path == f"pictures/{node_of(page)}.png"
    assert (DOCS / path).stat().st_size <= MOST_BYTES
    with Image.open(DOCS / path) as picture:
        assert picture.format == "PNG" and 200 <= picture.width <= 640 and picture.height >= 50


@every_page
def test_a_page_has_only_links_that_the_panel_can_open(page):
    """It gives a relative link to the browser, which asks for it beside the editor: nothing is there."""
    assert [link for link in links(page.read_text(encoding="utf-8")) if not link.startswith("https://")] == []


def test_a_relative_link_is_found_in_any_form():
    text = "[a](B.md) ![c](d.png) [e](https://f)\n[g]: H.md\n<a href='I.md'>i</a> <J.md>"
    assert links(text) == ["B.md", "https://f", "H.md", "I.md", "J.md"]


@every_page
def test_a_page_has_no_table(page):
    """A table of two columns is wider than the panel already; lists are not."""
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"^\s*\|?\s*:?-{3,}:?\s*\|", text, re.MULTILINE) and "<table" not in text


def test_there_is_no_picture_without_its_page():
    assert {path.stem for path in (DOCS / "pictures").iterdir()} == {node_of(page) for page in PAGES}
