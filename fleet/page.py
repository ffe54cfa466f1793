"""The results of a plan as one page and one table: failures first, a thumbnail for each subject."""

from __future__ import annotations

import csv
import html
import io
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from PIL import Image

from .jobs import Job
from .storage import Storage
from .worker import RESULT

THUMBNAIL = 192
REST = 20.0
"""Times what it took to write the index, until it is written again."""
ORDER = {"failed": 0, "lost": 1, "stopped": 2, "waiting": 3, "done": 4}
COLUMNS = ("subject", "status", "steps", "seconds", "message")

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>
 :root {{ color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif }}
 body {{ margin: 2rem }} table {{ border-collapse: collapse }}
 th, td {{ padding: .4rem .8rem; text-align: left; vertical-align: top; border-bottom: 1px solid #8884 }}
 th button {{ all: unset; cursor: pointer; font-weight: 600 }} th button:focus-visible {{ outline: 2px solid }}
 th[aria-sort=ascending] button::after {{ content: " \\25B2" }}
 th[aria-sort=descending] button::after {{ content: " \\25BC" }}
 img {{ width: 96px; height: 96px; object-fit: cover; margin-right: 4px }} .failed, .lost {{ color: #c33 }}
 td.message {{ max-width: 40rem }}
</style>
<h1>{title}</h1><p>{summary}</p>
<table><thead><tr>{heads}</tr></thead><tbody>
{rows}
</tbody></table>
<script>
 for (const [column, head] of [...document.querySelectorAll("th")].entries()) head.firstElementChild.onclick = () => {{
  const body = document.querySelector("tbody"), up = head.ariaSort !== "ascending"
  for (const other of document.querySelectorAll("th")) other.removeAttribute("aria-sort")
  head.ariaSort = up ? "ascending" : "descending"
  const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent
  const rows = [...body.rows].sort((a, b) => key(a).localeCompare(key(b), undefined, {{ numeric: true }}))
  body.append(...(up ? rows : rows.reverse()))
 }}
</script>
</html>
"""


def result_of(storage: Storage, name: str) -> dict[str, Any] | None:
    """What `result.json` of a job says; None where there is none that can be read."""
    try:
        found = json.loads(storage.read(f"{name}/{RESULT}"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return found if isinstance(found, dict) else None


class Index:
    """`index.html` and `results.csv` beside the subjects' folders.

    Args:
        storage: of the results.
        title: of the page.
        jobs: all of the plan.
    """

    def __init__(self, storage: Storage, title: str, jobs: Sequence[Job]):
        self._storage, self._title, self._jobs = storage, title, jobs
        self._thumbnails: dict[str, str] = {}
        self._not_before = 0.0

    def write(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Write both anew.

        Args:
            records: by name, of the jobs that ended: `result.json`, or status and message.
        """
        rows = sorted((_row(job, records.get(job.name, {})) for job in self._jobs),
                      key=lambda row: (ORDER.get(str(row["status"]), 0), str(row["subject"])))
        settings = list(dict.fromkeys(key for job in self._jobs for key in job.settings))
        figures = list(dict.fromkeys(key for row in rows for key in row["figures"]))
        for row in rows:
            row["thumbnails"] = [self._thumbnail(f"{row['subject']}/{picture['file']}")
                                 for picture in row["pictures"][:4]]
        self._storage.write("index.html", _html(self._title, rows, settings, figures).encode())
        self._storage.write("results.csv", _csv(rows, settings, figures).encode("utf-8-sig"))

    def keep_up(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Write both anew, unless that would take more than a twentieth of the time: with thousands of jobs the page is
        long, and jobs end faster than it is written."""
        start = time.monotonic()
        if start >= self._not_before:
            self.write(records)
            self._not_before = start + REST * (time.monotonic() - start)

    def _thumbnail(self, picture: str) -> str:
        """A small JPEG, looked for once and made where there is none; the picture itself, where it is gone."""
        if picture not in self._thumbnails:
            try:
                self._thumbnails[picture] = _thumbnail(self._storage, picture)
            except FileNotFoundError:
                self._thumbnails[picture] = picture
        return self._thumbnails[picture]


def _row(job: Job, record: Mapping[str, Any]) -> dict[str, Any]:
    return {"subject": job.name, "status": record.get("status", "waiting"), "steps": job.steps,
            "seconds": record.get("seconds", ""), "message": record.get("message", ""), "settings": job.settings,
            "pictures": record.get("pictures", []), "files": record.get("files", []),
            "figures": _flat(record.get("figures", []))}


def _flat(records: Iterable[Any]) -> dict[str, float]:
    """The numbers of Evaluate Personalization's record, by name: of each figure its mean."""
    found: dict[str, float] = {}
    for record in records:
        for name, value in (record.get("figures", {}) if isinstance(record, dict) else {}).items():
            mean = value.get("mean") if isinstance(value, dict) else value
            if isinstance(mean, int | float):
                found[str(name)] = float(mean)
    return found


def _thumbnail(storage: Storage, picture: str) -> str:
    job, _, file = picture.partition("/")
    name = f"{job}/thumbnails/{file.rsplit('/', 1)[-1].rsplit('.', 1)[0]}.jpg"
    if not storage.exists(name):
        with Image.open(io.BytesIO(storage.read(picture))) as opened:
            small, content = opened.convert("RGB"), io.BytesIO()
            small.thumbnail((THUMBNAIL, THUMBNAIL))
            small.save(content, "JPEG", quality=85)
        storage.write(name, content.getvalue())
    return name


def _html(title: str, rows: list[dict[str, Any]], settings: list[str], figures: list[str]) -> str:
    counts = {status: sum(row["status"] == status for row in rows) for status in ORDER}
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    heads = ["pictures", *COLUMNS[:-1], *settings, *figures, "files", COLUMNS[-1]]
    return _PAGE.format(title=html.escape(title), summary=html.escape(summary),
                        heads="".join(f"<th><button>{html.escape(head)}</button></th>" for head in heads),
                        rows="\n".join(_html_row(row, settings, figures) for row in rows))


def _html_row(row: dict[str, Any], settings: list[str], figures: list[str]) -> str:
    name, cells = str(row["subject"]), []
    pictures = [_html_picture(name, picture, small)
                for picture, small in zip(row["pictures"], row["thumbnails"], strict=False)]
    cells.append(f"<td>{''.join(pictures)}</td>")
    cells.append(f'<td><a href="{quote(name)}/">{html.escape(name)}</a></td>')
    cells.append(f'<td class="{row["status"]}">{row["status"]}</td><td>{row["steps"]}</td><td>{row["seconds"]}</td>')
    cells += [f"<td>{html.escape(str(row['settings'].get(key, '')))}</td>" for key in settings]
    cells += [f"<td>{row['figures'][key]:.3f}</td>" if key in row["figures"] else "<td></td>" for key in figures]
    links = [f'<a href="{quote(name)}/{quote(file)}">{html.escape(file)}</a>' for file in row["files"]]
    links += [f'<a href="{quote(name)}/job.log">log</a>'] if row["status"] != "waiting" else []
    links += [f'<a href="{quote(name)}/report.txt">report</a>'] if row["status"] == "done" else []
    cells.append(f"<td>{'<br>'.join(links)}</td>")
    cells.append(f'<td class="message">{html.escape(str(row["message"]))}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _html_picture(name: str, picture: Mapping[str, Any], small: str) -> str:
    prompt = html.escape(str(picture["prompt"]), quote=True)
    return (f'<a href="{quote(name)}/{quote(picture["file"])}">'
            f'<img loading="lazy" src="{quote(small)}" alt="{prompt}" title="{prompt}"></a>')


def _csv(rows: list[dict[str, Any]], settings: list[str], figures: list[str]) -> str:
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow([*COLUMNS[:-1], *settings, *figures, "files", COLUMNS[-1]])
    for row in rows:
        writer.writerow([row["subject"], row["status"], row["steps"], row["seconds"],
                         *(row["settings"].get(key, "") for key in settings),
                         *(row["figures"].get(key, "") for key in figures), " ".join(row["files"]),
                         _as_text(str(row["message"]))])
    return output.getvalue()


def _as_text(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@") else cell
