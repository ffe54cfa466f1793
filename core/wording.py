"""Texts as they enter: without what nobody can see, and when two of them are the same word."""

from __future__ import annotations

import re
import unicodedata

import regex

from .errors import require

# Unicode's Default_Ignorable_Code_Point, and two more that show nothing: annotations and the place of a pasted object.
_INVISIBLE = r"[\p{Default_Ignorable_Code_Point}\ufff9-\ufffc]"
# What belongs to the character beside it: emoji sequences (UTS 51), joiners of Arabic and Indic scripts (RFC 5892, A).
_PICTURE = r"\p{Extended_Pictographic}"
_JOINED = "|".join((
    r"(?<=[0-9#*])\ufe0f(?=\u20e3)",
    rf"(?<={_PICTURE})[\ufe0e\ufe0f]",
    rf"(?<={_PICTURE}\p{{Emoji_Modifier}}?\ufe0f?)\u200d(?={_PICTURE})",
    r"(?<=\U0001f3f4)[\U000e0020-\U000e007e]+\U000e007f",
    r"(?<=\p{Canonical_Combining_Class=9})[\u200c\u200d]",
    r"\u200d(?=\p{Canonical_Combining_Class=9})",
    r"(?<=[\p{Joining_Type=L}\p{Joining_Type=D}])\u200c(?=[\p{Joining_Type=R}\p{Joining_Type=D}])",
))
_UNSEEN = regex.compile(rf"({_JOINED})|{_INVISIBLE}")
_SPACE = regex.compile(r"\p{Zs}")
_BROKEN = regex.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\p{Noncharacter_Code_Point}]")
_NAMELESS = re.compile(r"(?<!\w)embedding:(?=[\s,:()\[<\\]|$)")


def require_text(name: str, value: object) -> None:
    """Raise `InputError` for a value that is no text: over the API a choice may be anything, and a text may hold halves
    of characters that no file name and no message can hold."""
    require(isinstance(value, str), name, repr(value), "a text", "Choose one of the widget's values.")
    require(str(value).encode("utf-8", "replace").decode() == value, name, ascii(value), "a text of whole characters",
            "Type it again.")


def clean_text(text: str, name: str) -> str:
    """The text without invisible characters, with plain spaces, in Unicode's composed form (NFC).

    Byte-order marks, zero-width characters, soft hyphens and marks of direction are gone: a text encoder reads each as
    up to three junk tokens. Joiners and variation selectors stay inside emoji, which CLIP knows as tokens of their own,
    and between letters that they shape (Persian, Hindi). Width and case stay as they are; lines stay lines. NFC is what
    CLIP's tokenizer makes of every text.

    Args:
        text: as typed, linked or read from a file.
        name: the input as the user knows it.

    Raises:
        InputError: for control characters and halves of characters (lone surrogates), which no text has.

    Source: Unicode's Default_Ignorable_Code_Point; UTS 51 (emoji sequences); RFC 5892, appendix A (joiners).
    """
    broken = _BROKEN.search(text)
    if broken is not None:
        place = broken.start()
        require(False, name, f"the character U+{ord(broken[0]):04X} after {ascii(text[max(0, place - 20) : place])}",
                "readable text", "Type it again, or save the file it came from as UTF-8.")
    if text.isascii():
        return text
    seen = _UNSEEN.sub(lambda match: match[1] or "", _SPACE.sub(" ", unicodedata.normalize("NFC", text)))
    return text if seen == text else clean_text(seen, name)  # what is gone may have kept two marks apart


def clean_prompt(text: str, name: str) -> str:
    """`clean_text` for a text that is encoded.

    Raises:
        InputError: also for `embedding:` without a name, on which ComfyUI's tokenizer fails.
    """
    clean = clean_text(text, name)
    require(_NAMELESS.search(clean) is None, name, f"'embedding:' without a name in {clean!r}",
            "a file's or a learned word's name behind it", "Write for example embedding:my_subject, without a space.")
    return clean


def clean_prompts(**texts: str) -> list[str]:
    """`clean_prompt` of several inputs, by their names."""
    return [clean_prompt(text, name) for name, text in texts.items()]


def fold(text: str) -> str:
    """The text without differences of case, composition and white space: equal for what CLIP reads alike."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def word_pattern(*words: str) -> str:
    """A pattern for any of the words, the longest first: whole, with any white space between their parts."""
    found = (r"\s+".join(map(re.escape, word.split())) for word in sorted(words, key=len, reverse=True))
    return rf"(?<!\w)(?:{'|'.join(found)})(?!\w)"


def has_word(text: str, word: str) -> bool:
    """Whether a word stands in a text: in any case, and not as a part of a longer word."""
    return bool(spellings(text, word))


def spellings(text: str, word: str) -> list[str]:
    """How a text writes a word, as often as it stands there."""
    return re.findall(word_pattern(word), text, re.IGNORECASE)
