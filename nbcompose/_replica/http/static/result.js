// Results and errors, as a notebook shows them.

/** @import { Bundle } from "./types.d.ts" */

import { h } from "./elements.js";

const MOST_ROWS = 500; // of one list or object of a JSON tree

/** A mime bundle as a notebook shows it. @param {Bundle} bundle @returns {HTMLElement} */
export function shown(bundle) {
  for (const kind of /** @type {const} */ (["image/png", "image/jpeg"])) {
    if (bundle[kind])
      return h("img.nbc-image", {
        src: `data:${kind};base64,${bundle[kind]}`,
        alt: bundle["text/plain"] ?? "the result",
      });
  }
  if (bundle["image/svg+xml"]) {
    return h("img.nbc-image", {
      src: `data:image/svg+xml;utf8,${encodeURIComponent(bundle["image/svg+xml"])}`,
      alt: "the result",
    });
  }
  const tree = bundle["application/json"];
  if (tree !== null && typeof tree === "object") return h("div.nbc-tree", {}, jsonTree(tree, 0));
  return h("pre.nbc-text", {}, bundle["text/plain"] ?? "");
}

/** @param {any} value @param {number} depth @returns {HTMLElement} */
function jsonTree(value, depth) {
  if (value === null || typeof value !== "object") {
    return h(`span.nbc-json-${value === null ? "null" : typeof value}`, {}, JSON.stringify(value));
  }
  const entries = Object.entries(value);
  const list = Array.isArray(value);
  const summary = h("summary", {}, list ? `[${entries.length}]` : `{${entries.length}}`);
  const details = h("details", { open: depth < 2 && entries.length <= 100 }, summary);
  const fill = () => {
    if (details.childElementCount > 1) return;
    /** @param {[string, any]} entry */
    const row = ([key, v]) => h("div.nbc-row", {}, h("span.nbc-key", {}, key), " ", jsonTree(v, depth + 1));
    const rows = entries.slice(0, MOST_ROWS).map(row);
    details.append(
      h("div.nbc-rows", {}, ...rows, entries.length > MOST_ROWS ? `… ${entries.length - MOST_ROWS} more` : null),
    );
  };
  if (details.open) fill();
  details.addEventListener("toggle", () => details.open && fill());
  return details;
}

/** @param {{name: string, message: string, traceback?: string}} message */
export function failure(message) {
  /** @type {HTMLElement[]} */
  const parts = [h("div.nbc-error", {}, h("b", {}, message.name), `: ${message.message}`)];
  if (message.traceback)
    parts.push(h("pre.nbc-traceback", { tabindex: "0", "aria-label": "traceback" }, message.traceback));
  return parts;
}
