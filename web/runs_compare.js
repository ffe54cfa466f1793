// Two runs side by side: what they show, how their loss went, and where their settings differ.
import { date, make, size, thumbnail } from "./runs.js";
import { say } from "./words.js";

const [WIDTH, HEIGHT] = [320, 110];
const SVG = "http://www.w3.org/2000/svg";

/** A dialog over the editor; Escape closes it. */
export function showComparison(runs) {
  const close = make("button", { type: "button", textContent: say("Close") });
  const top = Math.max(...runs.flatMap((run) => run.losses), 1e-12);
  const dialog = make("dialog", { className: "pz-dialog", ariaLabel: say("Compare {one} and {other}", { one: runs[0].name, other: runs[1].name }) },
    make("style", { textContent: STYLE }), close,
    make("div", { className: "pz-pair" }, ...runs.map((run) => card(run, top))), ...tables(runs));
  close.onclick = () => dialog.close();
  dialog.onkeydown = (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation(); // the editor would take it
    dialog.close();
  };
  dialog.onclose = () => dialog.remove();
  document.body.append(dialog);
  dialog.showModal();
}

function card(run, top) {
  return make("figure", {}, make("figcaption", {}, make("strong", { textContent: run.name })), thumbnail(run), curve(run.losses, top));
}

/** The loss of a run on the scale of both. */
function curve(losses, top) {
  if (!losses.length) return make("p", { textContent: say("Its losses are not known.") });
  const points = losses.map((loss, number) =>
    `${((number + 0.5) / losses.length * WIDTH).toFixed(1)},${(HEIGHT * (1 - loss / top)).toFixed(1)}`);
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", say("loss from {first} to {last}", { first: losses[0].toPrecision(3), last: losses.at(-1).toPrecision(3) }));
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", points.join(" "));
  picture.append(line);
  return make("div", {}, picture, make("div", { textContent: say("loss {first} → {last}", { first: losses[0].toPrecision(3), last: losses.at(-1).toPrecision(3) }) }));
}

/** What differs, and folded away what does not. */
function tables(runs) {
  const facts = runs.map((run) => ({
    [say("class noun")]: run.class_nouns.join(", "), [say("identifier")]: run.identifiers.join(", "), [say("base model")]: run.base_model,
    [say("steps trained")]: run.trained, [say("kept steps")]: run.steps.join(", "), [say("size")]: size(run.size), [say("changed")]: date(run.modified),
    ...run.settings }));
  const names = [...new Set(facts.flatMap(Object.keys))].filter((name) => name !== "steps");
  const rows = names.map((name) => [name, ...facts.map((fact) => String(fact[name] ?? "") || "–")]);
  const same = rows.filter((row) => row[1] === row[2]);
  return [table(runs, rows.filter((row) => row[1] !== row[2]), "pz-differs"),
    make("details", {}, make("summary", { textContent: say("{count} settings are the same", { count: same.length }) }), table(runs, same, ""))];
}

function table(runs, rows, className) {
  const head = make("tr", {}, make("td"), ...runs.map((run) => make("th", { scope: "col", textContent: run.name })));
  return make("table", { className }, make("thead", {}, head), make("tbody", {}, ...rows.map(([name, ...values]) =>
    make("tr", {}, make("th", { scope: "row", textContent: name.replaceAll("_", " ") }),
      ...values.map((value) => make("td", { textContent: value }))))));
}

const STYLE = `
.pz-dialog { width: min(860px, 92vw); max-height: 88vh; overflow: auto; padding: 16px; border: 1px solid var(--border-color, #888);
  border-radius: 8px; color: var(--fg-color, #222); background: var(--comfy-menu-bg, #fff); font-size: 13px; margin: auto; }
.pz-dialog::backdrop { background: #0008; }
.pz-pair { display: grid; clear: both; grid-template-columns: 1fr 1fr; gap: 16px; }
.pz-pair figure { margin: 0; display: flex; flex-direction: column; gap: 6px; min-width: 0; }
.pz-pair .pz-thumbnail { width: 100%; height: 160px; object-fit: contain; background: var(--comfy-input-bg, #8884); border-radius: 4px; }
.pz-pair svg { width: 100%; background: var(--comfy-input-bg, #8882); border-radius: 4px; }
.pz-pair polyline { fill: none; stroke: var(--p-primary-color, #2f8fff); stroke-width: 2; }
.pz-dialog table { width: 100%; margin: 12px 0; border-collapse: collapse; table-layout: fixed; }
.pz-dialog th, .pz-dialog td { text-align: left; padding: 3px 6px; border-bottom: 1px solid var(--border-color, #8886);
  overflow-wrap: anywhere; vertical-align: top; font-weight: normal; }
.pz-dialog thead th { font-weight: bold; }
.pz-dialog summary { cursor: pointer; }
.pz-dialog > button { position: sticky; top: 0; float: right; font: inherit; padding: 4px 14px; color: var(--input-text, #222); background: var(--comfy-input-bg, #eee);
  border: 1px solid var(--border-color, #888); border-radius: 5px; cursor: pointer; }
`;
