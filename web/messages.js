// Pop-ups for what went wrong and how to mend it, and for a run that was stopped: one for each, with a way to the node.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { findNode, showNode, titleOf } from "./nodes.js";
import { say } from "./words.js";

const SECONDS = 30;
const BANNER_SECONDS = 10; // for which ComfyUI's own "Job failed" is left out: a run that was stopped is kept
const OURS = /\.core\.(errors|store\.files)\.(InputError|TrainingDiverged|StorageError)$/;
const STYLE = `
#personalize-messages { position: fixed; left: 50%; bottom: 24px; transform: translateX(-50%); z-index: 3000; display: flex;
  flex-direction: column; gap: 8px; width: min(420px, calc(100vw - 32px)); pointer-events: none; }
.personalize-message { pointer-events: auto; padding: 12px 14px; border-radius: 8px; font: 14px/1.45 sans-serif;
  color: var(--input-text, #ddd); background: var(--comfy-menu-bg, #222); border: 1px solid var(--border-color, #555);
  border-left: 4px solid #d9534f; box-shadow: 0 4px 16px #0008; overflow-wrap: anywhere; }
.personalize-message.told { border-left-color: #4a90d9; }
.personalize-message h3 { margin: 0 0 4px; font-size: 14px; font-weight: 600; }
.personalize-message p { margin: 0 0 10px; white-space: pre-line; max-height: 40vh; overflow-y: auto; }
.personalize-message button { margin-right: 8px; padding: 4px 10px; border-radius: 6px; cursor: pointer; font: inherit;
  color: inherit; background: var(--comfy-input-bg, #333); border: 1px solid var(--border-color, #555); }
body.personalize-told [data-testid="queue-notification-banner"]:has([class*="circle-alert"]) { display: none; }
`;

function place() {
  const found = document.getElementById("personalize-messages");
  if (found) return found;
  document.head.append(Object.assign(document.createElement("style"), { textContent: STYLE }));
  const made = Object.assign(document.createElement("div"), { id: "personalize-messages" });
  document.body.append(made);
  return made;
}

function button(label, action) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: label });
  made.addEventListener("click", action);
  return made;
}

// A pop-up about a node. The same one is not shown twice; another about the same node takes its place.
export function showMessage(id, title, text, kind = "refused") {
  for (const old of document.querySelectorAll(".personalize-message"))
    if (old.dataset.node === String(id)) old.remove();
  const box = Object.assign(document.createElement("section"), { className: `personalize-message ${kind}` });
  box.dataset.node = id;
  box.setAttribute("role", kind === "told" ? "status" : "alert");
  box.append(Object.assign(document.createElement("h3"), { textContent: title }),
    Object.assign(document.createElement("p"), { textContent: text }));
  if (findNode(id)) box.append(button(say("Show node"), () => findNode(id) && showNode(findNode(id))));
  box.append(button(say("Close"), () => box.remove()));
  place().append(box);
  leaveOutBanner();
  if (kind === "told") setTimeout(() => box.remove(), SECONDS * 1000);
}

let banner;

function leaveOutBanner() {
  document.body.classList.add("personalize-told");
  clearTimeout(banner);
  banner = setTimeout(() => document.body.classList.remove("personalize-told"), BANNER_SECONDS * 1000);
}

export function clearMessages() {
  for (const old of document.querySelectorAll(".personalize-message")) old.remove();
}

// An input as the node shows it, a widget or a socket: "omega" is labelled "strength", in another language by its word.
function labelOf(id, name) {
  const node = findNode(id);
  const shown = [...(node?.widgets ?? []), ...(node?.inputs ?? [])].filter((input) => input.name === name);
  return shown.map((input) => input.label || input.localized_name).find(Boolean) ?? name; // a widget's, a socket's
}

// "resolution: got 90, expected ... Use 88." as the title's "Resolution", and the sentence.
function told(id, type, message) {
  const parts = /^([\w .]{1,60}): (got .*)$/s.exec(message.trim());
  return parts ? [`${titleOf(id, type)}: ${labelOf(id, parts[1])}`, parts[2].replace(/^g/, "G")] : [titleOf(id, type), message.trim()];
}

// ComfyUI's own stores, to take back its general notice where ours says what is wrong.
function store(name) {
  return document.getElementById("vue-app")?.__vue_app__?.config.globalProperties.$pinia?._s?.get(name);
}

function takeBackOthers() {
  store("executionError")?.dismissErrorOverlay?.();
  store("dialog")?.closeDialog?.({ key: "global-execution-error" });
}

// Before ComfyUI reads it: what it shows of ours has no path of the machine and says everything once.
function clean({ detail }) {
  if (!OURS.test(detail?.exception_type ?? "")) return;
  detail.personalize = true;
  detail.exception_type = detail.exception_type.split(".").pop();
  detail.exception_message = detail.exception_message.trim();
  detail.traceback = [];
}

function refused({ detail }) {
  if (!detail?.personalize) return;
  takeBackOthers();
  const [title, text] = told(detail.node_id, detail.node_type, detail.exception_message);
  showMessage(detail.node_id, title, text);
}

function stopped({ detail }) {
  showMessage(detail.node, titleOf(detail.node), detail.text, "told");
}

// A graph that is refused when it is queued: ComfyUI repeats a node's answer at every input that the node looked at.
function once(response) {
  let first;
  for (const [id, { class_type, errors }] of Object.entries(response?.node_errors ?? {})) {
    const own = errors.filter((error) => error.type === "custom_validation_failed");
    if (!app.graph || !isOurs(class_type) || !own.length) continue;
    const sentence = own[0].details.replace(/^\S+ - /, "");
    for (const error of own.slice(1)) errors.splice(errors.indexOf(error), 1);
    own[0].message = sentence;
    own[0].details = "";
    first ??= [id, class_type, sentence];
  }
  return first;
}

function isOurs(type) {
  return (globalThis.LiteGraph?.registered_node_types?.[type]?.nodeData?.category ?? "").startsWith("personalize");
}

function watchQueue() {
  const queue = api.queuePrompt;
  api.queuePrompt = async function (...given) {
    clearMessages(); // before: a short graph fails sooner than the server has answered
    try {
      return await queue.apply(this, given);
    } catch (error) {
      const first = once(error?.response);
      if (first) {
        const [id, type, sentence] = first;
        setTimeout(() => { takeBackOthers(); showMessage(id, ...told(id, type, sentence)); });
      }
      throw error;
    }
  };
}

app.registerExtension({
  name: "personalize.messages",
  setup() {
    api.addEventListener("execution_error", clean, { capture: true });
    api.addEventListener("execution_error", refused);
    api.addEventListener("personalize.stopped", stopped);
    watchQueue();
  },
});
