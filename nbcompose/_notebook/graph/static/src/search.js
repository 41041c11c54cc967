// Search for services by name.

import { h } from "../../../../_replica/http/static/elements.js";
import { hits, hitWords } from "./hits.js";

const FROM = 10; // services: fewer are found by looking

/**
 * `mark`: the services that are found; null: none is looked for. `go`: the one that was gone to.
 *
 * @param {(names: Set<string> | null) => void} mark
 * @param {(name: string) => void} go
 */
export function search(mark, go) {
  const field = h("input.nbc-input.nbc-find", {
    type: "search",
    placeholder: "find a service",
    "aria-label": "find a service",
  });
  const said = h("span.nbc-note", { role: "status" });
  const element = h("span.nbc-search", { hidden: true }, field, said);
  /** @type {string[]} */
  let names = [];
  /** @type {string[]} */
  let found = [];
  let at = -1;

  function find() {
    found = hits(names, field.value);
    said.textContent = field.value.trim() ? hitWords(found, at) : "";
    mark(field.value.trim() ? new Set(found) : null);
  }

  field.addEventListener("input", () => {
    at = -1;
    find();
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && found.length) {
      const back = event.shiftKey ? -1 : 1;
      at = at < 0 && back < 0 ? found.length - 1 : (at + back + found.length) % found.length;
      said.textContent = hitWords(found, at);
      go(found[at]);
    } else if (event.key === "Escape" && field.value) {
      field.value = "";
      at = -1;
      find();
    } else return;
    event.preventDefault();
  });
  return {
    element,
    /** @param {string[]} now */
    update(now) {
      element.hidden = now.length < FROM;
      if (now.join() === names.join()) return;
      names = now;
      at = -1;
      if (field.value) find();
    },
    focus() {
      if (!element.hidden) field.focus();
    },
  };
}
