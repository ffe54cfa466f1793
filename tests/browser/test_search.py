"""The editor's own node search, asked as its search box asks it: what it finds first."""

from __future__ import annotations

import pytest

SEARCH = """query => document.getElementById('vue-app').__vue_app__.config.globalProperties.$pinia._s.get('nodeDef')
    .nodeSearchService.searchNode(query, [], { limit: 64 }).map(found => [found.name, found.python_module])"""

pytestmark = pytest.mark.full


@pytest.mark.parametrize(("query", "first"), [
    *((query, "PersonalizeTrainer") for query in
      ("lora training", "dreambooth", "train my face", "personalize", "fine-tune")),
    ("dci", "DCIConditioning")])
def test_the_node_that_is_meant_is_found_first(page, query, first):
    assert page.evaluate(SEARCH, query)[0][0] == first


def test_of_our_nodes_the_trainer_is_first_for_train_lora(page):
    """A stock node has that very name."""
    found = page.evaluate(SEARCH, "train lora")
    ours = [name for name, module in found if module.startswith("custom_nodes.")]
    assert found[0][0] == "TrainLoraNode" and ours[0] == "PersonalizeTrainer"


def test_stock_nodes_stay_first_for_their_own_words(page):
    for query in ("clip text encode", "load lora", "lora", "train", "ksampler"):
        assert not page.evaluate(SEARCH, query)[0][1].startswith("custom_nodes."), query
