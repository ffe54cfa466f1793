// Finds nodes, also inside subgraphs, and shows one to the user.
import { app } from "../../scripts/app.js";

// The node of an execution id, "5" or "12:5" inside the subgraph node 12; undefined where it is not in this workflow.
export function findNode(id) {
  let graph = app.rootGraph ?? app.graph;
  let node;
  for (const part of String(id ?? "").split(":")) {
    node = graph?.getNodeById(part) ?? graph?.getNodeById(Number(part));
    graph = node?.subgraph;
  }
  return node ?? undefined;
}

// What the node of an execution id is called.
export function titleOf(id, otherwise = "Personalize") {
  return findNode(id)?.title ?? otherwise;
}

// Opens the graph that the node is in, selects the node and brings it to the middle of the view.
export function showNode(node) {
  const canvas = app.canvas;
  if (canvas.graph !== node.graph) canvas.setGraph(node.graph);
  canvas.deselectAll();
  canvas.selectNode(node);
  canvas.centerOnNode(node);
  canvas.setDirty(true, true);
}
