"""`make locales`: writes `locales/*/nodeDefs.json` and `main.json`, which ComfyUI serves to its editor.

English is what the nodes' schemas and the scripts in `web/` say; another language is a catalog in `tools/languages/`,
the English text as the key: so a text that is changed has no translation any more, and a test says so. The catalog has
sections, since a word may be a node, an input or an output, and a text:

- ``nodes``: display names,
- ``names``: inputs and outputs,
- ``texts``: descriptions and tooltips,
- ``words``: what the scripts say by ``say("...")``.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .comfyui_server import Server
from .install_comfyui import ROOT

LOCALES = ROOT / "locales"
LANGUAGES = ROOT / "tools" / "languages"
SECTIONS = ("nodes", "names", "texts", "words")
SAID = re.compile(r'\bsay\(\s*("(?:[^"\\]|\\.)*")')
SYNTAX = re.compile(r"[{}@%|]")
"""What vue-i18n reads as syntax in names and descriptions; it takes tooltips as they are."""

Catalog = Mapping[str, Mapping[str, str]]


class LanguageError(Exception):
    """A catalog that does not say what the schemas say."""


def inputs_of(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and options of every input, in the order of the node; the slots of an autogrowing one are name.prefix0 and
    so on."""
    for group in ("required", "optional"):
        for name, (_, *rest) in spec.get(group, {}).items():
            options = rest[0] if rest else {}
            yield name, options
            if template := options.get("template"):
                yield from slots_of(name, template)


def slots_of(name: str, template: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The slots that an autogrowing input may have."""
    (_, options), = (slot for group in template["input"].values() for slot in group.values())
    for number in range(template["max"]):
        slot = f"{template['prefix']}{number}"
        yield f"{name}.{slot}", {**options, "display_name": slot}


def outputs_of(node: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Index, name and tooltip of every output; one that is named by its type has no name, since the editor translates
    types itself."""
    tips = node["output_tooltips"] or [None] * len(node["output"])
    for index, (kind, name, tip) in enumerate(zip(node["output"], node["output_name"], tips, strict=True)):
        yield str(index), "" if name == kind else name, tip or ""


def escaped(text: str) -> str:
    """A text that vue-i18n shows as it is: ``{V}`` is ``{'{'}V{'}'}``."""
    return SYNTAX.sub(lambda found: f"{{'{found[0]}'}}", text)


def entry(name: str, tooltip: str) -> dict[str, str]:
    """An input or an output: name and tooltip, where it has one."""
    return {**({"name": escaped(name)} if name else {}), **({"tooltip": tooltip} if tooltip else {})}


class Translator:
    """Looks texts up in a catalog, and knows which were asked for. Without a catalog: English."""

    def __init__(self, catalog: Catalog | None = None) -> None:
        self.catalog = catalog
        self.asked: dict[str, dict[str, None]] = {section: {} for section in SECTIONS}

    def __call__(self, section: str, text: str) -> str:
        if not text:
            return ""
        self.asked[section][text] = None
        return text if self.catalog is None else self.catalog.get(section, {}).get(text, text)

    def name(self, name: str) -> str:
        """An input's or output's name; slots of one kind have one entry: image0, image1."""
        kind = name.rstrip("0123456789")
        return self("names", kind) + name[len(kind):]


def node_definitions(object_info: Mapping[str, Any], translate: Translator) -> dict[str, Any]:
    """What `nodeDefs.json` says of every node; dots in names are underscores there."""
    return {node_id: {
        "display_name": escaped(translate("nodes", node["display_name"])),
        "description": escaped(translate("texts", node["description"])),
        "inputs": {name.replace(".", "_"): entry(translate.name(options.get("display_name") or name),
                                                 translate("texts", options.get("tooltip") or ""))
                   for name, options in inputs_of(node["input"])},
        "outputs": {index: entry(translate.name(name), translate("texts", tip))
                    for index, name, tip in outputs_of(node)},
    } for node_id, node in sorted(object_info.items())}


def words_of_scripts() -> list[str]:
    """The texts that our scripts say."""
    return sorted({json.loads(text) for path in (ROOT / "web").glob("*.js")
                   for text in SAID.findall(path.read_text(encoding="utf-8"))})


def locale(object_info: Mapping[str, Any], catalog: Catalog | None = None) -> dict[str, Any]:
    """A language's files by their names.

    Raises:
        LanguageError: The catalog lacks texts, or has some that nothing says.
    """
    translate = Translator(catalog)
    files = {"nodeDefs.json": node_definitions(object_info, translate),
             "main.json": {"personalize": {"words": {text: translate("words", text) for text in words_of_scripts()}}}}
    if catalog is not None:
        check(catalog, translate.asked)
    return files


def check(catalog: Catalog, asked: Mapping[str, Mapping[str, None]]) -> None:
    """See `locale`."""
    lacks = [f"{section}: {text}" for section in SECTIONS for text in asked[section]
             if not catalog.get(section, {}).get(text)]
    stale = [f"{section}: {text}" for section in catalog for text in catalog[section]
             if text not in asked.get(section, {})]
    if lacks or stale:
        raise LanguageError("\n".join(["Translate in tools/languages, then run `make locales`.",
                                       *(f"lacks {text}" for text in lacks), *(f"stale {text}" for text in stale)]))


def catalogs() -> dict[str, Catalog | None]:
    """Every language's catalog; English needs none."""
    return {"en": None, **{path.stem: json.loads(path.read_text(encoding="utf-8"))
                           for path in sorted(LANGUAGES.glob("*.json"))}}


def as_text(content: Any) -> str:
    """A file's text: readable, and the same for the same content."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def our_nodes() -> dict[str, Any]:
    """What a server says of our nodes."""
    with tempfile.TemporaryDirectory() as base, Server(Path(base)) as server:
        return {name: node for name, node in server.client.object_info().items()
                if node["category"].startswith("personalize")}


def main() -> int:
    """Write every language; says what a catalog lacks."""
    object_info = our_nodes()
    for language, catalog in catalogs().items():
        try:
            files = locale(object_info, catalog)
        except LanguageError as error:
            print(f"{language}: {error}")
            return 1
        (LOCALES / language).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (LOCALES / language / name).write_text(as_text(content), encoding="utf-8")
            print(f"wrote locales/{language}/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
