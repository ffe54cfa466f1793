// "choose photos" on Personalize from Photos: several files at once, or dropped on the node, go into a new folder of the
// input folder, whose name is the widget's value; so a graph for the API holds plain text.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { say } from "./words.js";

const NODE = "PersonalizeFromPhotos";
const WIDGET = "photos";

function newFolder() {
  const now = new Date(Date.now() - new Date().getTimezoneOffset() * 60000);
  return `my_photos_${now.toISOString().slice(0, 19).replace("T", "_").replaceAll(":", "-")}`;
}

async function upload(file, folder) {
  const body = new FormData();
  body.append("image", file);
  body.append("subfolder", folder);
  body.append("type", "input");
  const answer = await api.fetchApi("/upload/image", { method: "POST", body });
  if (answer.status !== 200) throw new Error(`${file.name}: ${answer.status} ${answer.statusText}`);
}

async function take(node, files) {
  const photos = [...files].filter((file) => file.type.startsWith("image/"));
  if (!photos.length) return false;
  const folder = newFolder();
  const widget = node.widgets.find((found) => found.name === WIDGET);
  try {
    for (const photo of photos) await upload(photo, folder);
  } catch (error) {
    app.extensionManager.toast.add({ severity: "error", summary: say("Photos"), detail: error.message, life: 20000 });
    return true;
  }
  const values = widget.options.values;
  if (Array.isArray(values) && !values.includes(folder)) values.push(folder);
  widget.value = folder;
  widget.callback?.(folder);
  app.extensionManager.toast.add({
    severity: "success", summary: say("Photos"), detail: say("{count} photos in {folder}", { count: photos.length, folder }), life: 5000 });
  node.setDirtyCanvas?.(true, true);
  return true;
}

function choose(node) {
  const input = document.createElement("input");
  Object.assign(input, { type: "file", accept: "image/*", multiple: true });
  input.onchange = () => take(node, input.files);
  input.click();
}

app.registerExtension({
  name: "personalize.photos",
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const button = node.addWidget("button", "choose photos", null, () => choose(node), { serialize: false });
    button.serialize = false;
    button.label = say("choose photos");
    node.onDragOver = (event) => [...(event.dataTransfer?.items ?? [])].some((item) => item.kind === "file");
    node.onDragDrop = (event) => {
      const files = event.dataTransfer?.files ?? [];
      if (![...files].some((file) => file.type.startsWith("image/"))) return false;
      take(node, files);
      return true;
    };
  },
});
