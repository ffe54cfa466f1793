"""A file in parts small enough to be carried one by one, and put together again, checked by their digest.

    python -m pocket.parts split .pocket/pocket.state OUT
    python -m pocket.parts join OUT ../pocket.state
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Final

PART_BYTES: Final = 12 * 10**6


def split(file: Path, folder: Path) -> list[Path]:
    """Writes NAME.00, NAME.01, ... and NAME.sha256 into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    data = file.read_bytes()
    parts = []
    for number, start in enumerate(range(0, len(data), PART_BYTES)):
        parts.append(folder / f"{file.name}.{number:02d}")
        parts[-1].write_bytes(data[start:start + PART_BYTES])
    (folder / f"{file.name}.sha256").write_text(hashlib.sha256(data).hexdigest() + "\n")
    return parts


def join(folder: Path, file: Path) -> None:
    """Puts the parts of the folder's one split file together.

    Raises:
        ValueError: there is none, there are several, or a part is missing or damaged.
    """
    digests = sorted(folder.glob("*.sha256"))
    if len(digests) != 1:
        raise ValueError(f"parts: got {len(digests)} files *.sha256 in {folder}, expected one")
    parts = sorted(folder.glob(f"{digests[0].stem}.[0-9][0-9]"))
    data = b"".join(part.read_bytes() for part in parts)
    if hashlib.sha256(data).hexdigest() != digests[0].read_text().strip():
        raise ValueError(f"parts: got {len(parts)} parts in {folder} of another digest; fetch them again")
    part = file.with_suffix(".part")
    part.write_bytes(data)
    part.replace(file)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=("split", "join"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    (split if given.action == "split" else join)(given.source, given.target)


if __name__ == "__main__":
    main()
