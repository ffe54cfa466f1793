// The tab "Personalizations": the runs that are kept, and what can be done with them.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { ask } from "./routes.js";
import { showComparison } from "./runs_compare.js";
import { say } from "./words.js";

const LOADER = "PersonalizeLoad";
const PATIENCE = 10_000; // milliseconds between two looks at what trains
const CHANGES = ["execution_start", "execution_success", "execution_error", "execution_interrupted"];

/** An element with properties and children; texts stay texts. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child != null));
  return element;
}

/** A run's thumbnail, fetched as the user who asks; where it does not come its place stays empty. */
export function thumbnail(run) {
  const picture = make("img", { alt: "", className: "pz-thumbnail" });
  if (run.thumbnail) {
    api.fetchApi(`/personalize/runs/${run.run}/thumbnail?of=${run.thumbnail}`).then(async (answer) => {
      if (!answer.ok) return;
      picture.onload = picture.onerror = () => URL.revokeObjectURL(picture.src);
      picture.src = URL.createObjectURL(await answer.blob());
    }).catch(() => {});
  }
  return picture;
}

export function size(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

export function date(seconds) {
  return new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

function toast(severity, detail) {
  app.extensionManager.toast.add({ severity, summary: say("Personalizations"), detail, life: 8000 });
}

/** Adds Load Personalization, set to a run or one of its steps, in the middle of what is seen. */
export function load(run, step) {
  const node = window.LiteGraph.createNode(LOADER);
  const widget = node.widgets.find((one) => one.name === "name");
  const name = step ? `${run.loads}, step ${step}` : run.loads;
  const values = widget.options.values;
  if (Array.isArray(values) && !values.includes(name)) values.push(name);
  widget.value = name;
  const [left, top, width, height] = app.canvas.visible_area;
  node.pos = [left + (width - node.size[0]) / 2, top + (height - node.size[1]) / 2];
  app.canvas.graph.add(node);
  app.canvas.selectNode(node);
  app.canvas.setDirty(true, true);
}

/** Opens the graph that asked for the run last. */
async function goOn(run) {
  const graph = await ask(`/runs/${run.run}/graph`);
  if (graph.workflow) await app.loadGraphData(graph.workflow, true, true, run.name);
  else await app.loadApiJson(graph.prompt, run.name);
}

/** The key that pressed a button is up again: the editor's questions take the release of Enter as their answer. */
async function released(event) {
  if (event.detail) return; // a mouse
  const isUp = new Promise((done) => addEventListener("keyup", () => setTimeout(done), { once: true }));
  await Promise.race([isUp, new Promise((done) => setTimeout(done, 400))]);
}

class RunsTab {
  constructor(element) {
    this.chosen = new Set();
    this.steps = new Map();
    this.filter = make("input", { type: "search", placeholder: say("Search"), ariaLabel: say("Search runs"), oninput: () => this.draw() });
    this.compare = make("button", { type: "button", onclick: () => this.doing(() => this.showChosen()) });
    this.list = make("ul", { className: "pz-runs", ariaLabel: say("Runs") });
    this.note = make("p", { className: "pz-note", role: "status" });
    const again = make("button", { type: "button", textContent: say("Refresh"), onclick: () => this.refresh() });
    element.classList.add("pz-tab");
    element.replaceChildren(make("style", { textContent: STYLE }),
      make("div", { className: "pz-bar" }, this.filter, again), this.note, this.list,
      make("div", { className: "pz-bar pz-foot" }, this.compare));
    this.element = element;
    this.listener = () => this.refresh();
    this.watcher = () => Date.now() - this.looked > PATIENCE && this.refresh();
    for (const event of CHANGES) api.addEventListener(event, this.listener);
    api.addEventListener("progress", this.watcher);
    this.refresh();
  }

  close() {
    for (const event of CHANGES) api.removeEventListener(event, this.listener);
    api.removeEventListener("progress", this.watcher);
  }

  async refresh() {
    if (!this.element.isConnected && this.runs) return;
    const look = this.looked = Date.now();
    await this.doing(async () => {
      const { runs, can_open } = await ask("/runs");
      if (look !== this.looked) return; // a later look, after a rename or a deletion, knows better
      if (JSON.stringify(runs) === JSON.stringify(this.runs)) return;
      Object.assign(this, { runs, canOpen: can_open });
      this.chosen = new Set(runs.map((run) => run.run).filter((id) => this.chosen.has(id)));
      this.draw();
    });
  }

  /** Does something; why it could not be done is told. */
  async doing(work) {
    try {
      await work();
    } catch (error) {
      toast("error", error.message);
    }
  }

  draw() {
    const runs = this.runs ?? [];
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = runs.filter((run) => {
      const text = [run.name, run.base_model, ...run.class_nouns, ...run.identifiers].join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    this.note.textContent = found.length ? "" : runs.length ? say("No run has these words.")
      : say("Nothing here yet: a run appears as soon as Personalize from Photos or Personalize Trainer starts it.");
    const focused = this.list.contains(document.activeElement) && document.activeElement.ariaLabel;
    this.list.replaceChildren(...found.map((run) => this.entry(run)));
    if (focused) [...this.list.querySelectorAll("[aria-label]")].find((one) => one.ariaLabel === focused)?.focus();
    this.drawCompare();
  }

  drawCompare() {
    this.compare.disabled = this.chosen.size !== 2;
    this.compare.textContent = this.chosen.size === 2 ? say("Compare the two") : say("Compare: tick two runs");
    this.compare.hidden = (this.runs ?? []).length < 2;
  }

  entry(run) {
    const about = [run.class_nouns.join(", "), run.base_model].filter(Boolean).join(" · ");
    const state = run.is_training ? `${say("trains now")} · ` : "";
    const facts = `${state}${say("{count} steps", { count: run.trained })} · ${size(run.size)} · ${date(run.modified)}`;
    const tick = make("input", { type: "checkbox", checked: this.chosen.has(run.run), ariaLabel: say("Compare {run}", { run: run.name }) });
    tick.onchange = () => {
      this.chosen[tick.checked ? "add" : "delete"](run.run);
      this.drawCompare();
    };
    return make("li", { className: "pz-run" }, make("label", { className: "pz-tick", title: say("Compare") }, tick),
      thumbnail(run),
      make("div", { className: "pz-about" }, make("strong", { textContent: run.name, title: run.name }),
        make("div", { textContent: about, title: about }), make("div", { className: "pz-facts", textContent: facts })),
      make("div", { className: "pz-actions" }, ...this.actions(run)));
  }

  actions(run) {
    const steps = run.steps.length > 1 ? make("select", { ariaLabel: say("Step of {run} to load", { run: run.name }) },
      make("option", { value: "", textContent: say("newest") }),
      ...run.steps.toReversed().map((step) => make("option", { value: step, textContent: say("step {step}", { step }) }))) : null;
    if (steps) {
      steps.value = this.steps.get(run.run) ?? "";
      steps.onchange = () => this.steps.set(run.run, steps.value);
    }
    const button = (text, does, title, off = false) => make("button", {
      type: "button", textContent: text, title, disabled: off, ariaLabel: `${text}: ${run.name}`,
      onclick: (event) => this.doing(async () => { await released(event); await does(); }) });
    const busy = run.is_training ? say("It trains at the moment.") : "";
    return [
      button(say("Load"), () => load(run, steps?.value),
        run.loads ? say("Add Load Personalization with it") : say("No result is kept yet."), !run.loads),
      steps,
      button(say("Go on"), () => goOn(run),
        run.has_graph ? say("Open the graph that trained it") : say("Its graph was not kept."), !run.has_graph),
      button(say("Rename"), () => this.rename(run), busy || say("Give it another name"), run.is_training),
      button(say("Delete"), () => this.remove(run), busy || say("Delete it with all its files"), run.is_training),
      this.canOpen ? button(say("Folder"), () => ask("/runs/open", { run: run.run }), say("Open its folder")) : null,
    ];
  }

  async rename(run) {
    const name = await app.extensionManager.dialog.prompt({
      title: say("Rename"), defaultValue: run.name,
      message: say("Graphs that load this run by its old name have to choose it again.") });
    if (name == null || name === run.name) return;
    const renamed = await ask("/runs/rename", { run: run.run, name });
    if (this.chosen.delete(run.run)) this.chosen.add(renamed.run);
    await this.refresh();
  }

  async remove(run) {
    const isSure = await app.extensionManager.dialog.confirm({
      title: say("Delete"), type: "delete", itemList: [run.name],
      message: say("Delete this run with all its files ({size})? They cannot be brought back.", { size: size(run.size) }) });
    if (!isSure) return;
    await ask("/runs/delete", { run: run.run });
    await this.refresh();
  }

  async showChosen() {
    const pair = this.runs.filter((run) => this.chosen.has(run.run));
    showComparison(await Promise.all(pair.map((run) => ask(`/runs/${run.run}`))));
  }
}

const STYLE = `
.pz-tab { display: flex; flex-direction: column; gap: 8px; height: 100%; padding: 10px; box-sizing: border-box; overflow: auto;
  color: var(--fg-color, #222); font-size: 13px; }
.pz-tab button, .pz-tab input[type=search], .pz-tab select { font: inherit; color: var(--input-text, #222); padding: 3px 8px;
  background: var(--comfy-input-bg, #eee); border: 1px solid var(--border-color, #888); border-radius: 5px; }
.pz-tab button { cursor: pointer; }
.pz-tab button:hover:not(:disabled) { filter: brightness(1.15); }
.pz-tab button:disabled { opacity: 0.55; cursor: default; }
.pz-tab :focus-visible, .pz-dialog :focus-visible { outline: 2px solid var(--p-primary-color, #2f8fff); outline-offset: 1px; }
.pz-bar { display: flex; gap: 6px; }
.pz-bar > input { flex: 1; min-width: 0; }
.pz-foot { position: sticky; bottom: 0; }
.pz-foot > button { flex: 1; }
.pz-note { margin: 0; }
.pz-note:empty { display: none; }
.pz-runs { list-style: none; margin: 0; padding: 0; display: flex; flex-direction: column; gap: 8px; flex: 1; }
.pz-run { display: grid; grid-template-columns: auto 112px minmax(0, 1fr); gap: 4px 8px; align-items: center; padding: 6px;
  border: 1px solid var(--border-color, #888); border-radius: 6px; background: var(--comfy-menu-bg, transparent); }
.pz-thumbnail { width: 112px; height: 56px; object-fit: contain; border-radius: 4px; background: var(--comfy-input-bg, #8884); }
.pz-about > * { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.pz-about > strong { display: block; }
.pz-about > .pz-facts { color: var(--descrip-text, #777); white-space: normal; }
.pz-actions { grid-column: 1 / -1; display: flex; flex-wrap: wrap; gap: 4px; }
.pz-tab .pz-actions > * { padding: 2px 6px; font-size: 12px; }
`;

let tab;
app.registerExtension({
  name: "personalize.runs",
  setup() {
    app.extensionManager.registerSidebarTab({
      id: "personalize.runs", icon: "pi pi-images", title: say("Personalizations"),
      tooltip: say("Personalizations: the runs that are kept"), type: "custom",
      render: (element) => { tab?.close(); tab = new RunsTab(element); },
      destroy: () => { tab?.close(); tab = undefined; },
    });
  },
});
