// Shows the nodes' warnings as pop-ups: a warning that is only in the log is never read.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { titleOf } from "./nodes.js";

const SECONDS = 20;

function show({ detail }) {
  app.extensionManager.toast.add({ severity: "warn", summary: titleOf(detail.node), detail: detail.text, life: SECONDS * 1000 });
}

app.registerExtension({
  name: "personalize.warnings",
  setup: () => api.addEventListener("personalize.warning", show),
});
