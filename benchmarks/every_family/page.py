"""docs/families.md, made of docs/families.json alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .server.section import section
from .verdict import LIMITS, failures, is_refused

VERIFIED = "structure verified, pictures not seen"
HEAD = """# Families of models

Written by `make families`, with [families.json](families.json), which has the same figures for programs. Every
family of text-to-image models in ComfyUI {comfyui}'s list was built as a tiny network of its true structure with
random weights, in ComfyUI's own classes and in 32 bits, on a CPU. No published weights were run:
*{verified}* says that the mechanics are right, not that pictures are good. What each record
in `nodes/bridge/model/families` knows of its family, with ComfyUI's own loader and real tokenizers, stands in
[family_options.md](family_options.md).

**{good} of {all} are verified**{others}.

| family | found | predicts | two texts | gradient | LoRA keys | LoRA picture | loss | resumes | restored | DCI \
| identifier |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""
LEGEND = """
- **predicts**: one step of stock sampling against the trainer's own estimate of the clean picture, for two prompts; the
  largest difference as a share of the largest value. Good: at most 1e-5.
- **two texts**: a row whose batch holds a text of another number of tokens, against the row alone. Good: at most 1e-5.
- **gradient**: autograd's slope against central differences, with and without checkpointing by block. Good: at most
  0.02, which is what differences in 32 bits can tell.
- **LoRA keys**, **LoRA picture**: layers of the trained file that the stock loader matches, and the trainer's own
  picture with the adapter in place against stock sampling with the file loaded. Good: all, and at most 1e-5.
- **loss**: after a dozen steps of the real trainer on one picture, as a share of before, at fixed noise. Good: below 1.
- **resumes**: a run that was cut in the middle and resumed ends in the same bits. **restored**: weights, layers and a
  stock picture of the MODEL are bit for bit what they were.
- **DCI**: two steps of sampling with both branches. **identifier**: a rare word is picked by the family's own
  tokenizers.
- –: there is no such figure; the reason stands below.
"""


def page(records: Sequence[Mapping[str, Any]], comfyui: str) -> str:
    """The whole page."""
    good = [record for record in records if not is_refused(record) and not failures(record)]
    refused = sum(map(is_refused, records))
    failed = len(records) - len(good) - refused
    rest = ((refused, "refused with the reason"), (failed, "not right"))
    others = "".join(f", {count} {what}" for count, what in rest if count)
    head = HEAD.format(comfyui=comfyui, verified=VERIFIED, good=len(good), all=len(records), others=others)
    return head + "\n".join(map(line, records)) + "\n" + LEGEND + reasons(records) + section(records)


def line(record: Mapping[str, Any]) -> str:
    """A case in one line of the table."""
    order = ("prediction_error", "mixed_text_error", "gradient_error", "lora_keys", "lora_error", "loss_ratio",
             "resume_exact", "restored", "dci", "identifier")
    return f"| {' | '.join([record['name'], found(record), *(cell(key, record[key]) for key in order)])} |"


def found(record: Mapping[str, Any]) -> str:
    """What is to be said of a case."""
    if is_refused(record):
        return "refused"
    wrong = failures(record)
    return f"**not right**: {', '.join(wrong)}" if wrong else VERIFIED


def cell(key: str, value: Any) -> str:
    """A figure; what is not good is bold."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        shown = "yes" if value else "no"
    elif isinstance(value, float):
        shown = f"{value:.2f}" if key == "loss_ratio" else f"{value:.0e}"
    else:
        shown = "refused" if value.startswith("refused") else value
    return shown if LIMITS[key](value) or shown == "refused" else f"**{shown}**"


def reasons(records: Sequence[Mapping[str, Any]]) -> str:
    """Why figures are missing and what is refused, each reason once with all its families."""
    families: dict[str, list[str]] = {}
    for record in records:
        texts = [f"{key} {record[key]}" for key in ("dci", "identifier") if str(record[key]).startswith("refused")]
        for text in [*record.get("why", "").split("; "), *texts]:
            if text:
                families.setdefault(text, []).append(record["name"])
    lines = [f"- {', '.join(names)}: {text}" for text, names in families.items()]
    return "\n## Reasons\n\n" + "\n".join(lines) + "\n" if lines else ""
