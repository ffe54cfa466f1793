// Shows the nodes' warnings as pop-ups: a warning that is only in the log is never read.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const SECONDS = 20;

function show({ detail }) {
  const title = app.graph?.getNodeById(detail.node)?.title ?? "Personalize";
  app.extensionManager.toast.add({ severity: "warn", summary: title, detail: detail.text, life: SECONDS * 1000 });
}

app.registerExtension({
  name: "personalize.warnings",
  setup: () => api.addEventListener("personalize.warning", show),
});
