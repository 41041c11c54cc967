// What stands in the place of the picture while no service runs.

import { button, h } from "../../../../_replica/http/static/elements.js";
import { toClipboard } from "./copying.js";

/** @param {string} words what there is to say, and after an empty line the source of a cell */
export function emptyPicture(words) {
  const [text, example] = words.split("\n\n", 1).concat(words.split("\n\n").slice(1).join("\n\n"));
  const note = h("span.nbc-note", { role: "status" });
  const copy = button("Copy the cell", async () => {
    await toClipboard(example);
    note.textContent = "copied";
  });
  const cell = example ? [h("pre.nbc-example", { tabindex: "0" }, example), copy, note] : [];
  return h("div.nbc-empty", {}, h("div", {}, text), ...cell);
}
