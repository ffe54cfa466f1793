"""Markdown of the report's kind (headings, tables, lists, paragraphs, pictures) as one HTML page that needs no file."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping

STYLE = ("body{font-family:sans-serif;max-width:80em;margin:2em auto;padding:0 1em;line-height:1.4}"
         "td,th{border:1px solid #999;padding:.2em .5em;text-align:left}figure{margin:1em 0}"
         "table{border-collapse:collapse;font-size:.8em;display:block;overflow-x:auto}img{max-width:100%}")
PICTURE = re.compile(r"!\[(.*)\]\((.*)\)")
KINDS = {"jpg": "jpeg", "png": "png"}


def as_page(title: str, markdown: str, pictures: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        title: of the window.
        markdown: the report; blocks are parted by blank lines.
        pictures: the files that it names.
    """
    body = "\n".join(as_block(block, pictures) for block in re.split(r"\n{2,}", markdown.strip()))
    return (f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
            f"<style>{STYLE}</style>\n{body}\n</html>\n")


def as_block(block: str, pictures: Mapping[str, bytes]) -> str:
    """One block by its first character."""
    if found := PICTURE.fullmatch(block.strip()):
        return as_picture(found[2], found[1], pictures)
    if block.startswith("#"):
        level = len(block) - len(block.lstrip("#"))
        return f"<h{level}>{inline(block[level:].strip())}</h{level}>"
    if block.startswith("|"):
        return as_table(block)
    if block.startswith("- "):
        items = re.split(r"\n- ", block[2:])
        return "<ul>" + "".join(f"<li>{inline(item)}</li>" for item in items) + "</ul>"
    return f"<p>{inline(block)}</p>"


def as_picture(name: str, text: str, pictures: Mapping[str, bytes]) -> str:
    """A picture inside the page."""
    data = base64.b64encode(pictures[name]).decode()
    kind = KINDS[name.rpartition(".")[2]]
    return f"<figure><img src='data:image/{kind};base64,{data}' alt='{html.escape(text, quote=True)}'></figure>"


def as_table(block: str) -> str:
    """A Markdown table; the second line parts head and body."""
    head, _, *body = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
    rows = [f"<tr>{''.join(f'<{tag}>{inline(cell)}</{tag}>' for cell in cells)}</tr>"
            for tag, cells in [("th", head), *(("td", cells) for cells in body)]]
    return f"<table>{''.join(rows)}</table>"


def inline(text: str) -> str:
    """Emphasis, code and links; links keep their text alone, because the page may lie anywhere."""
    safe = re.sub(r"\[([^\]]+)\]\(([^)]+)\)", r"\1 (`\2`)", html.escape(text, quote=False))
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    safe = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", safe)
    return re.sub(r"(?<!\w)\*([^*]+)\*(?!\w)", r"<i>\1</i>", safe)
