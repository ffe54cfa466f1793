// While a node trains: the loss as a chart of the node's width, and buttons that ask the run for a picture or a pause.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { findNode } from "./nodes.js";
import { showMessage } from "./messages.js";
import { ask } from "./routes.js";
import { say } from "./words.js";

const [WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM] = [300, 160, 38, 10, 8, 22];
const asked = (action) => (action === "draw" ? say("Drawing…") : say("Pausing…"));
const PANEL_HEIGHT = 220;
const STYLE = `
.personalize-training { display: flex; flex-direction: column; gap: 6px; box-sizing: border-box; width: 100%;
  height: 100%; padding: 4px; overflow: hidden; color: var(--input-text, #ddd); }
.personalize-training svg { flex: 1; min-height: 0; width: 100%; border-radius: 6px; font: 11px sans-serif;
  background: var(--comfy-input-bg, #222); }
.personalize-training text { fill: currentColor; }
.personalize-training .axis { stroke: currentColor; opacity: .35; fill: none; }
.personalize-training .loss { fill: currentColor; opacity: .45; }
.personalize-training .mean { stroke: #4a90d9; stroke-width: 2; fill: none; }
.personalize-training .held-out { stroke: #e0913a; stroke-width: 1.5; fill: none; }
.personalize-training .held-out-point, .personalize-training .held-out-text { fill: #e0913a; }
.personalize-training div { display: flex; gap: 6px; }
.personalize-training button { flex: 1; padding: 4px 8px; border-radius: 6px; cursor: pointer; font: 13px sans-serif;
  color: inherit; background: var(--comfy-input-bg, #333); border: 1px solid var(--border-color, #555); }
.personalize-training button:disabled { cursor: default; opacity: .5; }
`;

function svg(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// The chart: each step's loss as a dot, their running mean as a line, held-out photos as squares.
export function draw({ losses = [], means = [], validation = [] }) {
  const last = Math.max(losses.at(-1)?.[0] ?? 0, validation.at(-1)?.[0] ?? 0, 1);
  const top = Math.max(...losses.map(([, loss]) => loss), ...validation.map(([, loss]) => loss), 1e-12);
  const x = (step) => LEFT + ((WIDTH - LEFT - RIGHT) * step) / last;
  const y = (loss) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * loss) / top;
  const line = (points) => points.map(([step, loss]) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`).join(" ");
  const made = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  const now = means.at(-1)?.[1];
  made.append(svg("title", {}, now === undefined ? say("Loss")
    : say("Loss {loss} at step {step}", { loss: now.toPrecision(3), step: means.at(-1)[0] })));
  for (const part of [0, 0.5, 1]) {
    made.append(svg("path", { class: "axis", d: `M${LEFT} ${y(top * part)}H${WIDTH - RIGHT}` }),
      svg("text", { x: LEFT - 5, y: y(top * part) + 4, "text-anchor": "end" }, part ? (top * part).toPrecision(2) : "0"));
  }
  made.append(svg("text", { x: LEFT, y: HEIGHT - 7 }, "0"),
    svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 7, "text-anchor": "end" }, say("step {step}", { step: last })));
  for (const [step, loss] of losses) made.append(svg("circle", { class: "loss", cx: x(step), cy: y(loss), r: 1.5 }));
  made.append(svg("polyline", { class: "mean", points: line(means) }));
  made.append(svg("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 7, "text-anchor": "middle" }, say("loss")));
  if (validation.length) {
    made.append(svg("polyline", { class: "held-out", points: line(validation) }));
    for (const [step, loss] of validation)
      made.append(svg("rect", { class: "held-out-point", x: x(step) - 3, y: y(loss) - 3, width: 6, height: 6 }));
    made.append(svg("text", { class: "held-out-text", x: WIDTH - RIGHT, y: TOP + 10, "text-anchor": "end" },
      say("held-out photos {loss}", { loss: validation.at(-1)[1].toPrecision(3) })));
  }
  return made;
}

class Panel {
  constructor(node) {
    this.node = node;
    this.run = null;
    this.element = Object.assign(document.createElement("section"), { className: "personalize-training" });
    this.chart = draw({});
    this.buttons = document.createElement("div");
    this.drawNow = this.button(say("Draw now"), "draw");
    this.pause = this.button(say("Pause after this step"), "pause");
    this.element.append(this.chart, this.buttons);
    const widget = node.addDOMWidget("training", "personalize_training", this.element,
      { serialize: false, getMinHeight: () => PANEL_HEIGHT, getMaxHeight: () => PANEL_HEIGHT });
    widget.serialize = false;
    const [width, height] = node.computeSize();
    node.setSize([Math.max(width, node.size[0]), Math.max(height, node.size[1])]);
  }

  button(label, action) {
    const made = Object.assign(document.createElement("button"), { type: "button", textContent: label, disabled: true });
    made.addEventListener("click", () => this.press(action, made));
    this.buttons.append(made);
    return made;
  }

  // What was not taken can be pressed again.
  async press(action, pressed) {
    const label = pressed.textContent;
    Object.assign(pressed, { disabled: true, textContent: asked(action) });
    try {
      await ask(`/training/${action}`, { run: this.run });
    } catch (error) {
      Object.assign(pressed, { disabled: !this.run, textContent: label });
      showMessage(this.node.id, this.node.title, error.message);
    }
  }

  show(detail) {
    if (detail.chart) {
      const drawn = draw(detail.chart);
      this.chart.replaceWith(drawn);
      this.chart = drawn;
    }
    this.run = detail.ended ? null : detail.run;
    this.buttons.style.display = this.run ? "" : "none";
    this.drawNow.hidden = !detail.draws;
    this.drawNow.disabled = !this.run || Boolean(detail.drawing);
    this.drawNow.textContent = detail.drawing ? asked("draw") : say("Draw now");
    this.pause.disabled = !this.run || Boolean(detail.pausing);
    this.pause.textContent = detail.pausing ? asked("pause") : say("Pause after this step");
  }
}

const panels = new WeakMap();

function panelOf(node) {
  if (!panels.has(node)) panels.set(node, new Panel(node));
  return panels.get(node);
}

// A node of ours: another workflow in this tab may have a stranger's node of the same id.
function isOurs(node) {
  return (node?.constructor.nodeData?.category ?? "").startsWith("personalize");
}

function training({ detail }) {
  const node = findNode(detail.node);
  if (!isOurs(node) || (detail.ended && !panels.has(node))) return;
  panelOf(node).show(detail);
}

app.registerExtension({
  name: "personalize.training",
  setup() {
    document.head.append(Object.assign(document.createElement("style"), { textContent: STYLE }));
    api.addEventListener("personalize.training", training);
  },
  nodeCreated(node) {
    if (!isOurs(node)) return;
    const executed = node.onExecuted;
    node.onExecuted = function (output) {
      executed?.apply(this, arguments);
      const chart = output?.personalize_chart?.[0];
      if (chart?.losses.length) panelOf(this).show({ chart, ended: true });
    };
  },
});
