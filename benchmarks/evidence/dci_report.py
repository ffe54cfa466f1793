"""The pages of the DCI bench: the sweep that its defaults were chosen by, and the figures on held-out subjects."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from .claims import AREA, Claim
from .dci_charts import draw_charts
from .dci_settings import (
    ASKED,
    CFG,
    CLAIMS,
    FIGURES,
    OVERFITTED,
    PAIRS,
    SAMPLER,
    SEEDS,
    STEPS,
    SWEEP,
    Setting,
)
from .dci_text import DEFAULTS, EVIDENCE, REASONS
from .dci_values import Cells, difference, values
from .intervals import Estimate, estimate, verdict

PICTURES = "dci_evidence_pictures.jpg"
MEASURES = ("alignment", "fidelity", AREA, "places", "noun")


def settings_table(cells: Cells, settings: Sequence[Setting], against: str) -> str:
    """One row per setting: its rows, its measures, and how much alignment and area differ from another setting's."""
    head = ["setting", "network rows", *MEASURES, f"alignment minus {against}", f"area minus {against}"]
    rows = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for setting in settings:
        if not values(cells, setting.name, "alignment"):
            continue
        own = [str(estimate(list(values(cells, setting.name, measure).values()))) for measure in MEASURES]
        beside = ["" if setting.name == against else _signed(difference(cells, setting.name, against, measure))
                  for measure in ("alignment", AREA)]
        rows.append(f"| {setting.title} | {setting.rows:g} | {' | '.join([*own, *beside])} |")
    return "\n".join(rows)


def _signed(found: Estimate) -> str:
    text = f"{found.mean:+.3f}"
    return text if found.low != found.low else f"{text} [{found.low:+.3f}, {found.high:+.3f}]"


def claims_table(cells: Cells, claims: Sequence[Claim] = CLAIMS) -> str:
    """One row per claim that both of its sides were run for."""
    rows = ["| claim | source | measure | expected | measured difference | verdict |", "|---|---|---|---|---|---|"]
    for claim in claims:
        found = difference(cells, claim.first, claim.second, claim.measure)
        if found.count:
            expected = "above 0" if claim.expected > 0 else "below 0"
            rows.append(f"| {claim.text} | {claim.source} | {claim.measure} | {expected} | {_signed(found)} "
                        f"(n = {found.count}) | {verdict(found, claim.expected)} |")
    return "\n".join(rows)


def not_run(cells: Cells, claims: Sequence[Claim] = CLAIMS) -> str:
    """A sentence: the claims of which one side is missing on every subject."""
    missing = [claim.text for claim in claims if not difference(cells, claim.first, claim.second, claim.measure).count]
    return f"Not run yet, and so without a verdict: {'; '.join(missing)}." if missing else "All claims were run."


def better_than(cells: Cells, settings: Sequence[Setting], against: str) -> str:
    """A sentence: which settings have more area than another one beyond the interval, and which has most."""
    found = {setting.title: difference(cells, setting.name, against, AREA) for setting in settings
             if setting.name not in (against, "plain") and values(cells, setting.name, AREA)}
    clear = [title for title, each in found.items() if each.low > 0]
    worse = [title for title, each in found.items() if each.high < 0]
    best = max(found, key=lambda title: found[title].mean, default="none")
    return (f"More area than *{against}* beyond the interval: {'; '.join(clear) or 'none'}. "
            f"Less: {'; '.join(worse) or 'none'}. Most: {best}.")


def pairs_table(cells: Cells, pairs: Sequence[tuple[str, str]], settings: Sequence[Setting]) -> str:
    """One row per pair of settings: differences in alignment, fidelity and area."""
    titles = {setting.name: setting.title for setting in settings}
    rows = ["| difference | alignment | fidelity | area |", "|---|---|---|---|"]
    for first, second in pairs:
        found = [difference(cells, first, second, measure) for measure in ("alignment", "fidelity", AREA)]
        if found[0].count:
            rows.append(f"| *{titles[first]}* minus *{titles[second]}* | {' | '.join(map(_signed, found))} |")
    return "\n".join(rows)


def how(cells: Cells) -> str:
    """Settings and versions, as a list."""
    subjects = sorted({subject for _, subject, _ in cells})
    asked = "; ".join(prompt.template for prompt in ASKED)
    return "\n".join([
        f"- subjects (the unit of every interval): {len(subjects)}; one training seed",
        f"- trained: {OVERFITTED.title}, rate {OVERFITTED.learning_rate:g}, batch {OVERFITTED.batch}, "
        f"{OVERFITTED.steps} steps unless said, {OVERFITTED.class_count} class images of each of "
        f"{len(OVERFITTED.class_nouns)} texts about the noun and its stand-in",
        f"- sampled: {SAMPLER}, {STEPS} steps, cfg {CFG:g}; {len(ASKED)} prompts, {SEEDS} pictures each ({asked})",
        f"- Python {platform.python_version()}, torch {torch.__version__}",
    ])


def write_defaults(cells: Cells, folder: Path, command: str) -> Path:
    """`dci_defaults.md` in a folder."""
    page = folder / "dci_defaults.md"
    table = settings_table(cells, SWEEP, "published")
    page.write_text("\n\n".join([DEFAULTS.format(command=command).strip(), how(cells), table,
                                 better_than(cells, SWEEP, "published"), pairs_table(cells, PAIRS, SWEEP),
                                 REASONS.strip()]) + "\n", encoding="utf-8")
    return page


def write_evidence(cells: Cells, folder: Path, command: str) -> Path:
    """`dci_evidence.md` and `dci_evidence.png` in a folder."""
    page = folder / "dci_evidence.md"
    (folder / "dci_evidence.png").write_bytes(draw_charts(cells))
    parts = [EVIDENCE.format(command=command).strip(), "![charts](dci_evidence.png)", how(cells), "## Claims",
             claims_table(cells), not_run(cells), "## Settings",
             settings_table(cells, FIGURES, "plain"),
             "## Pictures", "Two rows per subject: plain sampling, and DCI below it; two pictures per prompt.",
             f"![pictures]({PICTURES})"]
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return page
