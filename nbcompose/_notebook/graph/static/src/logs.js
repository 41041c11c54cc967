// The Logs tab of a service.

/** @import { Kernel, Tab } from "./types.d.ts" */

import { h } from "../../../../_replica/http/static/elements.js";

/** The last lines, followed; a filter. @param {Kernel} kernel @param {string} name @returns {Tab} */
export function logsTab(kernel, name) {
  const filter = h("input.nbc-input", { type: "search", placeholder: "filter", "aria-label": "filter the lines" });
  const text = h("pre.nbc-logs", { tabindex: "0", "aria-label": `what ${name} wrote` });
  const element = h("div.nbc-tab-body", {}, filter, text);
  /** @type {string[]} */
  let lines = [];
  const ask = () => kernel.send({ type: "logs", service: name, lines: 500 });

  function show() {
    const wanted = filter.value.toLowerCase();
    const found = wanted ? lines.filter((line) => line.toLowerCase().includes(wanted)) : lines;
    const follows = text.scrollTop + text.clientHeight >= text.scrollHeight - 8;
    const now = found.join("\n") || (lines.length ? "No matching lines." : "It has written nothing.");
    if (text.textContent === now) return;
    text.textContent = now;
    if (follows) text.scrollTop = text.scrollHeight;
  }

  filter.addEventListener("input", show);
  ask();
  return {
    element,
    update() {},
    hear(message) {
      if (message.type !== "logs" || message.service !== name) return;
      lines = message.lines;
      show();
    },
    tick: ask,
    close() {},
  };
}
