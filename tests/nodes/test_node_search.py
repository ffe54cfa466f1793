"""The words that users search for are aliases of the schema: without one the editor's search never finds the node."""

from __future__ import annotations

import pytest

from comfyui_personalize.nodes import NODES

ALIASES = {node.define_schema().node_id: set(node.define_schema().search_aliases) for node in NODES}


@pytest.mark.parametrize("query", ["lora training", "train lora", "dreambooth", "train my face", "personalize",
                                   "fine-tune"])
def test_the_trainers_are_found_by_the_words_for_training(query):
    trainers = {"PersonalizeTrainer", "PersonalizeFromPhotos"}
    found = {node for node, aliases in ALIASES.items() if query in aliases}
    assert trainers <= found
    if query != "personalize":  # other nodes have it among several words, which ranks lower
        assert found == trainers


def test_dci_conditioning_is_found_by_dci():
    assert "dci" in ALIASES["DCIConditioning"]
