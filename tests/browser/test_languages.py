"""The editor in Chinese: our nodes, tooltips, tab, buttons and help speak it."""

from __future__ import annotations

import pytest

from comfyui_personalize.tools.browser import MINUTE

STORE = "document.getElementById('vue-app').__vue_app__.config.globalProperties"

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def server(own_server):
    """The language is kept on the server."""
    return own_server


@pytest.fixture(scope="module")
def page(page):
    """The editor in Chinese."""
    page.evaluate("() => window.app.ui.settings.setSettingValueAsync('Comfy.Locale', 'zh')")
    page.reload()
    page.get_by_role("button", name="模板").first.wait_for()
    return page


def test_a_node_is_shown_with_its_chinese_names(page, screenshots):
    made = page.evaluate("""() => {
        const node = window.LiteGraph.createNode('PersonalizeFromPhotos');
        window.app.graph.add(node);
        return [node.title, ...node.widgets.map(widget => widget.label ?? widget.name), node.inputs[0].localized_name,
                node.outputs[4].localized_name];
    }""")
    page.wait_for_timeout(1000)
    page.screenshot(path=screenshots / "chinese.png")
    assert made[0] == "从照片个性化" and {"照片", "是什么", "力度", "步数", "选择照片", "模型"} <= set(made)


def test_a_mistake_is_told_by_the_sockets_name_on_the_screen(page):
    graph = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "pocket.safetensors"}},
             "2": {"class_type": "PersonalizePromptWithSubject", "inputs": {
                 "clip": ["1", 1], "prompt": "a {V} {noun}"}},
             "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 1]}}}
    page.evaluate("graph => window.app.loadApiJson(graph, 'mistake')", graph)
    page.evaluate("() => { window.app.queuePrompt(0, 1); }")
    told = page.locator(".personalize-message h3")
    told.wait_for(timeout=2 * MINUTE)
    assert told.inner_text() == "带主体的提示词: 个性化"


def test_the_tab_of_runs_is_chinese(page):
    tab = page.get_by_role("button", name="个性化").first
    tab.click()
    page.get_by_role("button", name="刷新").wait_for(timeout=MINUTE)
    page.get_by_text("这里还是空的").wait_for(timeout=MINUTE)


def test_braces_in_a_description_are_shown(page):
    description = page.evaluate(
        f"{STORE}.$pinia._s.get('nodeDef').nodeDefsByName.PersonalizePromptWithSubject.description")
    assert description.startswith("编码提示词，其中 {V} 换成代表主体的词")


def test_a_chinese_word_and_an_english_one_find_the_node(page):
    search = f"""query => {STORE}.$pinia._s.get('nodeDef').nodeSearchService
        .searchNode(query, [], {{ limit: 64 }})[0].name"""
    assert page.evaluate(search, "个性化训练器") == page.evaluate(search, "lora training") == "PersonalizeTrainer"


@pytest.mark.parametrize("node_id", ["PersonalizeFromPhotos", "PersonalizePromptWithSubject"])
def test_the_help_of_the_first_templates_nodes_is_chinese(page, node_id):
    help_page = page.evaluate("""async id => {
        const folder = window.LiteGraph.registered_node_types[id].nodeData.python_module.split('.')[1];
        return (await fetch(`/extensions/${folder}/docs/${id}/zh.md`)).text();
    }""", node_id)
    assert "主体" in help_page
