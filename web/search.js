// In the node search a trainer comes before its parts, and DCI Conditioning before the other nodes of DCI, where the
// editor ranks them alike: an alias makes a node be found, but its rank is by its name and by how often it is used.
import { app } from "../../scripts/app.js";

// Taken for so many uses among all; stock nodes that are in wide use have thousands.
export const USES = { PersonalizeTrainer: 2, PersonalizeFromPhotos: 1, DCIConditioning: 1 };

app.registerExtension({
  name: "personalize.search",
  beforeRegisterNodeDef(_nodeType, definition) {
    const uses = USES[definition.name];
    if (!uses) return;
    // [how the name matches, uses below zero, ...]; the smaller comes first
    definition.postProcessSearchScores = ([match, ...rest]) => [match, -uses, ...rest];
  },
});
