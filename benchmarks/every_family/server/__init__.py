"""Families through the real server: small files in the form that users have, loaded by the stock loader nodes, from
photos to pictures and back from the saved file.

`forms.py` says in which files a family comes, `files.py` writes them, `shrunk/` is the one custom node of that server,
`graphs.py` are the prompts, `journey.py` runs them and measures, `section.py` tells it in docs/families.md.
"""

from pathlib import Path

SHRUNK = Path(__file__).with_name("shrunk")
"""The custom node, for the server's folder custom_nodes."""
